# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Every PCI function is found, whatever else on the host is odd."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hosts.generate import generate

from devagent.model.pci import Sriov, VirtualFunction
from devagent.model.snapshot import Problem
from devagent.sources import pci
from devagent.sources.attributes import MAX_MATCHES
from devagent.sources.host import Directory

from ..worlds import (
    NIC,
    PCI,
    Link,
    World,
    described,
    identified,
    look,
    modalias,
    port,
    scanned,
    scanned_with_unknown,
    write,
)

GPU_ADDRESS = "0000:3b:00.0"
A100 = identified("10de:20f1", driver="nvidia")
PF = "0000:17:00.0"


def at(address: str, **files: str | bytes | Link) -> dict[str, str | bytes | Link]:
    """Gives the files of one function, whose directory stands where the kernel has a link."""
    return {f"{PCI}/{address}/{name}": content for name, content in files.items()}


def gpu_and(**files: str | bytes | Link) -> World:
    return at(GPU_ADDRESS, **{**A100, **files})


def a_pf(*vfs: str, **files: str | bytes | Link) -> dict[str, str | bytes | Link]:
    """Gives a ConnectX-6 Dx with these VFs, in the order of their indexes."""
    world = at(PF, **{**identified("15b3:101d", NIC, "mlx5_core"), "sriov_totalvfs": "8\n", **files})
    for index, vf in enumerate(vfs):
        world |= at(PF, **{f"virtfn{index}": Link(f"../{vf}")})
        world |= at(vf, **identified("15b3:101e", NIC), physfn=Link(f"../{PF}"))
    return world


def test_a_function_is_known_by_its_modalias_and_driver(tmp_path: Path) -> None:
    functions, problems = scanned(write(tmp_path, gpu_and()), None)
    found = functions[GPU_ADDRESS]
    assert (found.vendor_id, found.device_id, found.class_code) == ("10de", "20f1", "030200")
    assert (found.subsystem_vendor_id, found.subsystem_device_id, found.driver) == ("1028", "0a1b", "nvidia")
    assert (found.iommu_group, found.numa_node, found.sriov, found.attributes) == (None, None, None, {})
    assert problems == []


def test_without_a_modalias_the_single_files_tell(tmp_path: Path) -> None:
    world = at(
        GPU_ADDRESS,
        vendor="0x10de\n",
        device="0x20F1\n",
        subsystem_vendor="0x1028\n",
        subsystem_device="0x0A1B\n",
        driver=Link("../../../bus/pci/drivers/vfio-pci"),
        **{"class": "0x030200\n"},
    )
    found = scanned(write(tmp_path, world))[0][GPU_ADDRESS]
    assert (found.vendor_id, found.device_id, found.class_code) == ("10de", "20f1", "030200")
    assert (found.subsystem_vendor_id, found.subsystem_device_id, found.driver) == ("1028", "0a1b", "vfio-pci")


def test_a_modalias_in_another_form_costs_nothing_but_a_second_look(tmp_path: Path) -> None:
    # As where the device tree describes the device.
    files: World = {"vendor": "0x10de\n", "device": "0x20f1\n", "class": "0x030200\n", "driver": Link("../nvidia")}
    functions, problems = scanned(write(tmp_path, at(GPU_ADDRESS, modalias="of:Npci10de,20f1T(null)\n", **files)))
    found = functions[GPU_ADDRESS]
    assert (found.device_id, found.class_code, found.driver, found.subsystem_vendor_id) == (
        "20f1",
        "030200",
        "nvidia",
        None,
    )
    assert problems == []


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"modalias": ""},
        {"modalias": "pci:v000010DE\n"},
        {"modalias": modalias("10de:20f1").lower()},
        {"modalias": b"\xff\xfe\n"},
        {"modalias": "x" * 5000},
        {"modalias": "pci:\n", "vendor": "10de\n", "device": "nothing\n"},
    ],
)
def test_a_function_of_unknown_ids_is_named_and_all_others_found(
    tmp_path: Path, broken: dict[str, str | bytes | Link]
) -> None:
    write(tmp_path, {**gpu_and(), f"{PCI}/0000:01:00.0/": "", **at("0000:01:00.0", **broken)})
    functions, unknown, problems = scanned_with_unknown(tmp_path)
    assert list(functions) == [GPU_ADDRESS]
    assert unknown == {"0000:01:00.0"}
    assert "0000:01:00.0: has no readable vendor, device and class; left out" in problems


def test_a_modalias_that_cannot_be_read_is_a_problem_and_the_function_found(tmp_path: Path) -> None:
    world = at(GPU_ADDRESS, **{"modalias/": "", "vendor": "0x10de\n", "device": "0x20f1\n", "class": "0x030200\n"})
    functions, problems = scanned(write(tmp_path, world))
    assert functions[GPU_ADDRESS].device_id == "20f1"
    assert problems == [f"{GPU_ADDRESS}: modalias is a directory"]


def test_domains_of_eight_digits_are_addresses_in_bus_order(tmp_path: Path) -> None:
    addresses = ["0000:02:00.0", "0000:10:00.0", "ffff:01:00.0", "10000:01:00.0", "abcd1234:01:00.1"]
    for address in reversed(addresses):
        write(tmp_path, at(address, **A100))
    functions, problems = scanned(tmp_path)
    assert list(functions) == addresses
    assert problems == []


@pytest.mark.parametrize("name", ["pci0000:00", "0000:3B:00.0", "0000:3b:20.0", "0000:3b:00.8", "000:3b:00.0", ".x"])
def test_a_name_that_is_no_address_is_named_and_left_out(tmp_path: Path, name: str) -> None:
    functions, problems = scanned(write(tmp_path, {**gpu_and(), f"{PCI}/{name}/modalias": modalias("10de:20f1")}))
    assert list(functions) == [GPU_ADDRESS]
    assert problems == [f"None: {PCI}/{name!r} is not a PCI address; left out"]


def test_a_function_that_vanishes_leaves_all_others(tmp_path: Path) -> None:
    write(tmp_path, {**gpu_and(), f"{PCI}/0000:01:00.0": Link("../../../devices/pci0000:00/0000:01:00.0")})
    functions, problems = scanned(tmp_path)
    assert list(functions) == [GPU_ADDRESS]
    assert problems == ["0000:01:00.0: has no readable vendor, device and class; left out"]


def test_a_function_that_loops_leaves_all_others(tmp_path: Path) -> None:
    functions, problems = scanned(write(tmp_path, {**gpu_and(), f"{PCI}/0000:01:00.0": Link("0000:01:00.0")}))
    assert list(functions) == [GPU_ADDRESS]
    assert "0000:01:00.0: modalias is a link where a file should be, or links in a loop" in problems


def test_a_file_where_a_function_should_be_leaves_all_others(tmp_path: Path) -> None:
    functions, problems = scanned(write(tmp_path, {**gpu_and(), f"{PCI}/0000:01:00.0": "x"}))
    assert list(functions) == [GPU_ADDRESS]
    assert problems == ["0000:01:00.0: has no readable vendor, device and class; left out"]


def test_no_pci_bus_is_no_function(tmp_path: Path) -> None:
    assert scanned(tmp_path) == ({}, [])


@pytest.mark.parametrize(
    ("text", "node", "problem"),
    [
        ("1\n", 1, []),
        ("0\n", 0, []),
        ("-1\n", None, []),
        ("1024\n", None, ["numa_node is '1024', not a number from -1 to 1023"]),
        ("-2\n", None, ["numa_node is '-2', not a number from -1 to 1023"]),
        ("4294967295\n", None, ["numa_node is '4294967295', not a number from -1 to 1023"]),
        ("1" * 50, None, [f"numa_node is '{'1' * 40}', not a number from -1 to 1023"]),
        ("\u0661\n", None, ["numa_node is '\u0661', not a number from -1 to 1023"]),
        ("", None, ["numa_node is '', not a number from -1 to 1023"]),
        (b"\xff", None, ["numa_node is not text"]),
    ],
)
def test_a_numa_node_is_a_number_or_unknown(
    tmp_path: Path, text: str | bytes, node: int | None, problem: list[str]
) -> None:
    functions, problems = scanned(write(tmp_path, gpu_and(numa_node=text)))
    assert functions[GPU_ADDRESS].numa_node == node
    assert problems == [f"{GPU_ADDRESS}: {each}" for each in problem]


@pytest.mark.parametrize(
    ("target", "group", "problem"),
    [
        ("../../kernel/iommu_groups/0", 0, []),
        ("../../kernel/iommu_groups/4095", 4095, []),
        ("../../kernel/iommu_groups/none", None, ["iommu_group leads to 'none', which is no group"]),
        ("../../kernel/iommu_groups/99999999999", None, ["iommu_group leads to '99999999999', which is no group"]),
        ("../../kernel/iommu_groups/-1", None, ["iommu_group leads to '-1', which is no group"]),
        ("../../kernel/iommu_groups/\u0661", None, ["iommu_group leads to '\u0661', which is no group"]),
    ],
)
def test_an_iommu_group_is_a_number_or_unknown(
    tmp_path: Path, target: str, group: int | None, problem: list[str]
) -> None:
    functions, problems = scanned(write(tmp_path, gpu_and(iommu_group=Link(target))))
    assert functions[GPU_ADDRESS].iommu_group == group
    assert problems == [f"{GPU_ADDRESS}: {each}" for each in problem]


def test_a_pf_has_its_vfs_in_the_order_of_their_indexes(tmp_path: Path) -> None:
    vfs = [f"0000:17:0{1 + index // 8}.{index % 8}" for index in range(12)]
    functions, problems = scanned(write(tmp_path, a_pf(*vfs, sriov_vf_device="101e\n")))
    sriov = functions[PF].sriov
    assert sriov is not None
    assert (sriov.total_vfs, sriov.vf_device_id) == (8, "101e")
    assert [(vf.index, vf.address) for vf in sriov.vfs] == list(enumerate(vfs))
    assert [functions[vf].physfn for vf in vfs] == [PF] * 12
    assert problems == []


def test_a_vf_says_its_driver_and_group(tmp_path: Path) -> None:
    write(tmp_path, a_pf())
    write(tmp_path, at(PF, virtfn3=Link("../0000:17:00.5")))
    write(tmp_path, at("0000:17:00.5", **identified("15b3:101e", NIC, "vfio-pci"), iommu_group=Link("../9")))
    sriov = scanned(tmp_path)[0][PF].sriov
    assert sriov == Sriov(8, None, (VirtualFunction(3, "0000:17:00.5", "vfio-pci", 9),))


@pytest.mark.parametrize(
    ("text", "device", "problem"),
    [
        ("101e\n", "101e", []),
        ("9C5\n", "09c5", []),
        ("", None, []),
        ("0x101e\n", None, [f"{PF}: sriov_vf_device is '0x101e', not a device id"]),
        ("101e1\n", None, [f"{PF}: sriov_vf_device is '101e1', not a device id"]),
    ],
)
def test_the_vfs_device_id_is_four_digits_or_unknown(
    tmp_path: Path, text: str, device: str | None, problem: list[str]
) -> None:
    functions, problems = scanned(write(tmp_path, a_pf(sriov_vf_device=text)))
    assert functions[PF].sriov == Sriov(8, device)
    assert problems == problem


def test_an_absurd_number_of_vfs_is_a_problem(tmp_path: Path) -> None:
    functions, problems = scanned(write(tmp_path, a_pf(sriov_totalvfs="65536\n")))
    assert functions[PF].sriov is None
    assert problems == [f"{PF}: sriov_totalvfs is '65536', not a number from 0 to 65535"]


DRIVERS = "sys/bus/pci/drivers"
VFS = [f"0000:17:00.{number}" for number in range(2, 6)]


def listed(**drivers: list[str]) -> dict[str, str | bytes | Link]:
    """Gives the drivers' directories with a link for each function."""
    return {
        f"{DRIVERS}/{name.replace('_', '-')}/{address}": Link(f"../../devices/{address}")
        for name, addresses in drivers.items()
        for address in addresses
    }


def four_vfs(*drivers: str) -> dict[str, str | bytes | Link]:
    """Gives a PF with four VFs in groups of their own; their links name these drivers, and ids that differ."""
    world = a_pf(*VFS, **identified("15b3:101d", NIC, "mlx5-core"))
    for number, (vf, driver) in enumerate(zip(VFS, drivers, strict=True)):
        group = Link(f"../../groups/{number}")
        world |= at(vf, **identified(f"15b3:{number:04d}", NIC, driver), iommu_group=group)
    return world


def vfs_of(top: Path) -> list[tuple[str, str | None, int | None]]:
    functions, problems = scanned(top)
    assert problems == []
    sriov = functions[PF].sriov
    assert sriov is not None
    assert [functions[vf.address].driver for vf in sriov.vfs] == [vf.driver for vf in sriov.vfs]
    assert [functions[vf.address].physfn for vf in sriov.vfs] == [PF] * 4
    return [(functions[vf.address].device_id, vf.driver, vf.iommu_group) for vf in sriov.vfs]


def test_the_vfs_of_a_pf_have_the_ids_of_the_first_and_are_listed_by_their_drivers(tmp_path: Path) -> None:
    world = four_vfs("iavf", "unread", "unread", "unread")
    lists = listed(mlx5_core=[PF], iavf=[VFS[0], VFS[2]], vfio_pci=[VFS[1]])
    assert vfs_of(write(tmp_path, {**world, **lists})) == [
        ("0000", "iavf", 0),
        ("0000", "vfio-pci", 1),
        ("0000", "iavf", 2),
        ("0000", None, 3),
    ]


@pytest.mark.parametrize(
    "lists",
    [
        {},
        listed(iavf=VFS),
        listed(mlx5_core=[PF], iavf=VFS[1:]),
        listed(mlx5_core=[PF], vfio_pci=VFS),
        listed(other=[PF], iavf=VFS),
    ],
)
def test_where_the_drivers_directories_say_otherwise_each_vf_is_asked(tmp_path: Path, lists: World) -> None:
    drivers = ("iavf", "vfio-pci", "", "iavf")
    assert vfs_of(write(tmp_path, {**four_vfs(*drivers), **lists})) == [
        (f"{number:04d}", driver or None, number) for number, driver in enumerate(drivers)
    ]


def test_a_driver_that_cannot_be_listed_is_a_problem_and_each_vf_is_asked(tmp_path: Path) -> None:
    world = {**four_vfs("iavf", "a", "b", "c"), **listed(mlx5_core=[PF], iavf=VFS)}
    functions, problems = scanned(write(tmp_path, {**world, f"{DRIVERS}/loop": Link("loop")}))
    assert [functions[vf].driver for vf in VFS] == ["iavf", "a", "b", "c"]
    assert problems == [f"None: {DRIVERS}/loop: is a link where a file should be, or links in a loop"]


def test_a_vf_without_driver_and_group_must_prove_that_it_is_there(tmp_path: Path) -> None:
    world = {**four_vfs("iavf", "", "", ""), **listed(mlx5_core=[PF], iavf=[VFS[0]])}
    gone, bare = VFS[1], VFS[2]
    for name in (*(name for name in list(world) if name.startswith(f"{PCI}/{gone}/")), f"{PCI}/{bare}/iommu_group"):
        del world[name]
    functions, problems = scanned(write(tmp_path, {**world, f"{PCI}/{gone}": Link("nowhere")}))
    sriov = functions[PF].sriov
    assert sriov is not None
    assert [vf.index for vf in sriov.vfs] == [0, 2, 3]
    assert functions[bare].device_id == "0002"
    assert f"{PF}: virtfn 1 leads to no function; left out" in problems


class Counting(Directory):
    """Counts the questions, and those of all directories that are opened in it."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.asked = {"read": 0, "link": 0, "list": 0, "stamp": 0}

    def below(self, path: str) -> Counting:
        below = Counting(path, dir_fd=self._fd)
        below.asked = self.asked
        return below

    def link(self, path: str) -> str | None:
        self.asked["link"] += 1
        return super().link(path)

    def stamp(self, path: str) -> int | None:
        self.asked["stamp"] += 1
        return super().stamp(path)

    def _list(self, path: str) -> list[str]:
        self.asked["list"] += 1
        return super()._list(path)

    def _read(self, *arguments: Any, **named: Any) -> bytes | None:
        self.asked["read"] += 1
        return super()._read(*arguments, **named)


def asked(top: Path) -> dict[str, int]:
    with Counting(top) as tree:
        pci.scan(tree, lambda _: frozenset(), [])
    return tree.asked


def test_each_further_vf_costs_two_links_and_nothing_else(tmp_path: Path) -> None:
    counts = []
    for count in (8, 64):
        vfs = {"total": 64, "count": count, "device": "101e", "driver": {f"0-{count // 2}": "vfio-pci"}}
        nic = {"id": "15b3:101d", "class": NIC, "driver": "mlx5_core", "vfs": vfs}
        counts.append(asked(generate(described(port(nic)), tmp_path / str(count))))
    few, many = counts
    assert many == few | {"link": few["link"] + 2 * (64 - 8)}


def test_a_host_without_vfs_is_not_asked_for_its_drivers(tmp_path: Path) -> None:
    gpu = {"id": "10de:20f1", "class": "030200", "driver": "nvidia"}
    counts = asked(generate(described(port(gpu), port(gpu)), tmp_path / "h"))
    assert counts["list"] == 2  # the functions, and the parents of mediated devices
    assert counts["stamp"] == 4  # each function, ports included, once


def test_many_functions_are_found_like_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {**four_vfs("iavf", "", "", ""), **listed(mlx5_core=[PF], iavf=VFS[:2])})
    few = scanned(tmp_path)
    monkeypatch.setattr(pci, "_MANY", 2)
    assert scanned(tmp_path) == few


def test_a_dangling_virtfn_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, {**a_pf("0000:17:00.2"), **at(PF, virtfn1=Link("../0000:17:00.3"))})
    functions, problems = scanned(tmp_path)
    sriov = functions[PF].sriov
    assert sriov is not None
    assert [vf.index for vf in sriov.vfs] == [0]
    assert problems == [f"{PF}: virtfn 1 leads to no function; left out"]


def test_a_virtfn_that_is_no_link_is_left_out(tmp_path: Path) -> None:
    functions, problems = scanned(write(tmp_path, {**a_pf(), **at(PF, virtfn0="x")}))
    assert functions[PF].sriov == Sriov(8)
    assert problems == [f"{PF}: virtfn 0 leads to no function; left out"]


def test_a_vf_counts_once_though_two_links_lead_to_it(tmp_path: Path) -> None:
    write(tmp_path, {**a_pf("0000:17:00.2"), **at(PF, virtfn7=Link("../0000:17:00.2"))})
    functions, problems = scanned(tmp_path)
    sriov = functions[PF].sriov
    assert sriov is not None
    assert [vf.index for vf in sriov.vfs] == [0]
    assert problems == [f"{PF}: virtfn 7 leads to 0000:17:00.2, which cannot be its VF; left out"]


def test_a_vf_belongs_to_one_pf(tmp_path: Path) -> None:
    other = at("0000:17:00.1", **identified("15b3:101d", NIC), sriov_totalvfs="8\n", virtfn0=Link("../0000:17:00.2"))
    functions, problems = scanned(write(tmp_path, {**a_pf("0000:17:00.2"), **other}))
    assert functions["0000:17:00.2"].physfn == PF
    assert functions["0000:17:00.1"].sriov == Sriov(8)
    assert problems == ["0000:17:00.1: virtfn 0 leads to 0000:17:00.2, which cannot be its VF; left out"]


def test_a_pf_is_not_its_own_vf(tmp_path: Path) -> None:
    functions, problems = scanned(write(tmp_path, {**a_pf(), **at(PF, virtfn0=Link(f"../{PF}"))}))
    assert functions[PF].physfn is None
    assert functions[PF].sriov == Sriov(8)
    assert problems == [f"{PF}: virtfn 0 leads to {PF}, which cannot be its VF; left out"]


@pytest.mark.parametrize("name", ["virtfn00", "virtfn01", "virtfn-1", "virtfn999999", "virtfn", "virtfn1x"])
def test_only_the_kernels_own_virtfn_names_count(tmp_path: Path, name: str) -> None:
    world = {**a_pf(), **at(PF, **{name: Link("../0000:17:00.2")}), **at("0000:17:00.2", **A100)}
    assert scanned(write(tmp_path, world))[0][PF].sriov == Sriov(8)


def test_a_vf_is_known_where_only_its_physfn_tells(tmp_path: Path) -> None:
    world = {**a_pf(), **at("0000:17:00.2", **identified("15b3:101e", NIC), physfn=Link(f"../{PF}"))}
    functions, _ = scanned(write(tmp_path, world))
    assert functions["0000:17:00.2"].physfn == PF


def test_sriov_numvfs_is_never_opened(
    host_tree: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = host_tree("gpu8")  # made before os.open is watched
    opened: list[str] = []
    really = os.open

    def recording(path: Any, *more: Any, **named: Any) -> int:
        opened.append(os.fspath(path))
        return really(path, *more, **named)

    monkeypatch.setattr(os, "open", recording)
    found = look(host, every=True)
    assert any(device.vfs for device in found.devices)
    assert [path for path in opened if path.endswith("/modalias")]
    # Some kernels let a reader of uevent wait for the device's lock.
    waking = ("uevent", "sriov_numvfs", "config", "vpd", "current_link_speed", "current_link_width", "max_link_width")
    assert [path for path in opened if path.rpartition("/")[2] in (*waking, "sriov_vf_total_msix")] == []


def test_a_path_names_the_root_bus_and_the_bridges(tmp_path: Path) -> None:
    host = described(port(port(port({"id": "10de:20f1", "class": "030200"}), id="1000:c030"), at="01.0"))
    functions, _ = scanned(generate(host, tmp_path / "h"))
    found = functions["0000:3d:00.0"]
    assert found.root_bus == "pci0000:3a"
    assert found.pcie_path == ("0000:3a:01.0", "0000:3b:00.0", "0000:3c:00.0")


def test_a_function_on_the_root_bus_has_no_bridge_above(tmp_path: Path) -> None:
    functions, _ = scanned(generate(described({"id": "10de:20f1", "class": "030200"}), tmp_path / "h"))
    assert functions["0000:3a:00.0"].root_bus == "pci0000:3a"
    assert functions["0000:3a:00.0"].pcie_path == ()


def test_a_disk_behind_vmd_has_its_own_domain_and_the_whole_path(host_tree: Callable[[str], Path]) -> None:
    found = scanned(host_tree("qat"))[0]["10000:01:00.0"]
    assert found.root_bus == "pci0000:00"
    assert found.pcie_path[-1] == "10000:00:00.0"


def test_only_wanted_attributes_are_read(tmp_path: Path) -> None:
    functions, problems = scanned(
        write(tmp_path, gpu_and(boot_vga="1\n", reset_method="flr bus\n")), ["boot_vga", "no"]
    )
    assert functions[GPU_ADDRESS].attributes == {"boot_vga": "1"}
    assert problems == []


def test_an_unwanted_function_has_no_details(tmp_path: Path) -> None:
    functions, _ = scanned(write(tmp_path, gpu_and(boot_vga="1\n", numa_node="1\n")), None)
    assert functions[GPU_ADDRESS].attributes == {}
    assert functions[GPU_ADDRESS].numa_node is None


def test_a_star_stands_for_any_one_name(tmp_path: Path) -> None:
    world = gpu_and(
        **{
            "net/ens1/address": "02:00\n",
            "net/ens2/address": "02:01\n",
            "net/ens2/deep/address": "no\n",
            "net/ens3/other": "no\n",
            "network/ens4/address": "no\n",
        }
    )
    functions, problems = scanned(write(tmp_path, world), ["net/*/address"])
    assert functions[GPU_ADDRESS].attributes == {"net/ens1/address": "02:00", "net/ens2/address": "02:01"}
    assert functions[GPU_ADDRESS].names("net") == ("ens1", "ens2")
    assert problems == []


def test_a_star_fits_part_of_a_name(tmp_path: Path) -> None:
    world = gpu_and(**{"fpga/dfl-fme.0/a": "1\n", "fpga/dfl-port.0/a": "2\n"})
    functions, _ = scanned(write(tmp_path, world), ["fpga/dfl-fme.*/a"])
    assert functions[GPU_ADDRESS].attributes == {"fpga/dfl-fme.0/a": "1"}


def test_an_odd_attribute_is_a_problem_and_the_others_are_read(tmp_path: Path) -> None:
    odd: World = {"a/": "", "b": b"\xff", "c": "x" * 5000, "d": Link("d"), "good": "1\n", "empty": ""}
    world = gpu_and(**odd)
    functions, problems = scanned(write(tmp_path, world), ["a", "b", "c", "d", "good", "empty"])
    assert functions[GPU_ADDRESS].attributes == {"good": "1", "empty": ""}
    assert problems == [
        f"{GPU_ADDRESS}: a is a directory",
        f"{GPU_ADDRESS}: b is not text",
        f"{GPU_ADDRESS}: c is longer than 4096 bytes",
        f"{GPU_ADDRESS}: d is a link where a file should be, or links in a loop",
    ]


def test_a_pattern_that_fits_too_much_is_cut(tmp_path: Path) -> None:
    world = gpu_and(**{f"net/e{number}/address": "\n" for number in range(MAX_MATCHES + 1)})
    functions, problems = scanned(write(tmp_path, world), ["net/*/address"])
    assert len(functions[GPU_ADDRESS].attributes) == MAX_MATCHES
    assert functions[GPU_ADDRESS].unread == {"net/*/address"}
    (problem,) = problems
    assert problem == f"{GPU_ADDRESS}: net/*/address matches more than {MAX_MATCHES} files; the rest left out"


def test_bridges_are_not_looked_into(tmp_path: Path) -> None:
    world = at("0000:00:1c.0", **identified("8086:352a", "060400", "pcieport"), numa_node="absurd")
    functions, problems = scanned(write(tmp_path, world), ["boot_vga"])
    assert functions["0000:00:1c.0"].is_bridge
    assert problems == []


def test_a_described_host_is_found_whole(host_tree: Callable[[str], Path]) -> None:
    functions, problems = scanned(host_tree("big"), None)
    assert len(functions) == 4096
    assert len([each for each in functions.values() if each.physfn]) == 16 * 252
    assert problems == []


def test_vfs_that_are_held_while_they_are_removed_are_no_devices(tmp_path: Path) -> None:
    """The kernel takes virtfnN and physfn away first; the VF stays for as long as a virtual machine has it."""
    more = {"sriov_vf_device": "101e\n", "sriov_offset": "2\n", "sriov_stride": "1\n"}
    held, other = "0000:17:00.3", "0000:17:00.4"
    world = {**a_pf(**more), **at(held, **identified("15b3:101e", NIC, "vfio-pci")), **at(other, **A100)}
    functions, problems = scanned(write(tmp_path, world))
    assert functions[held].physfn == PF
    assert functions[other].physfn is None  # it has a place where a VF could be, and another device's ids
    assert functions[PF].unread == {"virtfn"}
    assert problems == [f"{PF}: virtfn 1 is gone, but {held} is still there: it is in use"]


class Growing(Directory):
    """A bus whose VFs are made after its functions were listed."""

    def _list(self, path: str) -> list[str]:
        return [name for name in super()._list(path) if name not in VFS or not path.endswith(".")]

    def below(self, path: str) -> Directory:
        return Growing(path, dir_fd=self._fd)


def test_vfs_that_are_made_while_we_look_are_found(tmp_path: Path) -> None:
    problems: list[Problem] = []
    with Growing(write(tmp_path, a_pf(*VFS))) as tree:
        functions, _ = pci.scan(tree, lambda _: frozenset(), problems)
    assert list(functions) == sorted([PF, *VFS])
    sriov = functions[PF].sriov
    assert sriov is not None
    assert [vf.address for vf in sriov.vfs] == list(VFS)
    assert problems == []


@pytest.mark.parametrize("target", ["/", "..", "."])
def test_a_driver_has_a_name(tmp_path: Path, target: str) -> None:
    functions, problems = scanned(write(tmp_path, gpu_and(driver=Link(target))))
    assert functions[GPU_ADDRESS].driver is None
    assert problems == [f"{GPU_ADDRESS}: driver leads to {target!r}, which is no driver"]
