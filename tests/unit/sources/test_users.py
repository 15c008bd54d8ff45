# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the host itself uses: its default route's NICs, its bonds, its mounted disks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hosts.generate import generate

from devagent.model.snapshot import Problem
from devagent.sources.host import Directory
from devagent.sources.users import host_use

from ..worlds import Link, World, described, port, write

HEADER = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
NIC = "0000:3b:00.0"
NIC_PATH = "../../devices/pci0000:3a/0000:3a:01.0"
DUAL = {
    "id": "8086:1563",
    "class": "020000",
    "driver": "ixgbe",
    "functions": 2,
    "net": ["eno1", "eno2"],
}
DISK = {"id": "144d:a80a", "class": "010802", "driver": "nvme", "disk": {"name": "nvme0n1", "partitions": 2}}
ROUTE = {"address": "192.0.2.10/24", "gateway": "192.0.2.1"}


def route4(interface: str, destination: str = "00000000", mask: str = "00000000") -> str:
    return f"{interface}\t{destination}\t010200C0\t0003\t0\t0\t0\t{mask}\t0\t0\t0\n"


def route6(interface: str, destination: str = "0" * 32, prefix: str = "00") -> str:
    zeros = "0" * 32
    return f"{destination} {prefix} {zeros} 00 fe80{zeros[4:]} 00000400 00000001 00000000 00000003 {interface:>8}\n"


def uses(top: Path) -> tuple[dict[str, str], list[str]]:
    problems: list[Problem] = []
    with Directory(top) as tree:
        found, known = host_use(tree, problems)
    assert known == (not problems)
    return found, [problem.problem for problem in problems]


def seen(tmp_path: Path, *on_bus: dict[str, Any], **more: Any) -> dict[str, str]:
    found, problems = uses(generate(described(*on_bus, **more), tmp_path / "h"))
    assert problems == []
    return found


def a_nic(name: str = "eth0", address: str = NIC) -> World:
    return {
        f"sys/devices/pci0000:3a/0000:3a:01.0/{address}/net/{name}/mtu": "1500\n",
        f"sys/class/net/{name}": Link(f"{NIC_PATH}/{address}/net/{name}"),
    }


def above(name: str, *lower: str) -> World:
    """Gives a VLAN, bond or bridge over these interfaces."""
    links = {f"sys/devices/virtual/net/{name}/lower_{each}": Link(f"../{each}") for each in lower}
    return {**links, f"sys/class/net/{name}": Link(f"../../devices/virtual/net/{name}")}


def test_a_host_that_uses_nothing(tmp_path: Path) -> None:
    assert uses(tmp_path) == ({}, [])


def test_the_default_routes_nic_is_used(tmp_path: Path) -> None:
    assert seen(tmp_path, port(DUAL), route=ROUTE | {"interface": "eno2"}) == {"0000:3b:00.1": "default route (eno2)"}


def test_a_route_to_somewhere_is_no_default_route(tmp_path: Path) -> None:
    routes = HEADER + route4("eth0", "000200C0", "00FFFFFF") + route4("eth0", "00000000", "00000080")
    six = route6("eth0", "fe80" + "0" * 28, "40") + route6("eth0", "0" * 32, "80") + route6("lo")
    write(tmp_path, {**a_nic(), "proc/net/route": routes, "proc/net/ipv6_route": six})
    assert uses(tmp_path) == ({}, [])


@pytest.mark.parametrize(
    "routes", [{"proc/net/route": HEADER + route4("eth0")}, {"proc/net/ipv6_route": route6("eth0")}]
)
def test_a_default_route_of_either_version_counts(tmp_path: Path, routes: World) -> None:
    assert uses(write(tmp_path, {**a_nic(), **routes})) == ({NIC: "default route (eth0)"}, [])


def test_both_members_of_the_default_routes_bond_are_used(tmp_path: Path) -> None:
    found = seen(tmp_path, port(DUAL), bonds={"bond0": ["eno1", "eno2"]}, route=ROUTE | {"interface": "bond0"})
    assert found == {"0000:3b:00.0": "default route (eno1)", "0000:3b:00.1": "default route (eno2)"}


def test_a_bonded_nic_is_used_without_any_route(tmp_path: Path) -> None:
    assert seen(tmp_path, port(DUAL), bonds={"bond0": ["eno2"]}) == {"0000:3b:00.1": "bonded in bond0 (eno2)"}


def test_a_vlan_on_a_bridge_on_a_bond_leads_to_the_nics(tmp_path: Path) -> None:
    world = {
        **a_nic("eth0"),
        **a_nic("eth1", "0000:3b:00.1"),
        **above("bond0", "eth0", "eth1"),
        **above("br-ex", "bond0"),
        **above("br-ex.100", "br-ex"),
        "proc/net/ipv6_route": route6("br-ex.100"),
    }
    assert uses(write(tmp_path, world)) == (
        {NIC: "default route (eth0)", "0000:3b:00.1": "default route (eth1)"},
        [],
    )


def test_interfaces_above_each_other_end(tmp_path: Path) -> None:
    world = {**above("a", "b"), **above("b", "a"), "proc/net/route": HEADER + route4("a")}
    assert uses(write(tmp_path, world)) == ({}, [])


@pytest.mark.parametrize("name", ["../../escape", "a" * 16, "gone"])
def test_a_route_over_an_odd_interface_leads_nowhere(tmp_path: Path, name: str) -> None:
    world = {"escape": Link(f"x/{NIC}/net"), **a_nic(), "proc/net/route": HEADER + route4(name) + route4("eth0")}
    assert uses(write(tmp_path, world)) == ({NIC: "default route (eth0)"}, [])


@pytest.mark.parametrize("text", ["", "x", HEADER, HEADER + "eth0\t00000000\n", "\n\n\n"])
def test_a_routing_table_that_says_nothing(tmp_path: Path, text: str) -> None:
    assert uses(write(tmp_path, {**a_nic(), "proc/net/route": text, "proc/net/ipv6_route": text})) == ({}, [])


def test_a_virtio_nic_is_known_by_its_pci_function(
    discovery: Callable[[str], Any], host_tree: Callable[[str], Path]
) -> None:
    assert uses(host_tree("vm"))[0] == {
        "0000:00:03.0": "default route (ens3)",
        "0000:00:04.0": "mounted on /",
    }


def test_the_root_disk_is_used(tmp_path: Path) -> None:
    assert seen(tmp_path, port(DISK), root="nvme0n1p2") == {"0000:3b:00.0": "mounted on /"}


def test_a_disk_without_mounts_is_free(tmp_path: Path) -> None:
    assert seen(tmp_path, port(DISK)) == {}


def test_a_disk_behind_vmd_is_used_by_its_own_address(host_tree: Callable[[str], Path]) -> None:
    assert uses(host_tree("qat"))[0]["10000:01:00.0"] == "mounted on /"


def disk(number: str, name: str, address: str) -> World:
    path = f"sys/devices/pci0000:3a/{address}/nvme/nvme0/{name}"
    return {f"{path}/dev": f"{number}\n", f"sys/dev/block/{number}": Link(f"../../../{path}")}


def mapped(number: str, name: str, **slaves: str) -> World:
    """Gives a device-mapper or RAID device over others, given with their numbers."""
    path = f"sys/devices/virtual/block/{name}"
    devs = {f"{path}/slaves/{slave}/dev": f"{below}\n" for slave, below in slaves.items()}
    return {**devs, f"sys/dev/block/{number}": Link(f"../../../{path}")}


def test_lvm_on_luks_on_raid_leads_to_the_disks(tmp_path: Path) -> None:
    world = {
        **disk("259:1", "nvme0n1", "0000:3b:00.0"),
        **disk("259:5", "nvme1n1", "0000:3c:00.0"),
        **disk("259:9", "nvme2n1", "0000:3d:00.0"),
        **mapped("9:0", "md0", nvme0n1="259:1", nvme1n1="259:5"),
        **mapped("253:0", "dm-0", md0="9:0"),
        **mapped("253:1", "dm-1", **{"dm-0": "253:0"}),
        "proc/self/mountinfo": "36 35 253:1 / /var/lib/nova rw,noatime - ext4 /dev/dm-1 rw\n",
    }
    use = "mounted on /var/lib/nova"
    assert uses(write(tmp_path, world)) == ({"0000:3b:00.0": use, "0000:3c:00.0": use}, [])


def test_the_first_mount_of_a_disk_is_named(tmp_path: Path) -> None:
    mounts = "36 1 259:1 / / rw - ext4 /dev/a rw\n37 36 259:1 /var /var rw - ext4 /dev/a rw\n"
    write(tmp_path, {**disk("259:1", "nvme0n1", NIC), "proc/self/mountinfo": mounts})
    assert uses(tmp_path) == ({NIC: "mounted on /"}, [])


def test_disks_below_each_other_end(tmp_path: Path) -> None:
    world = {
        **mapped("253:0", "dm-0", **{"dm-1": "253:1"}),
        **mapped("253:1", "dm-1", **{"dm-0": "253:0"}),
        "proc/self/mountinfo": "36 35 253:1 / / rw - ext4 /dev/dm-1 rw\n",
    }
    assert uses(write(tmp_path, world)) == ({}, [])


@pytest.mark.parametrize("line", ["", "x", "36 35 ../../x / / rw", "36 35 259:1", "36 35 0:25 / / rw"])
def test_a_mount_that_is_on_no_disk(tmp_path: Path, line: str) -> None:
    write(tmp_path, {**disk("259:1", "nvme0n1", NIC), "proc/self/mountinfo": f"{line}\n"})
    assert uses(tmp_path) == ({}, [])


@pytest.mark.parametrize("path", ["proc/net/route", "sys/class/net/bonding_masters", "proc/self/mountinfo"])
def test_what_cannot_be_read_is_named_and_the_rest_found(tmp_path: Path, path: str) -> None:
    world: dict[str, str | bytes | Link] = {
        **a_nic("eth0"),
        **a_nic("eth1", "0000:3b:00.1"),
        **above("bond0", "eth1"),
        **disk("259:1", "nvme0n1", "0000:3d:00.0"),
        "proc/net/route": HEADER + route4("eth0"),
        "sys/class/net/bonding_masters": "bond0\n",
        "proc/self/mountinfo": "36 35 259:1 / / rw - ext4 /dev/a rw\n",
    }
    everything = {
        "proc/net/route": NIC,
        "sys/class/net/bonding_masters": "0000:3b:00.1",
        "proc/self/mountinfo": "0000:3d:00.0",
    }
    found, problems = uses(write(tmp_path, world | {path: b"\xff"}))
    assert found.keys() == set(everything.values()) - {everything[path]}
    assert problems == [f"{path}: is not text"]


def test_one_interface_that_cannot_be_followed_hides_no_other(tmp_path: Path) -> None:
    world = {
        **a_nic("eth0"),
        **a_nic("eth1", "0000:3b:00.1"),
        **disk("259:1", "nvme0n1", "0000:3d:00.0"),
        "sys/class/net/odd": Link("odd"),
        "sys/class/net/bonding_masters": "odd bond0\n",
        **above("bond0", "eth1"),
        "proc/net/route": HEADER + route4("odd") + route4("eth0"),
        "proc/self/mountinfo": "36 35 259:1 / / rw - ext4 /dev/a rw\n",
    }
    found, problems = uses(write(tmp_path, world))
    assert found == {
        NIC: "default route (eth0)",
        "0000:3b:00.1": "bonded in bond0 (eth1)",
        "0000:3d:00.0": "mounted on /",
    }
    assert problems == ["sys/class/net/odd: is a link where a file should be, or links in a loop"] * 2


def test_a_disk_with_btrfs_is_used(tmp_path: Path) -> None:
    """Its file system has a device number of its own, which leads to no disk; its name does."""
    part = "sys/devices/pci0000:3a/0000:3b:00.0/nvme/nvme0/nvme0n1/nvme0n1p2"
    world: World = {
        f"{part}/dev": "259:2\n",
        "sys/dev/block/259:2": Link(f"../../../{part}"),
        "sys/class/block/nvme0n1p2": Link(f"../../../{part}"),
        "proc/self/mountinfo": "29 1 0:41 /@ / rw,relatime shared:1 - btrfs /dev/nvme0n1p2 rw,subvol=/@\n"
        "30 1 0:5 / /dev rw - devtmpfs devtmpfs rw\n31 1 0:42 / /x rw - nfs server:/dev/nvme0n1p2 rw\n",
    }
    assert uses(write(tmp_path, world)) == ({"0000:3b:00.0": "mounted on /"}, [])


def test_a_disk_behind_nvme_multipath_is_used_on_every_path(tmp_path: Path) -> None:
    """The namespace hangs on the subsystem, and that on one controller or more."""
    subsystem = "sys/devices/virtual/nvme-subsystem/nvme-subsys0"
    world: World = {
        f"{subsystem}/nvme0n1/nvme0n1p1/dev": "259:1\n",
        f"{subsystem}/nvme0": Link("../../../pci0000:3a/0000:3b:00.0/nvme/nvme0"),
        f"{subsystem}/nvme1": Link("../../../pci0000:5d/0000:5e:00.0/nvme/nvme1"),
        f"{subsystem}/model": "X\n",
        "sys/class/nvme-subsystem/nvme-subsys0": Link(f"../../../{subsystem}"),
        "sys/dev/block/259:1": Link(f"../../../{subsystem}/nvme0n1/nvme0n1p1"),
        "proc/self/mountinfo": "29 1 259:1 / / rw - xfs /dev/nvme0n1p1 rw\n",
    }
    use = "mounted on /"
    assert uses(write(tmp_path, world)) == ({"0000:3b:00.0": use, "0000:5e:00.0": use}, [])


ROUTES = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\neth0\t00000000\t0\t3\t0\t0\t0\t00000000\n"
MOUNTS = "36 35 259:1 / /mnt rw - ext4 /dev/nvme0n1p1 rw\n"


@pytest.mark.parametrize(
    ("world", "place"),
    [
        ({"proc/net/route": ROUTES, "sys/class/net/": ""}, "sys/class/net"),
        ({"proc/self/mountinfo": MOUNTS, "sys/dev/block/": ""}, "sys/dev/block"),
    ],
)
def test_where_nothing_can_be_looked_up_the_use_is_unknown(tmp_path: Path, world: World, place: str) -> None:
    problems: list[Problem] = []
    with Directory(write(tmp_path, world)) as tree:
        assert host_use(tree, problems) == ({}, False)
    assert [each.problem for each in problems] == [f"{place} is empty, though the host uses what should be there"]
