# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The described hosts become trees that look as a kernel's."""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .generate import DescriptionError, generate, generate_archive

HERE = Path(__file__).parent
DEVICES = "sys/bus/pci/devices"
FUNCTIONS = {"gpu8": 70, "fpga": 14, "qat": 46, "big": 4096, "vm": 5, "zoo": 48, "hgx": 84, "mixed": 129}

BRIDGE = {"id": "8086:2030", "class": "060400", "driver": "pcieport"}
NIC = {"id": "15b3:1021", "class": "020000", "driver": "mlx5_core"}


MEMORY = Path("/dev/shm")
ROOM = 1 << 30


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, Path]]:
    """Returns the tree of each described host."""
    # A hundred thousand small files take a disk up to a minute and memory three seconds.
    memory = MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM else None
    with tempfile.TemporaryDirectory(dir=memory) as top:
        yield {name: generate(HERE / f"{name}.yaml", Path(top, name)) for name in FUNCTIONS}


def described(*devices: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Returns the description of a host with one root bus."""
    pci = [{"bus": "0000:3a", "node": 0, "devices": list(devices)}]
    return {"host": "h", "hostname": "h", "machine_id": "1", "boot_id": "2", "nodes": ["0-3"], "pci": pci} | more


def functions(top: Path) -> list[Path]:
    """Returns the links to a host's functions, a share of them where they are thousands."""
    found = sorted((top / DEVICES).iterdir())
    return found[:: 1 + len(found) // 500]


def read(top: Path, path: str) -> str:
    """Returns a file without its newline, which it must have."""
    text = (top / path).read_text()
    assert text.endswith("\n"), path
    return text[:-1]


def test_every_description_is_tested() -> None:
    assert {path.stem for path in HERE.glob("*.yaml")} == set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_host_has_its_functions(hosts: dict[str, Path], name: str) -> None:
    assert len(list((hosts[name] / DEVICES).iterdir())) == FUNCTIONS[name]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_links_resolve_inside_the_tree(hosts: dict[str, Path], name: str) -> None:
    paths: set[str] = set()
    targets: dict[str, str] = {}
    for folder, folders, files in os.walk(hosts[name]):
        for path in (f"{folder}/{entry}" for entry in folders + files):
            paths.add(path)
            if Path(path).is_symlink():
                targets[path] = os.path.normpath(f"{folder}/{Path(path).readlink()}")
    # No target leads through another link, so that its text alone says where it is.
    assert {link: target for link, target in targets.items() if target not in paths or target in targets} == {}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_well_formed(hosts: dict[str, Path], name: str) -> None:
    for link in functions(hosts[name]):
        path = link.resolve()
        uevent = dict(line.split("=", 1) for line in (path / "uevent").read_text().splitlines())
        assert path.name == link.name == uevent["PCI_SLOT_NAME"]
        assert (path / "modalias").read_text() == uevent["MODALIAS"] + "\n"
        driver = path / "driver"
        assert uevent.get("DRIVER") == (driver.resolve().name if driver.is_symlink() else None)
        assert not driver.is_symlink() or (driver / link.name).resolve() == path
        group = path / "iommu_group"
        assert group.is_symlink() == (name != "vm")
        assert not group.is_symlink() or (group / "devices" / link.name).resolve() == path


@pytest.mark.parametrize("name", FUNCTIONS)
def test_virtual_functions_lie_beside_their_pf(hosts: dict[str, Path], name: str) -> None:
    for link in functions(hosts[name]):
        path = link.resolve()
        virtfns = sorted(path.glob("virtfn*"))
        assert len(virtfns) == int(read(path, "sriov_numvfs") if (path / "sriov_numvfs").exists() else 0)
        for virtfn in virtfns:
            vf = virtfn.resolve()
            assert virtfn.readlink() == Path("..", vf.name)
            assert (vf / "physfn").readlink() == Path("..", path.name)
            assert not (vf / "remove").exists()
            assert (path / "remove").exists()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_default_route_and_root_disk_lead_to_devices(hosts: dict[str, Path], name: str) -> None:
    top = hosts[name]
    heading, default, *_ = (top / "proc/net/route").read_text().splitlines()
    assert len(heading) == len(default) == 127
    interface, destination, *_ = default.split()
    assert destination == "00000000"
    assert (top / "sys/class/net" / interface / "operstate").read_text() == "up\n"
    root = next(line.split() for line in (top / "proc/self/mountinfo").read_text().splitlines() if " / / " in line)
    assert read(top, f"sys/dev/block/{root[2]}/dev") == root[2]


def test_gpu8_pf_reads_as_from_a_kernel(hosts: dict[str, Path]) -> None:
    gpu = hosts["gpu8"] / DEVICES / "0000:19:00.0"
    assert (gpu / "uevent").read_text() == (
        "DRIVER=nvidia\nPCI_CLASS=30200\nPCI_ID=10DE:20F1\nPCI_SUBSYS_ID=10DE:145F\nPCI_SLOT_NAME=0000:19:00.0\n"
        "MODALIAS=pci:v000010DEd000020F1sv000010DEsd0000145Fbc03sc02i00\n"
    )
    names = ("class", "revision", "driver_override", "local_cpulist", "reset_method", "sriov_vf_device")
    assert [read(gpu, name) for name in names] == ["0x030200", "0xa1", "(null)", "0-31,64-95", "flr bus", "20f1"]
    assert (gpu.resolve() / "driver").readlink() == Path("../../../../../../bus/pci/drivers/nvidia")


def test_gpu8_bond_holds_both_ports(hosts: dict[str, Path]) -> None:
    net = hosts["gpu8"] / "sys/class/net"
    assert read(net, "bonding_masters") == "bond0"
    for port in ("eno1", "eno2"):
        assert (net / port / "master").resolve() == (net / "bond0").resolve()
        assert (net / "bond0" / f"lower_{port}").resolve() == (net / port).resolve()


def test_gpu8_vfs_are_shared_out(hosts: dict[str, Path]) -> None:
    pf = hosts["gpu8"] / DEVICES / "0000:1b:00.1"
    drivers = [(pf / f"virtfn{index}" / "driver").resolve().name for index in range(8)]
    assert drivers == ["vfio-pci"] * 4 + ["mlx5_core"] * 4
    assert [(pf / f"virtfn{index}" / "net").exists() for index in (3, 4)] == [False, True]


def test_dfl_card_is_laid_out_as_captured(hosts: dict[str, Path]) -> None:
    region = hosts["fpga"] / DEVICES / "0000:19:00.0/fpga_region/region2"
    assert not (region / "compat_id").exists()
    assert read(region, "dfl-fme.1/ports_num") == "1"
    assert read(region, "dfl-port.1/afu_id") == "d8424dc4a4a3c413f89e433683f9040b"
    inner = hosts["fpga"] / "sys/class/fpga_region/region3"
    assert inner.resolve().parent.parent.name == "dfl-fme-region.2"
    assert read(inner, "compat_id") == "38d782e3b6125343b9342433e348ac4c"
    assert read(region, "dfl-fme.1/dfl-fme-mgr.1/fpga_manager/fpga1/name") == "DFL FME FPGA Manager"
    assert (inner / "device").readlink() == Path("../../../dfl-fme-region.2")


def test_plain_fpga_manager_names_its_card(hosts: dict[str, Path]) -> None:
    assert read(hosts["fpga"], "sys/class/fpga_manager/fpga3/name") == "Altera CvP FPGA Manager @0000:b4:00.0"


def test_vmd_domain_hangs_below_its_function(hosts: dict[str, Path]) -> None:
    disk = (hosts["qat"] / DEVICES / "10000:01:00.0").resolve()
    vmd = hosts["qat"] / DEVICES / "0000:00:02.0"
    assert disk.is_relative_to((vmd / "pci10000:00").resolve())
    assert (disk / "iommu_group").resolve() == (vmd / "iommu_group").resolve()


def test_vm_has_no_iommu_and_no_nodes(hosts: dict[str, Path]) -> None:
    assert not list((hosts["vm"] / "sys/kernel/iommu_groups").iterdir())
    assert {read(path, "numa_node") for path in (hosts["vm"] / DEVICES).iterdir()} == {"-1"}


def test_big_vfs_reach_into_the_next_bus(hosts: dict[str, Path]) -> None:
    pf = hosts["big"] / DEVICES / "0000:21:00.1"
    # RID 0x2101 + offset 253 = 0x21fe, and two more are on the next bus.
    assert read(pf, "sriov_offset") == "253"
    assert [(pf / f"virtfn{index}").readlink().name for index in (0, 1, 2, 251)] == [
        "0000:21:1f.6",
        "0000:21:1f.7",
        "0000:22:00.0",
        "0000:22:1f.1",
    ]
    assert read(hosts["big"], f"{DEVICES}/0000:20:00.0/subordinate_bus_number") == str(0x22)


def test_interleaved_vfs_share_their_offset(tmp_path: Path) -> None:
    nic = NIC | {"functions": 2, "vfs": {"total": 63, "count": 2, "offset": 128, "stride": 2}}
    generate(described(nic), tmp_path)
    second = tmp_path / DEVICES / "0000:3a:00.1"
    assert read(second, "sriov_offset") == "128"
    assert [(second / f"virtfn{index}").readlink().name for index in range(2)] == ["0000:3a:10.1", "0000:3a:10.3"]


def test_functions_without_acs_share_a_group(tmp_path: Path) -> None:
    audio = {"id": "10de:1aef", "class": "040300", "at": "00.1", "iommu_with": "00.0"}
    generate(described(NIC, audio), tmp_path)
    group = (tmp_path / DEVICES / "0000:3a:00.1/iommu_group").resolve()
    assert sorted(path.name for path in (group / "devices").iterdir()) == ["0000:3a:00.0", "0000:3a:00.1"]


def test_zoo_has_mediated_devices(hosts: dict[str, Path]) -> None:
    uuid = "4b20d080-1b54-4048-85b3-a6a62d165c01"
    parent = hosts["zoo"] / "sys/class/mdev_bus/0000:00:02.0"
    assert parent.resolve() == (hosts["zoo"] / DEVICES / "0000:00:02.0").resolve()
    assert read(parent, "mdev_supported_types/idxd-1dwq-v1/available_instances") == "3"
    device = parent / f"mdev_supported_types/idxd-1dwq-v1/devices/{uuid}"
    assert device.resolve() == (hosts["zoo"] / "sys/bus/mdev/devices" / uuid).resolve() == parent.resolve() / uuid
    assert (device / "mdev_type").resolve().name == "idxd-1dwq-v1"


def test_zoo_has_a_kfd_node_per_partition(hosts: dict[str, Path]) -> None:
    nodes = hosts["zoo"] / "sys/class/kfd/kfd/topology/nodes"
    assert sorted(path.name for path in nodes.iterdir()) == ["0", "1", "2", "3", "4"]
    assert "\nlocation_id 268440064\n" in (nodes / "4/properties").read_text()  # partition 1 of 0000:12:00.0
    assert "type 11\n" in (nodes / "4/io_links/0/properties").read_text()


def test_vfs_of_a_drive_have_no_disks(hosts: dict[str, Path]) -> None:
    assert not (hosts["zoo"] / DEVICES / "0000:83:00.1/nvme").exists()


def test_attributes_are_written_below_the_function(tmp_path: Path) -> None:
    generate(described(NIC | {"attributes": {"qat/state": "up", "unique_id": "4d{bus:02x}"}}), tmp_path)
    function = tmp_path / DEVICES / "0000:3a:00.0"
    assert [read(function, "qat/state"), read(function, "unique_id")] == ["up", "4d3a"]


def test_empty_reset_leaves_no_reset_files(tmp_path: Path) -> None:
    generate(described(NIC | {"reset": []}), tmp_path)
    assert not list((tmp_path / DEVICES / "0000:3a:00.0").glob("reset*"))


def test_archive_holds_the_same_tree_and_is_the_same_twice(hosts: dict[str, Path], tmp_path: Path) -> None:
    first = generate_archive(HERE / "gpu8.yaml", tmp_path / "first.tar.xz")
    second = generate_archive(HERE / "gpu8.yaml", tmp_path / "second.tar.xz")
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == sorted(member.name for member in members)
    assert {(member.mtime, member.uid, member.gid, member.uname, member.gname) for member in members} == {
        (0, 0, 0, "", "")
    }
    tree = {"gpu8", *(f"gpu8/{path.relative_to(hosts['gpu8'])}" for path in hosts["gpu8"].rglob("*"))}
    assert {member.name for member in members} == tree


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "description: unknown key colour"),
        ({"types": {"nic": NIC | {"drivr": "x"}}}, "description: types.nic: unknown key drivr"),
        ({"types": {"nic": {"id": "15b3:1021"}}}, "description: types.nic: missing key class"),
        ({"types": {"nic": NIC | {"functions": "two"}}}, "description: types.nic.functions: cannot be 'two'"),
        ({"bonds": {"bond0": ["eth0"]}}, "h: bond0 has no interface eth0"),
        ({"types": {"nic": NIC | {"vfs": {"total": 1, "count": 2}}}}, "description: types.nic.vfs.count: 2 of 1"),
        (
            {"types": {"nic": NIC | {"vfs": {"total": 2, "count": 2, "driver": {"0-2": "x"}}}}},
            "description: types.nic.vfs.driver: no VFs 0-2",
        ),
        ({"nodes": []}, "description: pci[0].node: no node 0"),
        ({"kfd": [{"address": "3b:00.0"}]}, "description: kfd[0].address: cannot be '3b:00.0'"),
        (
            {"types": {"nic": NIC | {"mdev": {"types": {}, "devices": {"u": "t"}}}}},
            "description: types.nic.mdev.devices: a device of no such type",
        ),
        ({"root": "sda1"}, "h: the root file system has no block device sda1"),
    ],
)
def test_mistake_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DescriptionError) as error:
        generate(described(NIC) | change, tmp_path)
    assert str(error.value) == message


def test_mistake_in_a_file_names_the_file(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((HERE / "vm.yaml").read_text().replace("net: [ens3]", "nets: [ens3]"))
    with pytest.raises(DescriptionError, match=r"^wrong.yaml: pci\[0\]\.devices\[3\]: unknown key nets$"):
        generate(wrong, tmp_path / "tree")


def test_two_functions_at_one_address_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DescriptionError, match=r"two functions at 0000:3a:00.0"):
        generate(described(NIC | {"at": "00.0"}, NIC | {"at": "00.0"}), tmp_path)


def test_more_buses_than_a_domain_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DescriptionError):
        generate(described(BRIDGE | {"bus": "ff", "behind": [BRIDGE]}), tmp_path)


def test_command_line_writes_the_tree(tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "generate.py"), str(HERE / "vm.yaml"), str(tmp_path / "vm")]
    subprocess.run(command, check=True)
    assert read(tmp_path / "vm", "proc/sys/kernel/hostname") == "vm.example.org"
