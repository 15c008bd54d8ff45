# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Captures of real machines, read as they were published; see DEVAGENT_RECORDED_HOSTS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .captures import FOLDER, N6000, NEC
from .conftest import Devagent

pytestmark = [pytest.mark.recorded, pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER} is not there")]


def discovered(devagent: Devagent, archive: Path, *more: str) -> dict[str, dict[str, Any]]:
    """Gives the devices by address."""
    ran = devagent("discover", "--root", archive, "-o", "json", *more)
    assert ran.code in (0, 4)
    assert ran.err == ""
    return {device["address"]: device for device in json.loads(ran.out)["devices"]}


@pytest.mark.parametrize("form", ["tree", "table", "json"])
@pytest.mark.parametrize("archive", [N6000, NEC], ids=lambda path: path.name.partition(".")[0])
def test_every_format_can_show_it(devagent: Devagent, archive: Path, form: str) -> None:
    ran = devagent("discover", "--all", "--root", archive, "-o", form)
    assert ran.code in (0, 4)
    assert ran.err == ""
    assert ran.out


@pytest.mark.parametrize("archive", [N6000, NEC], ids=lambda path: path.name.partition(".")[0])
def test_a_problem_is_told_if_and_only_if_the_exit_code_is_4(devagent: Devagent, archive: Path) -> None:
    ran = devagent("discover", "--root", archive, "-o", "json")
    assert (ran.code == 4) == bool(json.loads(ran.out)["problems"])


def test_n6000_is_one_fpga_with_three_vfs(devagent: Devagent) -> None:
    devices = discovered(devagent, N6000, "--all")
    card = devices["0000:b1:00.0"]
    vfs = card["sriov"]["vfs"]
    assert card["kind"] == "fpga"
    assert (card["numa_node"], card["iommu_group"]) == (1, 185)
    assert card["sriov"]["num_vfs"] == len(vfs) == 3
    assert [vf["index"] for vf in vfs] == [0, 1, 2]
    assert not {vf["address"] for vf in vfs} & devices.keys()


def test_nec_has_eight_accelerators_and_two_pfs_without_vfs(devagent: Devagent) -> None:
    devices = discovered(devagent, NEC)
    kinds = [device["kind"] for device in devices.values()]
    assert kinds.count("accelerator") == 8
    nics = [device for device in devices.values() if device["kind"] == "nic" and device["model"] == "X722"]
    assert [(nic["sriov"]["total_vfs"], nic["sriov"]["vfs"]) for nic in nics] == [(64, []), (64, [])]
