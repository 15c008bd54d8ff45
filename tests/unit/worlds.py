# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Small fake hosts, written by the test that looks at them, and values where no file is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hosts.generate import generate

from devagent.discovery import Discovery, discover
from devagent.inventory.default_policy import DEFAULT
from devagent.inventory.policy import devices
from devagent.model.claim import Claim, Kind, Mode
from devagent.model.device import Decision, Device
from devagent.model.identity import Identity
from devagent.model.pci import Function, Sriov, VirtualFunction
from devagent.model.policy import Match, Policy, Rule
from devagent.model.snapshot import HostFacts, Problem, Snapshot
from devagent.registry import Registry, load
from devagent.sources import pci, roots
from devagent.sources.host import Directory

PCI = "sys/bus/pci/devices"
GPU, NIC, DISK, BRIDGE = "030200", "020000", "010802", "060400"


@dataclass(frozen=True)
class Link:
    """A symbolic link, where a file's content would stand."""

    target: str


World = Mapping[str, str | bytes | Link]


def write(top: Path, world: World) -> Path:
    """Writes files and links by path; a path that ends in a slash is an empty directory."""
    for name, content in world.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        elif isinstance(content, Link):
            path.symlink_to(content.target)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return top


def modalias(ids: str, class_code: str = GPU) -> str:
    """Gives the text of a function's modalias, in the kernel's spelling."""
    vendor, device = ids.upper().split(":")
    base, sub, interface = class_code[:2].upper(), class_code[2:4].upper(), class_code[4:].upper()
    return f"pci:v0000{vendor}d0000{device}sv00001028sd00000A1Bbc{base}sc{sub}i{interface}\n"


def identified(ids: str, class_code: str = GPU, driver: str = "") -> dict[str, str | Link]:
    """Gives what identifies a function: its modalias, and its driver if it has one."""
    files: dict[str, str | Link] = {"modalias": modalias(ids, class_code)}
    return files | ({"driver": Link(f"../../../bus/pci/drivers/{driver}")} if driver else {})


def scanned(top: Path, wanted: Iterable[str] | None = ()) -> tuple[dict[str, Function], list[str]]:
    """Scans the PCI functions alone, with the same `wanted` attributes of each; gives the problems in words."""
    functions, _, problems = scanned_with_unknown(top, wanted)
    return functions, problems


def scanned_with_unknown(
    top: Path, wanted: Iterable[str] | None = ()
) -> tuple[dict[str, Function], frozenset[str], list[str]]:
    """Does the same as `scanned`, and gives the addresses of unknown functions as well."""
    problems: list[Problem] = []
    patterns = None if wanted is None else frozenset(wanted)
    with Directory(top) as tree:
        functions, unknown = pci.scan(tree, lambda _: patterns, problems)
    return functions, unknown, [f"{problem.device}: {problem.problem}" for problem in problems]


def described(*on_bus: dict[str, Any] | str, **more: Any) -> dict[str, Any]:
    """Gives the description of a host with one root bus, 0000:3a on node 0."""
    buses = [{"bus": "0000:3a", "node": 0, "devices": list(on_bus)}]
    host = {"host": "h", "hostname": "h", "machine_id": "1", "boot_id": "2", "nodes": ["0-3", "4-7"], "pci": buses}
    return host | more


def port(*behind: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Gives the description of a root port or a switch's port with devices behind it."""
    return {"id": "8086:352a", "class": BRIDGE, "driver": "pcieport", "behind": list(behind)} | more


def look(top: Path, policy: Policy = DEFAULT, *, every: bool = False, registry: Registry | None = None) -> Discovery:
    """Discovers the host below `top`."""
    with roots.open_root(top) as tree:
        return discover(tree, registry or load(), policy, every=every)


def look_at(top: Path, *on_bus: dict[str, Any] | str, **more: Any) -> dict[str, Device]:
    """Generates a described host and gives its devices by address."""
    return {device.address: device for device in look(generate(described(*on_bus, **more), top / "h")).devices}


def function(address: str = "0000:3b:00.0", ids: str = "10de:20f1", class_code: str = GPU, **more: Any) -> Function:
    """Gives a function behind one root port, alone in its IOMMU group."""
    vendor, device = ids.split(":")
    defaults: dict[str, Any] = {
        "iommu_group": 7,
        "numa_node": 0,
        "root_bus": "pci0000:3a",
        "pcie_path": ("0000:3a:01.0",),
    }
    return Function(address, vendor, device, class_code, **defaults | more)


def pf(count: int, total: int = 8, **more: Any) -> list[Function]:
    """Gives a PF, 0000:3b:00.0, and its VFs 0000:3b:01.N, each in a group of its own."""
    vfs = [
        function(f"0000:3b:01.{index}", "15b3:101e", NIC, iommu_group=100 + index, physfn="0000:3b:00.0")
        for index in range(count)
    ]
    links = tuple(VirtualFunction(index, vf.address, vf.driver, vf.iommu_group) for index, vf in enumerate(vfs))
    defaults: dict[str, Any] = {"ids": "15b3:101d", "class_code": NIC, "sriov": Sriov(total, "101e", links)}
    return [function(**defaults | more), *vfs]


def claim(of: Function, kind: Kind = Kind.GPU, **more: Any) -> Claim:
    """Gives what a driver could say of a function: it can be given whole and by VFs."""
    defaults: dict[str, Any] = {"vendor": "V", "model": "M", "offers": {Mode.WHOLE: "PGPU", Mode.VF: "CUSTOM_VF"}}
    return Claim("fake", of.address, kind, **defaults | more)


def snapshot(*functions: Function, iommu: bool = True, host_use: Mapping[str, str] | None = None) -> Snapshot:
    """Gives a look at a host with these functions."""
    return Snapshot(HostFacts("h", iommu=iommu), {each.address: each for each in functions}, host_use or {})


def rule(mode: Mode | None = Mode.WHOLE, name: str = "r", **more: Any) -> Rule:
    """Gives a rule; keywords that a Match has are selectors."""
    selectors = {key: more.pop(key) for key in list(more) if key in Match.__dataclass_fields__}
    return Rule(name, Match(**selectors), mode, **more)


def decide(
    seen: Snapshot, *rules: Rule, claims: Iterable[Claim] | None = None, every: bool = False
) -> dict[str, Device]:
    """Applies rules to a look at a host and gives the devices by address.

    Without `claims` a driver claims every function that is neither a VF nor a bridge.
    """
    if claims is None:
        claims = [claim(each) for each in seen.functions.values() if not each.physfn and not each.is_bridge]
    by_address = {each.address: each for each in claims}
    found = devices(seen, by_address, Policy(rules, "test"), every=every)
    return {device.address: device for device in found}


def managed(of: Function, resource_class: str = "PGPU", total: int = 1, **more: Any) -> Device:
    """Gives a device that a rule gives away."""
    steps = (address.rpartition(":")[2] for address in (*of.pcie_path, of.address))
    identity = Identity("topology", "/".join((of.root_bus or "?", *steps)))
    decision = Decision(True, "given", "r", Mode.WHOLE, resource_class, total, more.pop("traits", frozenset()))
    return Device(of, more.pop("claim", claim(of)), identity, decision)
