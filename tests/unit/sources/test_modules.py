# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The drivers that could be bound are those whose aliases match, and the best VFIO driver is the most special one."""

from __future__ import annotations

from pathlib import Path

import pytest

from devagent.model.pci import Function, Sriov
from devagent.model.snapshot import Problem
from devagent.sources.host import Directory
from devagent.sources.modules import FOLDERS, matched

from ..worlds import NIC, World, function, pf, write
from .noting import Noting

KERNEL = "6.12.117-amd64"
PATH = f"lib/modules/{KERNEL}/modules.alias"
ALIASES = """\
# Aliases extracted from modules themselves.
alias usb:v15B3p101Dd*dc*dsc*dp*ic*isc*ip*in* no_pci
alias pci:v000010DEd*sv*sd*bc03sc02i00* nvidia
alias pci:v000010DEd*sv*sd*bc03sc*i* nouveau
alias pci:v000010DEd000020F1sv*sd*bc*sc*i* nova_core
alias pci:v000010DEd000020F1sv000010DEsd0000145Fbc*sc*i* for_one_board
alias pci:v000010DEd000020F2sv*sd*bc*sc*i* another_device
alias pci:v00008086d000020F1sv*sd*bc*sc*i* another_vendor
alias pci:v*d*sv*sd*bc03sc02i00* by_class
alias pci:v*d*sv*sd*bc01sc08i02* nvme
alias pci:v000015B3d0000101Dsv*sd*bc*sc*i* mlx5_core
alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci
alias vfio_pci:v000015B3d*sv*sd*bc*sc*i* for_the_vendor
alias vfio_pci:v000015B3d0000101Esv*sd*bc*sc*i* mlx5_vfio_pci
alias vfio_pci:v00008086d0000E20Bsv*sd*bc*sc*i* xe_vfio_pci
alias pci:odd
alias pci:v000010DEd000020F1 cut_off
"""
A100 = function(subsystem_vendor_id="10de", subsystem_device_id="145f", driver="nvidia")


def found(top: Path, *functions: Function, kernel: str | None = KERNEL) -> list[Function]:
    problems: list[Problem] = []
    with Directory(top) as tree:
        told = matched(tree, kernel, functions, problems)
    assert problems == []
    assert list(told) == [each.address for each in functions]
    return list(told.values())


@pytest.mark.parametrize("folder", FOLDERS)
def test_all_aliases_that_match_count(tmp_path: Path, folder: str) -> None:
    (told,) = found(write(tmp_path, {f"{folder}/{KERNEL}/modules.alias": ALIASES}), A100)
    assert told.drivers == ("by_class", "for_one_board", "nouveau", "nova_core", "nvidia")
    assert (told.vfio_driver, told.vf_vfio_driver) == ("vfio-pci", None)


def test_another_board_does_not_match_what_is_for_one(tmp_path: Path) -> None:
    (told,) = found(write(tmp_path, {PATH: ALIASES}), function())
    assert told.drivers == ("by_class", "nouveau", "nova_core", "nvidia")


def test_the_bound_driver_is_one_of_them_whatever_the_aliases_say(tmp_path: Path) -> None:
    write(tmp_path, {PATH: ALIASES})
    (told,) = found(tmp_path, function(ids="abcd:0001", class_code="ff0000", driver="vendor_drv"))
    assert told.drivers == ("vendor_drv",)
    (told,) = found(tmp_path, function(ids="abcd:0001", class_code="ff0000"))
    assert told.drivers == ()


def test_the_vfio_driver_with_the_fewest_wildcards_is_best(tmp_path: Path) -> None:
    head, *_ = pf(0)
    (told,) = found(write(tmp_path, {PATH: ALIASES}), head)
    assert (told.drivers, told.vfio_driver, told.vf_vfio_driver) == (("mlx5_core",), "for_the_vendor", "mlx5_vfio_pci")


def test_of_vfs_with_an_unknown_id_only_the_vendor_is_known(tmp_path: Path) -> None:
    nic = function(ids="15b3:101d", class_code=NIC, sriov=Sriov(8))
    (told,) = found(write(tmp_path, {PATH: ALIASES}), nic)
    assert told.vf_vfio_driver == "for_the_vendor"


def test_a_module_is_not_its_driver(tmp_path: Path) -> None:
    write(tmp_path, {PATH: ALIASES, "sys/module/nouveau/drivers/pci:renamed/": ""})
    gpu = function("0000:03:00.0", "8086:e20b", "030000")
    told, other = found(tmp_path, A100, gpu)
    assert told.drivers == ("by_class", "for_one_board", "nova_core", "nvidia", "renamed")
    assert other.vfio_driver == "xe-vfio-pci"


LOADED: World = {"sys/bus/pci/drivers/vfio-pci/bind": ""}


@pytest.mark.parametrize(
    ("world", "vfio"), [({}, None), (LOADED, "vfio-pci"), ({**LOADED, PATH: "alias pci:odd\n"}, "vfio-pci")]
)
def test_without_aliases_a_loaded_vfio_driver_is_known(tmp_path: Path, world: World, vfio: str | None) -> None:
    bound, free = function(driver="nvidia"), function("0000:3c:00.0")
    told, other = found(write(tmp_path, world), bound, free)
    assert (told.drivers, told.vfio_driver, told.vf_vfio_driver) == (("nvidia",), vfio, None)
    assert (other.drivers, other.vfio_driver) == ((), vfio)


@pytest.mark.parametrize("kernel", [None, "", "../../etc", "a/b", "..", "6.1\n"])
def test_a_kernel_without_a_release_has_no_aliases(tmp_path: Path, kernel: str | None) -> None:
    write(tmp_path, {"etc/modules.alias": ALIASES, PATH: ALIASES})
    (told,) = found(tmp_path, A100, kernel=kernel)
    assert told.drivers == ("nvidia",)


def test_an_unreadable_file_is_a_problem_and_the_bound_driver_stays(tmp_path: Path) -> None:
    problems: list[Problem] = []
    with Directory(write(tmp_path, {PATH: b"\xff"})) as tree:
        told = matched(tree, KERNEL, [A100, function("0000:3c:00.0")], problems)
    assert [each.drivers for each in told.values()] == [("nvidia",), ()]
    assert problems == [Problem("modules", None, f"{PATH}: is not text")]


def test_a_host_without_devices_reads_nothing(tmp_path: Path) -> None:
    assert found(write(tmp_path, {PATH: b"\xff"})) == []


def test_an_excerpt_holds_all_that_can_match_and_nothing_else(tmp_path: Path) -> None:
    head, *_ = pf(0)
    write(tmp_path, {PATH: ALIASES})
    with Noting(tmp_path) as tree:
        full = matched(tree, KERNEL, [head], [])
    kept = tree.kept[-1]
    assert kept.splitlines() == [line for line in ALIASES.splitlines() if "15B3d" in line or "ci:v*" in line]
    with Noting(write(tmp_path / "again", {PATH: kept})) as tree:
        assert matched(tree, KERNEL, [head], []) == full
    assert tree.kept[-1] == kept
