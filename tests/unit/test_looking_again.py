# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Looking again at some devices only: it sees what a look at everything would see, and reads no more than these."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hosts.generate import generate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devagent.discovery import Discovery, Lookout, discover
from devagent.driver import Driver, Specificity
from devagent.inventory.default_policy import DEFAULT
from devagent.model.claim import Claim, Kind
from devagent.model.pci import Function
from devagent.model.policy import Policy
from devagent.model.user import User
from devagent.registry import Registry, load
from devagent.sources import known
from devagent.sources.host import Directory, Tree
from devagent.sources.host_use import users

from .changing import ChangingHost
from .worlds import PCI, Link, described, modalias, port, rule, write

GPU = {"id": "10de:20f1", "class": "030200", "driver": "nvidia"}
NIC = {
    "id": "15b3:101d",
    "class": "020000",
    "driver": "mlx5_core",
    "vfs": {"total": 30, "count": 30, "device": "101e", "driver": {"0-14": "vfio-pci"}},
}
REGISTRY = load()
EVERYTHING = Policy((rule(None, numa_node=(9,)), rule(class_code=("0",)), rule(class_code=("1",))), "everything")
STATE = "var/lib/devagent"
DESCRIPTIONS = Path(__file__).parents[1] / "hosts"


class Counting(Directory):
    """Counts what is read, children included, by what it is and its path below the functions."""

    def __init__(self, path: str | os.PathLike[str], count: Counter[str] | None = None, **more: Any) -> None:
        super().__init__(path, **more)
        self.count: Counter[str] = Counter() if count is None else count

    def below(self, path: str) -> Counting:
        self.count[f"below {path}"] += 1
        return Counting(path, self.count, dir_fd=self._fd, machine=self.machine)

    def link(self, path: str) -> str | None:
        self.count[f"link {path}"] += 1
        return super().link(path)

    def has(self, path: str) -> bool:
        self.count[f"has {path}"] += 1
        return super().has(path)

    def stamp(self, path: str) -> int | None:
        self.count[f"stamp {path}"] += 1
        return super().stamp(path)

    def _list(self, path: str) -> list[str]:
        self.count[f"list {path}"] += 1
        return super()._list(path)

    def _read(self, path: str, limit: int, *, whole: bool = False, offset: int = 0) -> bytes | None:
        self.count[f"read {path}"] += 1
        return super()._read(path, limit, whole=whole, offset=offset)

    def taken(self) -> object:
        noted = self.count.copy()
        self.count.clear()
        return noted

    def take(self, taken: object) -> None:
        assert isinstance(taken, Counter)
        self.count.update(taken)


@contextmanager
def looking(tree: Tree, policy: Policy = DEFAULT) -> Iterator[Callable[..., Discovery]]:
    """Gives what looks again, after a look at everything."""
    with tree:
        lookout = Lookout(tree, REGISTRY)
        lookout.look(policy)
        yield lambda *only, policy=policy, **more: lookout.look(policy, frozenset(only), **more)


def equal(tree: Tree, found: Discovery, policy: Policy = DEFAULT) -> None:
    """Makes sure that a look at everything sees the same; what was known before is in no file of these hosts."""
    assert replace(found, known=()) == replace(discover(tree, REGISTRY, policy), known=())


# What any look at a change does to a host; numbers choose among what is there.
CHANGES = ("unplug", "plug", "fewer", "more", "bind", "break", "mend")
DRIVERS = (None, "vfio-pci", "nvidia", "amdgpu", "mlx5_core")


def change(host: ChangingHost, kind: str, one: int, other: int) -> set[str]:
    """Changes the host and gives the addresses of which the kernel tells."""
    there, away, pfs = host.there(), host.away(), host.pfs()
    if kind == "unplug" and there:
        host.unplug(address := there[one % len(there)])
        return {address}
    if kind == "plug" and away:
        host.plug(address := away[one % len(away)])
        return {address}
    if kind == "fewer" and pfs:
        pf = pfs[one % len(pfs)]
        return set(host.remove_vfs(pf, other % len(host.vfs(pf))))
    if kind == "more" and away:
        for address in away:
            host.plug(address)
        return set(away)
    if kind == "bind" and there:
        host.bind(address := there[one % len(there)], DRIVERS[other % len(DRIVERS)])
        return {address}
    if kind in ("break", "mend") and there:
        host.say(address := there[one % len(there)], "numa_node", "1" if kind == "mend" else "one")
        host.say(address, "aer_dev_fatal", f"TOTAL_ERR_FATAL {other}")
        return {address}
    return set()


STEPS = st.lists(
    st.lists(st.tuples(st.sampled_from(CHANGES), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=3),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize("name", ["qat", "zoo", "hgx"])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, policy=st.sampled_from([DEFAULT, EVERYTHING]), every=st.booleans())
def test_it_sees_what_a_look_at_everything_sees(
    host_tree: Callable[[str], Path],
    name: str,
    steps: list[list[tuple[str, int, int]]],
    policy: Policy,
    every: bool,
) -> None:
    with tempfile.TemporaryDirectory(dir=host_tree(name).parent) as folder:
        host = ChangingHost(host_tree(name), Path(folder))
        with Directory(host.top) as tree:
            lookout = Lookout(tree, REGISTRY)
            found = lookout.look(policy, every=every)
            for step in steps:
                known.save(str(host.top / STATE), found.known)
                only = set[str]().union(*(change(host, *each) for each in step))
                found = lookout.look(policy, frozenset(only), every=every)
                assert found == discover(tree, REGISTRY, policy, every=every)


def counted(top: Path, only: str) -> Counter[str]:
    """Gives what a look at one device reads, but for what the host itself uses, which is read anew each time."""
    with Counting(top) as tree:
        lookout = Lookout(tree, REGISTRY)
        lookout.look(DEFAULT)
        tree.count.clear()
        users.host_use(tree, [])
        for_guards = tree.count.copy()
        tree.count.clear()
        lookout.look(DEFAULT, frozenset({only}))
        return tree.count - for_guards


def of_size(functions: int, top: Path) -> Path:
    """Writes a host of so many functions: root ports, each with a PF and its 30 VFs."""
    buses = [
        {"bus": f"{domain:04x}:20", "node": 0, "devices": [port(NIC)] * min(32, functions // 32 - 32 * domain)}
        for domain in range(-(-functions // 1024))
    ]
    generate(described() | {"pci": buses}, top)
    assert len(list((top / PCI).iterdir())) == functions
    return top


def test_what_one_event_costs_does_not_depend_on_the_host(host_tree: Callable[[str], Path]) -> None:
    with tempfile.TemporaryDirectory(dir=host_tree("vm").parent) as folder:
        small, large = (of_size(functions, Path(folder) / str(functions)) for functions in (64, 4096))
        for only in ("0000:21:00.0", "0000:21:00.5"):
            few, many = counted(small, only), counted(large, only)
            assert few == many
            assert few.total() < 300


def test_a_burst_of_vfs_reads_their_pf_once(tmp_path: Path) -> None:
    tree = Counting(generate(described(port(NIC)), tmp_path / "h"))
    with looking(tree) as look:
        vfs = [each.address for each in look().devices[0].vfs]
        tree.count.clear()
        assert len(vfs) == 30
        look(*vfs, "0000:3b:00.0")
        assert tree.count["read 0000:3b:00.0/sriov_totalvfs"] == 1
        assert {tree.count[f"link {vf}/driver"] for vf in vfs} == {1}


def test_a_device_that_is_gone_is_gone_with_its_vfs(tmp_path: Path) -> None:
    host = ChangingHost(generate(described(port(NIC), port(GPU)), tmp_path / "h"), tmp_path)
    with looking(tree := Directory(host.top)) as look:
        host.unplug("0000:3b:00.0")
        found = look("0000:3b:00.0")
        assert [each.address for each in found.devices] == ["0000:3c:00.0"]
        equal(tree, found)


def test_a_new_device_stands_in_bus_order(tmp_path: Path) -> None:
    host = ChangingHost(generate(described(port(GPU), port(GPU), port(GPU)), tmp_path / "h"), tmp_path)
    host.unplug("0000:3c:00.0")
    with looking(Directory(host.top)) as look:
        host.plug("0000:3c:00.0")
        assert [each.address for each in look("0000:3c:00.0").devices] == [
            f"0000:{bus}:00.0" for bus in ("3b", "3c", "3d")
        ]


def test_what_nobody_asked_about_stays_as_it_was(tmp_path: Path) -> None:
    host = ChangingHost(generate(described(port(GPU), port(GPU)), tmp_path / "h"), tmp_path)
    with looking(tree := Directory(host.top)) as look:
        host.unplug("0000:3b:00.0")
        host.bind("0000:3c:00.0", "vfio-pci")
        assert [each.function.driver for each in look("0000:3c:00.0").devices] == ["nvidia", "vfio-pci"]
        equal(tree, look("0000:3b:00.0"))


def test_with_another_policy_it_looks_at_everything(tmp_path: Path) -> None:
    """What is read of a function depends on what a rule may want."""
    odd = {"id": "abcd:0001", "class": "ff0000"}
    wanting = Policy((rule(vendor=("abcd",)),), "other")
    with looking(tree := Directory(generate(described(port(odd), port(GPU)), tmp_path / "h"))) as look:
        found = look("0000:3c:00.0", policy=wanting)
        assert [each.address for each in found.devices] == ["0000:3b:00.0", "0000:3c:00.0"]
        equal(tree, found, wanting)


@pytest.mark.parametrize("before", ["unread", "empty"])
def test_after_a_look_that_saw_nothing_it_looks_at_everything(tmp_path: Path, before: str) -> None:
    top = generate(described(port(GPU)), tmp_path / "h")
    (top / PCI).rename(top / "away")
    (top / PCI).write_text("") if before == "unread" else (top / PCI).mkdir()
    with looking(tree := Directory(top)) as look:
        (top / PCI).unlink() if before == "unread" else (top / PCI).rmdir()
        (top / "away").rename(top / PCI)
        found = look()
        assert len(found.devices) == 1
        equal(tree, found)


def test_a_directory_of_functions_that_cannot_be_opened_leaves_an_incomplete_look(tmp_path: Path) -> None:
    top = generate(described(port(GPU)), tmp_path / "h")
    with looking(Directory(top)) as look:
        (top / PCI).rename(top / "away")
        (top / PCI).write_text("")
        assert not look("0000:3b:00.0").complete


def test_a_vf_whose_links_have_gone_is_still_told_by_its_place(tmp_path: Path) -> None:
    host = ChangingHost(generate(described(port(NIC), port(NIC)), tmp_path / "h"), tmp_path)
    pf, vf = "0000:3b:00.0", host.vfs("0000:3b:00.0")[-1]
    with looking(tree := Directory(host.top)) as look:
        (host.place(pf) / "virtfn29").unlink()
        (host.place(vf) / "physfn").unlink()
        found = look(vf)
        assert [each.address for each in found.devices] == [pf, "0000:3c:00.0"]
        assert "virtfn" in found.devices[0].function.unread
        equal(tree, found)
        host.unplug(vf)
        equal(tree, look(vf))


def test_a_vf_that_is_being_removed_is_found_by_way_of_its_pf_too(tmp_path: Path) -> None:
    host = ChangingHost(generate(described(port(NIC)), tmp_path / "h"), tmp_path)
    vf = host.vfs("0000:3b:00.0")[-1]
    with looking(tree := Directory(host.top)) as look:
        (host.place("0000:3b:00.0") / "virtfn29").unlink()
        (host.place(vf) / "physfn").unlink()
        equal(tree, look("0000:3b:00.0"))


def test_what_does_not_say_what_it_is_is_unknown_until_it_does(tmp_path: Path) -> None:
    host = ChangingHost(generate(described(port(GPU), port(GPU)), tmp_path / "h"), tmp_path)
    said = {name: (host.place("0000:3b:00.0") / name).read_text() for name in ("modalias", "vendor")}
    with looking(tree := Directory(host.top)) as look:
        for name in said:
            host.say("0000:3b:00.0", name, "?")
        found = look("0000:3b:00.0")
        assert found.unknown == {"0000:3b:00.0"}
        equal(tree, found)
        for name, text in said.items():
            host.say("0000:3b:00.0", name, text)
        found = look("0000:3b:00.0")
        assert found.unknown == frozenset()
        equal(tree, found)


def test_what_failed_of_a_device_is_forgotten_when_it_answers_or_is_gone(tmp_path: Path) -> None:
    host = ChangingHost(generate(described(port(GPU), port(GPU)), tmp_path / "h"), tmp_path)
    for address in host.there():
        file = host.place(address) / "max_link_width"
        file.unlink()
        file.mkdir()
    with looking(tree := Directory(host.top)) as look:
        assert len(look().problems) == 2
        (host.place("0000:3b:00.0") / "max_link_width").rmdir()
        found = look("0000:3b:00.0")
        assert [each.device for each in found.problems] == ["0000:3c:00.0"]
        equal(tree, found)
        host.unplug("0000:3c:00.0")
        found = look("0000:3c:00.0")
        assert found.problems == ()
        equal(tree, found)


def test_what_nvml_did_not_answer_is_forgotten_when_it_does(tmp_path: Path) -> None:
    files = {f"devagent/nvml/0000:{bus}:00.0.json": "damaged" for bus in ("3b", "3c")}
    host = ChangingHost(generate(described(port(GPU), port(GPU), files=files), tmp_path / "h"), tmp_path)
    with looking(tree := Directory(host.top)) as look:
        assert all("nvml" in each.function.unread for each in look().devices)
        (host.top / "devagent/nvml/0000:3b:00.0.json").unlink()
        found = look("0000:3b:00.0")
        assert [each.device for each in found.problems] == ["0000:3c:00.0"]
        equal(tree, found)
        host.unplug("0000:3c:00.0")
        equal(tree, look("0000:3c:00.0"))


def test_a_device_of_a_kind_that_was_not_there_has_its_name(tmp_path: Path) -> None:
    files = {"usr/share/misc/pci.ids": "10de  NVIDIA Corporation\n\t20f1  GA100 [A100]\n\tabcd  GX1 [New One]\n"}
    new = GPU | {"id": "10de:abcd"}
    host = ChangingHost(generate(described(port(GPU), port(new), files=files), tmp_path / "h"), tmp_path)
    host.unplug("0000:3c:00.0")
    with looking(tree := Directory(host.top)) as look:
        host.plug("0000:3c:00.0")
        found = look("0000:3c:00.0")
        assert [each.claim.model for each in found.devices] == ["A100", "New One"]
        equal(tree, found)


def test_amd_partitions_follow_the_driver(tmp_path: Path) -> None:
    """What KFD says of one GPU names others, so it is read as a whole, where one of them changed."""
    host = ChangingHost(generate(DESCRIPTIONS / "zoo.yaml", tmp_path / "h"), tmp_path)
    with looking(tree := Directory(host.top)) as look:
        gpus = [each.address for each in look().devices if each.function.kfd]
        assert gpus
        for address in gpus:
            host.bind(address, "vfio-pci")
            equal(tree, look(address))
        host.bind(gpus[0], "amdgpu")
        found = look(gpus[0])
        assert [each.address for each in found.devices if each.function.kfd]
        equal(tree, found)


def test_a_vf_without_links_that_nobody_has_seen_is_found_to_be_one(tmp_path: Path) -> None:
    """It is added before its links are made."""
    host = ChangingHost(generate(described(port(NIC)), tmp_path / "h"), tmp_path)
    vf = host.vfs("0000:3b:00.0")[-1]
    host.unplug(vf)
    with looking(tree := Directory(host.top)) as look:
        host.plug(vf)
        (host.place("0000:3b:00.0") / "virtfn29").unlink()
        (host.place(vf) / "physfn").unlink()
        found = look(vf)
        assert [each.address for each in found.devices] == ["0000:3b:00.0"]
        equal(tree, found)


def test_a_nic_that_comes_as_the_hosts_own_is_not_given(tmp_path: Path) -> None:
    """What guards the host is read anew, though the interface alone has changed."""
    nic = NIC | {"net": ["ens1"]}
    route = {"interface": "ens1", "address": "192.0.2.10/24", "gateway": "192.0.2.1"}
    given_whole = Policy((rule(vendor=("15b3",), resource_class="CUSTOM_NIC"),), "whole")
    host = ChangingHost(generate(described(port(nic), route=route), tmp_path / "h"), tmp_path)
    interface = host.top / "sys/class/net/ens1"
    target = interface.readlink()
    interface.unlink()
    host.remove_vfs("0000:3b:00.0", 0)
    with looking(tree := Directory(host.top), given_whole) as look:
        interface.symlink_to(target)
        found = look("0000:3b:00.0")
        assert found.devices[0].decision.reason == "is used by the host: default route (ens1)"
        equal(tree, found, given_whole)


def test_a_nic_that_comes_under_the_name_that_nova_takes_is_not_given(tmp_path: Path) -> None:
    files = {"etc/nova/nova.conf": '[pci]\ndevice_spec = {"devname": "ens1"}\n'}
    host = ChangingHost(generate(described(port(NIC | {"net": ["ens1"]}), files=files), tmp_path / "h"), tmp_path)
    host.unplug("0000:3b:00.0")
    host.top.joinpath(f"{PCI}/0000:3e:00.0").mkdir(parents=True)
    write(host.top, {f"{PCI}/0000:3e:00.0/modalias": modalias("10de:20f1")})
    with looking(tree := Directory(host.top)) as look:
        host.plug("0000:3b:00.0")
        found = look("0000:3b:00.0")
        assert not found.devices[0].decision.managed
        equal(tree, found)


def process(pid: int, node: str) -> dict[str, str | Link]:
    return {f"proc/{pid}/fd/3": Link(node), f"proc/{pid}/comm": "train\n"}


def used(found: Discovery) -> dict[str, tuple[User, ...]]:
    return {each.address: each.users for each in found.devices}


def test_who_uses_a_device_is_as_it_was_until_it_is_gone(tmp_path: Path) -> None:
    host = ChangingHost(generate(described(port(GPU), port(GPU)), tmp_path / "h"), tmp_path)
    numbers = {each: (host.place(each) / "iommu_group").readlink().name for each in host.there()}
    write(host.top, process(71, f"/dev/vfio/{numbers['0000:3b:00.0']}"))
    write(host.top, process(72, f"/dev/vfio/{numbers['0000:3c:00.0']}"))
    with looking(Directory(host.top)) as look:
        before = used(look())
        assert {address: [each.pid for each in found] for address, found in before.items()} == {
            "0000:3b:00.0": [71],
            "0000:3c:00.0": [72],
        }
        (host.top / "proc/71/fd/3").unlink()
        assert used(look("0000:3b:00.0")) == before
        host.unplug("0000:3b:00.0")
        assert used(look("0000:3b:00.0")) == {"0000:3c:00.0": before["0000:3c:00.0"]}
        host.plug("0000:3b:00.0")
        assert used(look("0000:3b:00.0"))["0000:3b:00.0"] == ()


def test_who_sees_every_function_sees_anew_who_uses_any(tmp_path: Path) -> None:
    host = ChangingHost(generate(described(port(GPU), port(GPU)), tmp_path / "h"), tmp_path)
    numbers = {each: (host.place(each) / "iommu_group").readlink().name for each in host.there()}
    write(host.top, process(71, f"/dev/vfio/{numbers['0000:3b:00.0']}"))
    with looking(tree := Directory(host.top)) as look:
        look(every=True)
        (host.top / "proc/71/fd/3").unlink()
        write(host.top, process(72, f"/dev/vfio/{numbers['0000:3c:00.0']}"))
        found = look("0000:3b:00.0", every=True)
        assert [[user.pid for user in used(found)[address]] for address in ("0000:3b:00.0", "0000:3c:00.0")] == [
            [],
            [72],
        ]
        assert replace(found, known=()) == replace(discover(tree, REGISTRY, DEFAULT, every=True), known=())


def test_what_was_found_of_the_host_is_not_found_again_and_again(tmp_path: Path) -> None:
    top = write(generate(described(port(GPU)), tmp_path / "h"), {f"{PCI}/odd": "", "sys/class/mdev_bus": ""})
    (top / "usr/lib/modules/6.12.57-amd64/modules.alias").mkdir(parents=True)
    with looking(tree := Directory(top)) as look:
        first = look("0000:3b:00.0")
        assert len(first.problems) >= 2
        for _ in range(5):
            assert look("0000:3b:00.0") == first
        equal(tree, first)


class Unplugging(Directory):
    """A machine on which a device is pulled out while it is looked at: its files have gone, its link has not yet."""

    pulled: ClassVar[set[str]] = set()

    def stamp(self, path: str) -> int | None:
        return None if any(path == f"{PCI}/{each}/modalias" for each in self.pulled) else super().stamp(path)


def test_what_is_unplugged_during_the_look_is_gone_and_not_torn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = ChangingHost(generate(described(port(NIC), port(GPU | {"driver": None})), tmp_path / "h"), tmp_path)
    host.top.joinpath("proc/net").mkdir(parents=True, exist_ok=True)
    with looking(Unplugging(host.top, machine=True)) as look:
        assert len(look().devices) == 2
        host.say("0000:3b:00.0", "numa_node", "torn")
        monkeypatch.setattr(Unplugging, "pulled", {"0000:3b:00.0"})
        found = look("0000:3b:00.0")
        assert [each.address for each in found.devices] == ["0000:3c:00.0"]
        assert not [each for each in found.problems if each.device == "0000:3b:00.0"]


def test_who_a_device_is_does_not_hang_on_a_disk_that_is_full(tmp_path: Path) -> None:
    """A NIC tells its MAC only while it has its own driver; nothing of what was settled could be saved."""
    nic = NIC | {
        "net": ["ens1"],
        "attributes": {"net/ens1/addr_assign_type": "0", "net/ens1/address": "02:00:00:00:00:01"},
    }
    host = ChangingHost(generate(described(port(nic)), tmp_path / "h"), tmp_path)
    with Directory(host.top) as tree:
        lookout = Lookout(tree, REGISTRY)
        (before,) = lookout.look(DEFAULT).devices
        assert before.identity.source == "mac"
        host.bind("0000:3b:00.0", "vfio-pci")
        (host.place("0000:3b:00.0") / "net").rename(tmp_path / "net")
        for only in (frozenset({"0000:3b:00.0"}), None):
            (after,) = lookout.look(DEFAULT, only).devices
            assert after.identity == before.identity
        (forgotten,) = discover(tree, REGISTRY, DEFAULT).devices
        assert forgotten.identity != before.identity


class Claiming(Driver):
    """Remembers what it was asked to claim."""

    name = "claiming"
    specificity = Specificity.FAMILY
    asked: ClassVar[list[str]] = []

    def recognises(self, function: Function) -> bool:
        return function.vendor_id == "10de"

    def claim(self, function: Function) -> Claim:
        self.asked.append(function.address)
        return Claim(self.name, function.address, Kind.GPU, "V", "M")


def test_drivers_claim_anew_only_what_was_read_anew(tmp_path: Path) -> None:
    with Directory(generate(described(port(GPU), port(GPU)), tmp_path / "h")) as tree:
        lookout = Lookout(tree, Registry([Claiming()]))
        Claiming.asked.clear()
        lookout.look(DEFAULT)
        assert Claiming.asked == ["0000:3b:00.0", "0000:3c:00.0"]
        lookout.look(DEFAULT, frozenset({"0000:3c:00.0"}))
        assert Claiming.asked[2:] == ["0000:3c:00.0"]
        lookout.look(DEFAULT)
        assert Claiming.asked[3:] == ["0000:3b:00.0", "0000:3c:00.0"]


@pytest.mark.parametrize("address", ["", "..", "0000:ff:00.0", "../../etc", "0000:3b:00.0/../0000:3c:00.0", "x" * 9999])
def test_an_address_of_nothing_changes_nothing(tmp_path: Path, address: str) -> None:
    with looking(tree := Directory(generate(described(port(GPU)), tmp_path / "h"))) as look:
        equal(tree, look(address))
