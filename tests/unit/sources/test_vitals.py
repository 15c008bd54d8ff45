# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a check-up reads of a host besides its devices."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from devagent.model.vitals import Module, Vitals
from devagent.sources import vitals as source
from devagent.sources.host import Directory

from ..worlds import PCI, Link, World, write

KERNEL = "6.8.0-31-generic"
MODULES = f"lib/modules/{KERNEL}"
DEP = "kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/drivers/vfio/pci/vfio-pci-core.ko.xz\n"
PF, VF = "0000:17:00.0", "0000:17:00.2"
NVRM = "NVRM version: NVIDIA UNIX"
CPU = "processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: fpu vmx {flag}\n\n"


def read(top: Path, world: World, functions: tuple[str, ...] = (), pfs: tuple[str, ...] = ()) -> Vitals:
    with Directory(write(top, world)) as tree:
        return source.vitals(tree, KERNEL, functions, pfs)


def test_an_empty_host_tells_nothing(tmp_path: Path) -> None:
    modules = dict.fromkeys(("vfio_pci", "vfio_iommu_type1", "iommufd"))
    assert read(tmp_path, {}, (PF,), (PF,)) == Vitals(kernel=KERNEL, modules=modules)


def test_the_command_line_and_the_cpu_are_read(tmp_path: Path) -> None:
    world = {"proc/cmdline": "ro intel_iommu=on\n", "proc/cpuinfo": CPU.format(vendor="GenuineIntel", flag="") * 2}
    seen = read(tmp_path, world)
    assert (seen.command_line, seen.cpu, seen.virtual) == (("ro", "intel_iommu=on"), "GenuineIntel", False)


def test_a_hypervisor_below_is_seen(tmp_path: Path) -> None:
    seen = read(tmp_path, {"proc/cpuinfo": CPU.format(vendor="AuthenticAMD", flag="hypervisor lahf_lm")})
    assert (seen.cpu, seen.virtual) == ("AuthenticAMD", True)


@pytest.mark.parametrize(("names", "described"), [([], None), (["FACP"], False), (["FACP", "IVRS"], True)])
def test_the_firmware_describes_an_iommu_or_none(tmp_path: Path, names: list[str], described: bool | None) -> None:
    assert read(tmp_path, {f"sys/firmware/acpi/tables/{name}": "" for name in names}).firmware_iommu is described


def test_shared_groups_leave_out_bridges(tmp_path: Path) -> None:
    members = {1: ["0000:01:00.0", "0000:01:00.1"], 2: ["0000:00:01.0", "0000:02:00.0"], 3: ["0000:03:00.0"]}
    world = {
        f"sys/kernel/iommu_groups/{group}/devices/{address}": Link(f"../../../../bus/pci/devices/{address}")
        for group, addresses in members.items()
        for address in addresses
    }
    files = {f"{PCI}/{address}/class": "0x030200\n" for addresses in members.values() for address in addresses}
    seen = read(tmp_path, {**world, **files, f"{PCI}/0000:00:01.0/class": "0x060400\n"})
    assert (seen.groups, seen.shared) == (3, {1: ("0000:01:00.0", "0000:01:00.1")})


def test_a_kernel_without_groups_is_not_one_that_does_not_tell(tmp_path: Path) -> None:
    assert read(tmp_path / "a", {"sys/kernel/iommu_groups/": ""}).groups == 0
    assert read(tmp_path / "b", {"proc/cmdline": ""}).groups is None


def test_a_module_is_loaded_built_in_loadable_or_absent(tmp_path: Path) -> None:
    world = {
        "sys/module/iommufd/": "",
        f"{MODULES}/modules.dep": DEP,
        f"{MODULES}/modules.builtin": "kernel/drivers/vfio/vfio_iommu_type1.ko\n",
    }
    found = read(tmp_path / "a", world).modules
    assert found == {"vfio_pci": Module.LOADABLE, "vfio_iommu_type1": Module.BUILT_IN, "iommufd": Module.LOADED}
    assert set(read(tmp_path / "b", {f"{MODULES}/modules.dep": "a.ko:\n"}).modules.values()) == {Module.ABSENT}


@pytest.mark.parametrize(
    ("world", "version"),
    [
        ({"sys/module/nvidia/version": "570.124.06\n"}, "570.124.06"),
        ({"proc/driver/nvidia/version": f"{NVRM} x86_64 Kernel Module  535.54.03  Tue Jun\n"}, "535.54.03"),
        ({"proc/driver/nvidia/version": f"{NVRM} Open Kernel Module for x86_64  570.86.15  R\n"}, "570.86.15"),
        ({"proc/driver/nvidia/version": "something else\n"}, None),
    ],
)
def test_the_version_of_nvidias_module_is_read(tmp_path: Path, world: World, version: str | None) -> None:
    assert read(tmp_path, world).nvidia_module == version


@pytest.mark.parametrize(
    "world",
    [
        {"usr/lib64/libnvidia-ml.so.1": Link("libnvidia-ml.so.570.124.06")},
        {"usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1": Link("/usr/lib/elsewhere/libnvidia-ml.so.570.124.06")},
        {
            "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1": Link("/etc/alternatives/glx--libnvidia-ml.so.1"),
            "etc/alternatives/glx--libnvidia-ml.so.1": Link("/usr/lib/x86_64-linux-gnu/nvidia/libnvidia-ml.so.1"),
            "usr/lib/x86_64-linux-gnu/nvidia/libnvidia-ml.so.1": Link("libnvidia-ml.so.570.124.06"),
        },
    ],
)
def test_the_version_of_nvml_is_in_its_files_name(tmp_path: Path, world: World) -> None:
    assert read(tmp_path, world).nvidia_library == "570.124.06"


def test_a_library_whose_links_loop_has_no_version(tmp_path: Path) -> None:
    assert read(tmp_path, {"usr/lib64/libnvidia-ml.so.1": Link("libnvidia-ml.so.1")}).nvidia_library is None


def test_only_an_override_that_is_set_is_told(tmp_path: Path) -> None:
    world = {f"{PCI}/{PF}/driver_override": "(null)\n", f"{PCI}/{VF}/driver_override": "vfio-pci\n"}
    assert read(tmp_path, world, (PF, VF, "0000:18:00.0")).overrides == {VF: "vfio-pci"}


def test_sriov_numvfs_is_a_number_or_unread(tmp_path: Path) -> None:
    world = {f"{PCI}/{PF}/sriov_numvfs": "8\n", f"{PCI}/{VF}/sriov_numvfs": "many\n"}
    seen = read(tmp_path, world, pfs=(PF, VF, "0000:18:00.0"))
    assert (seen.num_vfs, seen.no_answer) == ({PF: 8}, {})
    assert seen.unread == {"vf-count": f"{VF}/sriov_numvfs: many"}


def test_a_pf_that_does_not_answer_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = {f"{PCI}/{PF}/sriov_numvfs": "8\n", f"{PCI}/{VF}/sriov_numvfs": "4\n"}
    monkeypatch.setattr(source, "_LIMIT", 0.1)
    monkeypatch.setattr(os, "open", _stopping(os.open, f"{PF}/sriov_numvfs"))
    seen = read(tmp_path, world, pfs=(PF, VF))
    assert seen.num_vfs == {VF: 4}
    assert seen.no_answer == {PF: "did not answer within 0.1 s"}


def _stopping(really: Callable[..., int], path: str) -> Callable[..., int]:
    """Gives an open that never comes back from one path, as where the PF's lock is held."""

    def opening(name: str, *more: object, **named: object) -> int:
        while os.fspath(name).endswith(path):
            pass
        return really(name, *more, **named)

    return opening


def test_what_driverctl_and_mdevctl_do_at_boot(tmp_path: Path) -> None:
    uuid = "4b20d080-1b54-4048-85b3-a6a62d165c0"
    world = {
        f"etc/driverctl.d/{PF}": "vfio-pci\n",
        "etc/driverctl.d/vmbus-1234": "uio\n",
        f"etc/mdevctl.d/{PF}/{uuid}1": '{"mdev_type": "nvidia-558", "start": "auto", "attrs": []}',
        f"etc/mdevctl.d/{PF}/{uuid}2": '{"mdev_type": "nvidia-558", "start": "manual", "attrs": []}',
        f"etc/mdevctl.d/{PF}/{uuid}3": "damaged",
        f"etc/mdevctl.d/{VF}/{uuid}4": '["auto"]',
    }
    seen = read(tmp_path, world)
    assert (seen.driverctl, seen.mdevctl) == ({PF: "vfio-pci"}, {PF: 1})


def test_what_cannot_be_read_is_said_and_all_else_is_there(tmp_path: Path) -> None:
    world: World = {
        f"etc/driverctl.d/{PF}/": "",
        "proc/cmdline": b"\xff",
        f"{MODULES}/modules.dep/": "",
        "sys/module/nvidia/version": "570.124.06\n",
    }
    seen = read(tmp_path, world)
    assert sorted(seen.unread) == ["driverctl", "iommu", "vfio"]
    assert seen.nvidia_module == "570.124.06"
