# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the kernel tells between two looks, and whose it is: a device's own, one of its VFs', or all devices'."""

from __future__ import annotations

import pytest

from devagent.inventory.happenings import by_address, happened, of_device
from devagent.model.device import Device
from devagent.model.health import End, Health, State, Trouble
from devagent.model.occurrence import AerError, DriverLoaded, Occurrence, PcieError, Xid

from ..worlds import claim, managed, pf

OF, VF, *_ = pf(2, driver="mlx5_core")
NIC, ELSEWHERE = OF.address, "0000:af:00.0"
CRASHED = Trouble("xid 46", Health(State.UNHEALTHY, ("it stopped",)), End.RESET, present=False)


def nic() -> Device:
    return managed(OF, claim=claim(OF))


def after(occurrence: Occurrence, *known: Trouble, device: Device | None = None) -> tuple[Trouble, ...]:
    """Gives the troubles of a device after an occurrence."""
    return happened(device or nic(), known, occurrence, 1.0, {}, acts=False)[0]


def test_a_device_gets_what_is_its_own_its_vfs_and_all_devices_in_the_order_in_which_it_happened() -> None:
    loaded = DriverLoaded(1.0)
    own, vfs = PcieError(NIC, "begin_recovery"), PcieError(VF.address, "begin_recovery")
    others, again = Xid(ELSEWHERE, 46, "", 1.0), PcieError(NIC, "failed_recovery")
    found = by_address([vfs, own, others, loaded, again])
    assert of_device(nic(), found) == [vfs, own, loaded, again]
    assert of_device(nic(), by_address([others])) == []


@pytest.mark.parametrize("occurrence", [Xid(VF.address, 46, "", 0.0), AerError(VF.address, True, 0.0)])
def test_what_a_vf_met_alone_is_not_the_whole_devices(occurrence: Occurrence) -> None:
    assert happened(nic(), (CRASHED,), occurrence, 1.0, {}, acts=False) == ((CRASHED,), ())


def test_only_of_nvidias_gpus_a_module_that_is_loaded_was_a_reset() -> None:
    """What is told is that the module nvidia was loaded."""
    (gpu, *_) = pf(0, ids="10de:26b9")
    assert after(DriverLoaded(1.0), CRASHED) == (CRASHED,)
    (left,) = after(DriverLoaded(1.0), CRASHED, device=managed(gpu))
    assert left.end is End.CHECKS


def test_a_state_of_the_recovery_that_no_kernel_has_today_says_nothing() -> None:
    assert happened(nic(), (CRASHED,), PcieError(NIC, "another"), 1.0, {}, acts=False) == ((CRASHED,), ())


def test_a_recovery_of_a_vf_ends_no_trouble_of_the_device_or_of_another_vf() -> None:
    known = after(PcieError(NIC, "failed_recovery"), *after(PcieError(VF.address, "failed_recovery")))
    assert {each.source: each.end for each in after(PcieError(VF.address, "successful_recovery"), *known)} == {
        "pcie recovery": End.RECOVERY,
        "pcie recovery of VF 0": End.CHECKS,
    }
