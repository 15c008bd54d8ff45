# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads what a check-up of the host looks at besides its devices.

Other than discovery's, these reads may take their time: each driver_override of each VF, and sriov_numvfs,
which waits for the PF's lock and so is read apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from devagent.errors import Unreadable
from devagent.model.pci import is_address
from devagent.model.vitals import Module, Vitals
from devagent.sources.apart import Ask, Look, Outcome, look_apart
from devagent.sources.host import Tree
from devagent.sources.modules import FOLDERS
from devagent.sources.pci import DEVICES

MODULES: Final = ("vfio_pci", "vfio_iommu_type1", "iommufd")
GROUPS: Final = "sys/kernel/iommu_groups"
_TABLES: Final = "sys/firmware/acpi/tables"
_LIBRARY: Final = "libnvidia-ml.so"
_LIBRARIES: Final = (
    "usr/lib64",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib/x86_64-linux-gnu/nvidia/current",
    "usr/lib/aarch64-linux-gnu/nvidia/current",
    "usr/lib",
)
_NUM_VFS: Final = "sriov_numvfs"
_LIMIT: Final = 2.0

Value = TypeVar("Value")


def vitals(host: Tree, kernel: str | None, functions: Iterable[str], pfs: Iterable[str]) -> Vitals:
    """Gives what is so on `host`, with the overrides of `functions` and the VF counts of `pfs`; never raises."""
    unread: dict[str, str] = {}

    def careful(check: str, read: Callable[[], Value], otherwise: Value) -> Value:
        try:
            return read()
        except Unreadable as error:
            unread[check] = str(error)
            return otherwise

    line = careful("iommu", lambda: host.file("proc/cmdline"), None)
    cpu = careful("iommu", lambda: host.file("proc/cpuinfo", _cpu), None) or ""
    count = careful("iommu-groups", lambda: len(_group_names(host)) if host.has(GROUPS) else None, None)
    overrides = careful("driver-override", lambda: _overrides(host, functions), None)
    num_vfs, no_answer = _num_vfs(host, tuple(pfs), unread)
    return Vitals(
        machine=host.machine,
        kernel=kernel,
        command_line=None if line is None else tuple(line.split()),
        cpu=cpu.split()[0] if cpu else None,
        virtual="hypervisor" in cpu.split(),
        firmware_iommu=_firmware(host),
        groups=count,
        shared=careful("iommu-groups", lambda: _shared(host), {}),
        modules=careful("vfio", lambda: _modules(host, kernel), dict.fromkeys(MODULES)),
        nvidia_module=careful("nvidia", lambda: _nvidia_module(host), None),
        nvidia_library=careful("nvidia", lambda: _nvidia_library(host), None),
        overrides=overrides,
        num_vfs=num_vfs,
        no_answer=no_answer,
        driverctl=careful("driverctl", lambda: _driverctl(host), {}),
        mdevctl=careful("mdevctl", lambda: _mdevctl(host), {}),
        unread=unread,
    )


def _cpu(text: str) -> str:
    """Leaves of /proc/cpuinfo the vendor of the CPU, and `hypervisor` if there is one below."""
    vendor = re.search(r"^vendor_id\s*: *(\S+)$", text, re.MULTILINE)
    flags = re.search(r"^flags\s*:.* hypervisor\b", text, re.MULTILINE)
    return f"{vendor[1]} hypervisor" if vendor and flags else vendor[1] if vendor else ""


def _firmware(host: Tree) -> bool | None:
    """Tells whether the firmware has a table of IOMMUs: Intel's, AMD's or Arm's."""
    if not host.has(_TABLES):
        return None
    return any(host.has(f"{_TABLES}/{name}") for name in ("DMAR", "IVRS", "IORT"))


def _group_names(host: Tree) -> list[str]:
    return [name for name in host.names(GROUPS) if name.isascii() and name.isdigit()]


def _shared(host: Tree) -> dict[int, tuple[str, ...]]:
    """Gives the members of the groups with several, bridges left out."""
    shared: dict[int, tuple[str, ...]] = {}
    for name in _group_names(host):
        members = [each for each in host.names(f"{GROUPS}/{name}/devices") if is_address(each)]
        if len(members) > 1:
            shared[int(name)] = tuple(each for each in members if not _is_bridge(host, each))
    return {number: members for number, members in sorted(shared.items()) if len(members) > 1}


def _is_bridge(host: Tree, address: str) -> bool:
    return (host.text(f"{DEVICES}/{address}/class") or "").startswith("0x06")


def _modules(host: Tree, kernel: str | None) -> dict[str, Module | None]:
    """Says of each module where it is: /sys/module has those that are loaded, /lib/modules lists the others.

    kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/drivers/vfio/pci/vfio-pci-core.ko.xz ...
    """
    folders = [f"{top}/{kernel}" for top in FOLDERS] if kernel and re.fullmatch(r"\w[\w.+~-]*", kernel) else []
    folder = next((folder for folder in folders if host.has(f"{folder}/modules.dep")), None)
    built_in = _module_names(host.file(f"{folder}/modules.builtin") or "") if folder else frozenset()
    loadable = _module_names(host.file(f"{folder}/modules.dep") or "") if folder else frozenset()

    def state(name: str) -> Module | None:
        if name in built_in:
            return Module.BUILT_IN
        if host.has(f"sys/module/{name}"):
            return Module.LOADED
        if folder is None:
            return None
        return Module.LOADABLE if name in loadable else Module.ABSENT

    return {name: state(name) for name in MODULES}


def _module_names(text: str) -> frozenset[str]:
    return frozenset(name.replace("-", "_") for name in re.findall(r"^\S*?([^/\s]+)\.ko\b", text, re.MULTILINE))


def _nvidia_module(host: Tree) -> str | None:
    """Gives the version of the kernel module that is loaded.

    NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.124.06  Release Build  (...)
    """
    version = host.text("sys/module/nvidia/version")
    if version:
        return version
    match = re.search(r"^NVRM version:.*?\s([0-9]{3,}(?:\.[0-9]+)+)\s", host.file("proc/driver/nvidia/version") or "")
    return match[1] if match else None


def _nvidia_library(host: Tree) -> str | None:
    """Gives the version of NVML from the name of the file that libnvidia-ml.so.1 leads to.

    libnvidia-ml.so.1 -> libnvidia-ml.so.570.124.06, on Debian by way of /etc/alternatives.
    """
    for folder in _LIBRARIES:
        target = host.link(f"{folder}/{_LIBRARY}.1")
        for _ in range(4):
            if target is None:
                break
            version = re.search(r"libnvidia-ml\.so\.([0-9]{3,}(?:\.[0-9]+)+)$", target)
            if version is not None:
                return version[1]
            target = host.link(target.lstrip("/") if target.startswith("/") else f"{folder}/{target}")
    return None


def _overrides(host: Tree, functions: Iterable[str]) -> dict[str, str] | None:
    """Gives each driver_override that is set; None if there is no such file at all. Unset is `(null)`."""
    found, any_file = {}, False
    for address in functions:
        text = host.text(f"{DEVICES}/{address}/driver_override")
        any_file = any_file or text is not None
        if text and text != "(null)":
            found[address] = text
    return found if any_file else None


def _num_vfs(host: Tree, pfs: tuple[str, ...], unread: dict[str, str]) -> tuple[dict[str, int], dict[str, str]]:
    """Gives the counts by PF, and the PFs that do not answer; what is no count goes to `unread`."""

    def ask(tree: Tree, address: str) -> int | str | None:
        try:
            text = tree.text(f"{DEVICES}/{address}/{_NUM_VFS}")
        except Unreadable as error:
            return str(error)
        return text if text is None or not re.fullmatch("[0-9]{1,5}", text) else int(text)

    @contextmanager
    def opened(tree: Tree) -> Iterator[Ask]:
        yield lambda address: ask(tree, address)

    outcome = look_apart(host, [Look(_NUM_VFS, pfs, opened, _LIMIT)]).get(_NUM_VFS, Outcome())
    counts = {address: answer for address, answer in outcome.answers.items() if isinstance(answer, int)}
    for address, answer in outcome.answers.items():
        if isinstance(answer, str):
            unread["vf-count"] = f"{address}/{_NUM_VFS}: {answer}"
    return counts, outcome.failures


def _driverctl(host: Tree) -> dict[str, str]:
    """Gives the drivers that driverctl binds at boot: /etc/driverctl.d/0000:3b:00.0 holds `vfio-pci`."""
    folder = "etc/driverctl.d"
    return {name: host.file(f"{folder}/{name}") or "" for name in host.names(folder) if is_address(name)}


def _mdevctl(host: Tree) -> dict[str, int]:
    """Counts the mediated devices that mdevctl makes at boot: /etc/mdevctl.d/PARENT/UUID with `"start": "auto"`."""
    counts: dict[str, int] = {}
    for parent in filter(is_address, host.names("etc/mdevctl.d")):
        for name in host.names(f"etc/mdevctl.d/{parent}"):
            if _starts(host.file(f"etc/mdevctl.d/{parent}/{name}") or ""):
                counts[parent] = counts.get(parent, 0) + 1
    return counts


def _starts(text: str) -> bool:
    try:
        definition = json.loads(text)
    except ValueError:
        return False
    return isinstance(definition, dict) and definition.get("start") == "auto"
