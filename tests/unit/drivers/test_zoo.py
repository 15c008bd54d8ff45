# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The described host with one of each: every device is found by its own driver, with what it tells."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from devagent.discovery import Discovery
from devagent.model.device import Device
from devagent.model.health import State

FOUND = {
    "0000:00:02.0": ("mdev", "mdev parent [0b25]", None, 0),
    "0000:00:0b.0": ("qat", "QAT 4xxx", "CUSTOM_QAT_VF", 16),
    "0000:11:00.0": ("amd", "MI300X", "PGPU", 1),
    "0000:12:00.0": ("amd", "MI300X", "PGPU", 1),
    "0000:13:00.0": ("amd", "MI210", "PGPU", 1),
    "0000:14:00.0": ("accel", "Gaudi 3", "CUSTOM_PCI_1DA3_1060", 1),
    "0000:81:00.0": ("intel_gpu", "Data Center GPU Flex 170", "CUSTOM_PCI_8086_56C0", 2),
    "0000:82:00.0": ("intel_gpu", "Arc Pro B60", "PGPU", 1),
    "0000:83:00.0": ("nvme", "PM173X", "CUSTOM_NVME_VF", 4),
    "0000:84:00.0": ("xilinx", "Alveo U250 (management)", None, 0),
    "0000:84:00.1": ("xilinx", "Alveo U250", "FPGA", 1),
    "0000:85:00.0": ("dfl", "N6001", "CUSTOM_FPGA_VF", 1),
}


@pytest.fixture
def zoo(discovery: Callable[[str], Discovery]) -> dict[str, Device]:
    return {device.address: device for device in discovery("zoo").devices}


def test_each_is_claimed_by_its_own_driver(zoo: dict[str, Device]) -> None:
    assert {
        address: (device.claim.driver, device.claim.model, device.decision.resource_class, device.decision.total)
        for address, device in zoo.items()
    } == FOUND


def test_nothing_is_wrong_with_it(discovery: Callable[[str], Discovery], zoo: dict[str, Device]) -> None:
    assert discovery("zoo").problems == ()
    assert {device.health.state for device in zoo.values()} <= {State.HEALTHY, State.UNMONITORED}


def test_what_the_vendor_made_immutable_identifies(zoo: dict[str, Device]) -> None:
    told = {address: device.identity.value for address, device in zoo.items() if device.identity.source != "topology"}
    assert told == {
        "0000:11:00.0": "4d8c3b93e1f70a52",
        "0000:12:00.0": "7be0114fa9c2d386",
        "0000:83:00.0": "S6XGNE0T400123",
        "0000:84:00.0": "21330404302A",
        "0000:84:00.1": "21330404302A",
    }


def test_the_mi300x_are_joined_by_xgmi(zoo: dict[str, Device]) -> None:
    first, second = zoo["0000:11:00.0"].claim.gpu, zoo["0000:12:00.0"].claim.gpu
    assert first is not None
    assert second is not None
    assert ([link.peer for link in first.links], [link.peer for link in second.links]) == (
        ["0000:12:00.0"],
        ["0000:11:00.0"],
    )
    assert first.partition is not None
    assert second.partition is not None
    assert (first.partition.compute, second.partition.compute) == ("SPX", "DPX")
