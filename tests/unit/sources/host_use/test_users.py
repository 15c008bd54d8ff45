# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the host itself uses: its default route's NICs, the ports of its bonds and bridges, its disks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hosts.generate import generate

from devagent.model.snapshot import Problem
from devagent.sources.captures.recorder import Kind, Recorder
from devagent.sources.host import LINK, Directory
from devagent.sources.host_use.users import host_use

from ...worlds import Link, World, described, port, write

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
PROC_MOUNT = "22 27 0:21 / /proc rw - proc proc rw\n"
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


def test_a_host_that_uses_nothing_has_no_users(tmp_path: Path) -> None:
    assert uses(tmp_path) == ({}, [])


def test_the_default_routes_nic_is_used(tmp_path: Path) -> None:
    assert seen(tmp_path, port(DUAL), route=ROUTE | {"interface": "eno2"}) == {"0000:3b:00.1": "default route (eno2)"}


def test_a_route_to_somewhere_is_no_default_route(tmp_path: Path) -> None:
    routes = HEADER + route4("eth0", "000200C0", "00FFFFFF") + route4("eth0", "00000000", "00000080")
    six = route6("eth0", "fe80" + "0" * 28, "40") + route6("eth0", "0" * 32, "80") + route6("lo")
    write(tmp_path, {**a_nic(), "proc/net/route": routes, "proc/net/ipv6_route": six})
    assert uses(tmp_path) == ({}, [])


@pytest.mark.parametrize(
    "routes",
    [
        {"proc/net/route": HEADER + route4("eth0", "00000000", "00000080") + route4("eth0", "00000080", "00000080")},
        {"proc/net/route": HEADER + route4("eth0", "80000000", "80000000") + route4("eth0", "00000000", "80000000")},
        {"proc/net/ipv6_route": route6("eth0", "0" * 32, "01") + route6("eth0", "8" + "0" * 31, "01")},
    ],
)
def test_two_halves_are_a_default_route(tmp_path: Path, routes: World) -> None:
    """So a VPN takes precedence over the default route without replacing it."""
    assert uses(write(tmp_path, {**a_nic(), **routes})) == ({NIC: "default route (eth0)"}, [])


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


@pytest.mark.parametrize("master", ["ovs-system", "br0", "team0", "vrf-blue"])
def test_a_port_is_used_without_any_route(tmp_path: Path, master: str) -> None:
    world = {
        **a_nic("eth0"),
        **a_nic("eth1", "0000:3b:00.1"),
        f"sys/devices/pci0000:3a/0000:3a:01.0/{NIC}/net/eth0/master": Link(f"../../../../../virtual/net/{master}"),
        "sys/devices/virtual/net/tap0/master": Link(f"../{master}"),
        "sys/class/net/tap0": Link("../../devices/virtual/net/tap0"),
    }
    assert uses(write(tmp_path, world)) == ({NIC: f"port of {master} (eth0)"}, [])


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


def test_interfaces_above_each_other_are_followed_once(tmp_path: Path) -> None:
    world = {**above("a", "b"), **above("b", "a"), "proc/net/route": HEADER + route4("a")}
    assert uses(write(tmp_path, world)) == ({}, [])


@pytest.mark.parametrize("name", ["../../escape", "a" * 16, "gone"])
def test_a_route_over_an_odd_interface_leads_nowhere(tmp_path: Path, name: str) -> None:
    world = {"escape": Link(f"x/{NIC}/net"), **a_nic(), "proc/net/route": HEADER + route4(name) + route4("eth0")}
    assert uses(write(tmp_path, world)) == ({NIC: "default route (eth0)"}, [])


@pytest.mark.parametrize("text", ["", "x", HEADER, HEADER + "eth0\t00000000\n", "\n\n\n"])
def test_a_routing_table_that_says_nothing_uses_nothing(tmp_path: Path, text: str) -> None:
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


def test_disks_below_each_other_are_followed_once(tmp_path: Path) -> None:
    world = {
        **mapped("253:0", "dm-0", **{"dm-1": "253:1"}),
        **mapped("253:1", "dm-1", **{"dm-0": "253:0"}),
        "proc/self/mountinfo": "36 35 253:1 / / rw - ext4 /dev/dm-1 rw\n",
    }
    assert uses(write(tmp_path, world)) == ({}, [])


@pytest.mark.parametrize("line", ["", "x", "36 35 ../../x / / rw", "36 35 259:1", "36 35 0:25 / / rw"])
def test_a_mount_that_is_on_no_disk_uses_none(tmp_path: Path, line: str) -> None:
    write(tmp_path, {**disk("259:1", "nvme0n1", NIC), "proc/self/mountinfo": f"{PROC_MOUNT}{line}\n"})
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
    found, problems = uses(write(tmp_path, world | {path: Link("x")}))
    assert found.keys() == set(everything.values()) - {everything[path]}
    assert problems == [f"{path}: {LINK}"]


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


def part(name: str, address: str, number: str, *holders: str) -> World:
    """Gives a partition or disk with its place in both of sysfs's lists, and with what is built on it."""
    path = f"sys/devices/pci0000:3a/{address}/block/{name}"
    held = {f"{path}/holders/{each}": Link(f"../../../../../virtual/block/{each}") for each in holders}
    links = {f"sys/class/block/{name}": Link(f"../../../{path}"), f"sys/dev/block/{number}": Link(f"../../../{path}")}
    return {f"{path}/dev": f"{number}\n", **links, **held}


def mapper(name: str, number: str, title: str, **slaves: str) -> World:
    """Gives a device of the device mapper, called `title` in /dev/mapper."""
    path = f"sys/devices/virtual/block/{name}"
    return {
        **mapped(number, name, **slaves),
        f"{path}/dm/name": f"{title}\n",
        f"sys/class/block/{name}": Link(f"../../../{path}"),
    }


def mount(source: str, kind: str = "btrfs", number: str = "0:41", point: str = "/") -> str:
    return f"29 1 {number} / {point} rw,relatime shared:1 - {kind} {source} rw\n"


TWO = {**part("sda", NIC, "8:0"), **part("sdb1", "0000:3c:00.0", "8:17")}


@pytest.mark.parametrize("source", ["/dev/mapper/my--vg-luks", "/dev/my-vg/luks", "/dev/dm-1"])
def test_btrfs_on_luks_leads_to_the_disk(tmp_path: Path, source: str) -> None:
    world = {
        **TWO,
        **mapper("dm-0", "253:0", "other", sda="8:0"),
        **mapper("dm-1", "253:1", "my--vg-luks", sdb1="8:17"),
        "proc/self/mountinfo": mount(source),
    }
    assert uses(write(tmp_path, world)) == ({"0000:3c:00.0": "mounted on /"}, [])


def test_a_name_with_a_slash_is_found(tmp_path: Path) -> None:
    world = {**part("cciss!c0d0", NIC, "104:0"), "proc/self/mountinfo": mount("/dev/cciss/c0d0")}
    assert uses(write(tmp_path, world)) == ({NIC: "mounted on /"}, [])


def btrfs(*members: str, uuid: str = "0c8f") -> World:
    return {f"sys/fs/btrfs/{uuid}/devices/{name}": Link(f"../../../../class/block/{name}") for name in members}


def test_btrfs_on_several_disks_is_on_each(tmp_path: Path) -> None:
    world = {**TWO, **btrfs("sda", "sdb1"), "sys/fs/btrfs/features/": "", "proc/self/mountinfo": mount("/dev/sda")}
    use = "mounted on /"
    assert uses(write(tmp_path, world)) == ({NIC: use, "0000:3c:00.0": use}, [])


@pytest.mark.parametrize("source", ["/dev/root", "/dev/disk/by-uuid/1-2"])
def test_btrfs_by_a_name_that_only_udev_knows_is_found_in_sysfs(tmp_path: Path, source: str) -> None:
    world = {**TWO, **btrfs("sda"), **btrfs("sdb1", uuid="77aa"), "proc/self/mountinfo": mount(source)}
    use = "in a mounted btrfs"
    assert uses(write(tmp_path, world)) == ({NIC: use, "0000:3c:00.0": use}, [])


@pytest.mark.parametrize("number", ["0:41", "8:0"])
def test_bcachefs_names_all_its_disks(tmp_path: Path, number: str) -> None:
    world = {**TWO, "proc/self/mountinfo": mount("/dev/sda:/dev/sdb1", "bcachefs", number)}
    use = "mounted on /"
    assert uses(write(tmp_path, world)) == ({NIC: use, "0000:3c:00.0": use}, [])


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("zfs", "tank/data"),
        ("btrfs", "/dev/root"),
        ("btrfs", "/dev/mapper/gone"),
        ("btrfs", "/dev/.."),
        ("bcachefs", "/dev/disk/by-path/pci-0000:3b:00.0-scsi-0:0:0:0"),
        ("bcachefs", "/dev/sda:/dev/gone"),
    ],
)
def test_a_file_system_that_leads_to_no_disk_is_named(tmp_path: Path, kind: str, source: str) -> None:
    write(tmp_path, {**TWO, "proc/self/mountinfo": mount(source, kind, point="/srv")})
    assert uses(tmp_path)[1] == [f"proc/self/mountinfo: {kind} {source} on /srv leads to no disk"]


def test_a_zfs_pool_is_named_once(tmp_path: Path) -> None:
    mounts = mount("tank/a", "zfs", "0:41", "/a") + mount("tank/b", "zfs", "0:42", "/b") + mount("two", "zfs", "0:43")
    found = uses(write(tmp_path, {**TWO, "proc/self/mountinfo": mounts}))
    whys = ["zfs tank/a on /a leads to no disk", "zfs two on / leads to no disk"]
    assert found == ({}, [f"proc/self/mountinfo: {why}" for why in whys])


SWAPS = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


@pytest.mark.parametrize("name", ["/dev/dm-0", "/dev/mapper/swap", "/dev/dm-0\\040(deleted)"])
def test_a_disk_that_is_swapped_to_is_used(tmp_path: Path, name: str) -> None:
    swaps = f"{SWAPS}/swap.img file\t8\t0\t-2\n{name}    partition\t8\t0\t-3\n"
    world = {**TWO, **mapper("dm-0", "253:0", "swap", sdb1="8:17"), "proc/swaps": swaps}
    assert uses(write(tmp_path, world)) == ({"0000:3c:00.0": "swap"}, [])


def test_swap_that_leads_to_no_disk_is_named(tmp_path: Path) -> None:
    write(tmp_path, {**TWO, "proc/swaps": f"{SWAPS}/dev/gone partition 8 0 -2\n"})
    assert uses(tmp_path) == ({}, ["proc/swaps: /dev/gone leads to no disk"])


def test_a_disk_that_something_is_built_on_is_used_without_any_mount(tmp_path: Path) -> None:
    """A virtual machine may have a logical volume as its disk."""
    world = {
        **part("nvme0n1p3", NIC, "259:3", "dm-3"),
        **part("sda", "0000:3c:00.0", "8:0", "md0"),
        **part("sdb", "0000:3d:00.0", "8:16"),
        **mapper("dm-3", "253:3", "vg-lv", nvme0n1p3="259:3"),
    }
    assert uses(write(tmp_path, world)) == ({NIC: "holds dm-3 (vg-lv)", "0000:3c:00.0": "holds md0"}, [])


def test_one_disk_that_cannot_be_followed_hides_no_other(tmp_path: Path) -> None:
    world = {**part("sda", NIC, "8:0", "dm-3"), **part("sdb", "0000:3c:00.0", "8:16", "dm-4")}
    world |= {
        "sys/devices/virtual/block/dm-3/dm/name": Link("name"),
        "sys/class/block/dm-3": Link("../../devices/virtual/block/dm-3"),
    }
    assert uses(write(tmp_path, world)) == (
        {"0000:3c:00.0": "holds dm-4"},
        [f"sys/class/block/dm-3/dm/name: {LINK}"],
    )


@pytest.mark.parametrize("point", [b"/home/x/\xff", b"/home/x/\x00", b"/home/x/\xe2\x80\xa8"])
def test_a_mount_point_that_is_no_text_hides_nothing(tmp_path: Path, point: bytes) -> None:
    """Any user can mount something somewhere."""
    mounts = b"40 1 0:50 / " + point + b" rw - fuse.x x rw\n" + mount("/dev/sda", "ext4", "8:0").encode()
    assert uses(write(tmp_path, {**TWO, "proc/self/mountinfo": mounts})) == ({NIC: "mounted on /"}, [])


@pytest.mark.parametrize(
    ("point", "shown"),
    [(b"/a\\040b\\134", "/a b\\"), (b"/\xff", r"/\xff"), ("/\x1bé".encode(), r"/\x1bé"), (b"/\\012", r"/\012")],
)
def test_a_mount_point_is_shown_as_it_is_called(tmp_path: Path, point: bytes, shown: str) -> None:
    mounts = b"29 1 8:0 / " + point + b" rw - ext4 /dev/sda rw\n"
    assert uses(write(tmp_path, {**TWO, "proc/self/mountinfo": mounts})) == ({NIC: f"mounted on {shown}"}, [])


@pytest.mark.parametrize("text", ["", "\n", "x\n", b"\xff"])
def test_a_host_without_any_mount_was_not_read(tmp_path: Path, text: str | bytes) -> None:
    write(tmp_path, {"proc/self/mountinfo": text})
    assert uses(tmp_path) == ({}, ["proc/self/mountinfo: names no mount, though every host has some"])


@pytest.mark.parametrize("missing", ["proc/self/mountinfo", "proc/net/route"])
def test_what_every_machine_has_is_missed(tmp_path: Path, missing: str) -> None:
    """A capture may lack it."""
    world: dict[str, str] = {"proc/self/mountinfo": PROC_MOUNT, "proc/net/route": HEADER}
    del world[missing]
    problems: list[Problem] = []
    with Directory(write(tmp_path, world), machine=True) as tree:
        assert host_use(tree, problems) == ({}, False)
    assert [each.problem.partition(",")[0] for each in problems] == [f"{missing}: is absent"]
    assert uses(tmp_path) == ({}, [])


def noted(top: Path) -> dict[str, Any]:
    """Gives what a capture would hold of /proc."""
    with Directory(top) as tree:
        recorder = Recorder(tree)
        host_use(recorder, [])
    return {
        question.path: answer.decode()
        for question, answer in recorder.notes.items()
        if question.kind is Kind.FILE and question.path.startswith("proc/") and answer is not None
    }


@pytest.mark.parametrize("root", [mount("tmpfs", "tmpfs", "0:20"), mount("/dev/sda", "ext4", "8:0")])
def test_a_capture_holds_only_what_is_needed(tmp_path: Path, root: str) -> None:
    swap = "/dev/sda partition 8 0 -2\n"
    halves = route4("eth0", "00000000", "00000080") + route4("eth0", "00000080", "00000080")
    kept = root + mount("/dev/sda") + mount("tank", "zfs", "0:42", "/tank")
    world = {
        **TWO,
        "proc/self/mountinfo": PROC_MOUNT + kept + mount("overlay", "overlay", "0:60", "/secret"),
        "proc/swaps": f"{SWAPS}/secret.img file 8 0 -3\n{swap}",
        "proc/net/route": HEADER + halves + route4("eth0", "000200C0", "00FFFFFF"),
    }
    expected = {"proc/self/mountinfo": kept, "proc/swaps": swap, "proc/net/route": halves}
    assert noted(write(tmp_path / "a", world)) == expected
    assert noted(write(tmp_path / "b", {**TWO, **expected})) == expected


def test_a_capture_of_a_host_without_disks_is_of_a_host_with_mounts(tmp_path: Path) -> None:
    other = mount("tmpfs", "tmpfs", "0:20", "/run")
    assert noted(write(tmp_path, {"proc/self/mountinfo": PROC_MOUNT + other})) == {"proc/self/mountinfo": PROC_MOUNT}
