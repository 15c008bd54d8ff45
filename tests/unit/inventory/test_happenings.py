# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the kernel tells between two looks, and whose it is: a device's own, one of its VFs', or all devices'."""

from __future__ import annotations

import pytest

from devagent.inventory.happenings import by_address, happened, of_device
from devagent.model.device import Device
from devagent.model.health import End, Evidence, Health, State, Trouble
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
    assert [(each.source, each.end) for each in after(PcieError(VF.address, "successful_recovery"), *known)] == [
        ("pcie recovery", End.RECOVERY),
        ("pcie recovery of VF 0", End.CHECKS),
    ]


@pytest.mark.parametrize(
    ("xid", "text", "reason"),
    [
        (Xid(NIC, 123, "", 7.0), "XID 123: the power controller refused a write", ""),
        (Xid(NIC, 54, "", 7.0), "XID 54: a power cable is missing or loose", ": check its power cables"),
        (
            Xid(NIC, 54, "x" * 201, 7.0),
            f"XID 54: a power cable is missing or loose: {'x' * 200}",
            ": check its power cables",
        ),
        (Xid(NIC, 13, "pid=1", 7.0), "XID 13: graphics engine exception, a program's fault: pid=1", None),
        (Xid(NIC, 54, "", 7.0, "GI 5"), "XID 54: a power cable is missing or loose (GI 5)", None),
    ],
)
def test_an_xid_leaves_evidence_and_trouble_only_if_it_is_the_whole_gpus(
    xid: Xid, text: str, reason: str | None
) -> None:
    found, left = happened(nic(), (), xid, 9.0, {}, acts=False)
    assert left == (Evidence(7.0, text, f"xid {xid.number}"),)
    assert [each.health.reasons for each in found] == (
        [] if reason is None else [(text.removesuffix(f": {'x' * 200}") + reason,)]
    )
    assert not any(each.present for each in found)


@pytest.mark.parametrize(
    ("fatal", "state", "text"),
    [
        (True, State.UNHEALTHY, "fatal PCIe error (AER, kernel log)"),
        (False, State.SUSPECT, "non-fatal PCIe error (AER, kernel log)"),
    ],
)
def test_an_error_in_the_log_is_trouble_that_an_operator_can_clear(fatal: bool, state: State, text: str) -> None:
    assert happened(nic(), (), AerError(NIC, fatal, 7.0), 9.0, {}, acts=False) == (
        (Trouble("aer log", Health(state, (text,)), present=False),),
        (Evidence(7.0, text, "aer log"),),
    )


FAILED = "the kernel could not recover {} from a PCIe error: reboot this host, or remove and rescan it"


@pytest.mark.parametrize(
    ("state", "word", "own", "of_vf"),
    [
        ("begin_recovery", "the kernel recovers {} from a PCIe error", State.SUSPECT, State.SUSPECT),
        ("failed_recovery", FAILED, State.UNHEALTHY, State.SUSPECT),
        ("successful_recovery", "the kernel recovered {} from a PCIe error", None, None),
    ],
)
def test_a_recovery_is_told_with_whose_it_is(state: str, word: str, own: State | None, of_vf: State | None) -> None:
    for address, whose, source, worst in (
        (NIC, "it", "pcie recovery", own),
        (VF.address, f"its VF 0 ({VF.address})", "pcie recovery of VF 0", of_vf),
    ):
        found, left = happened(nic(), (), PcieError(address, state), 9.0, {}, acts=False)
        text = word.format(whose)
        assert left == (Evidence(9.0, text, source),)
        trouble = [] if worst is None else [Trouble(source, Health(worst, (text,)), End.RECOVERY, present=False)]
        assert list(found) == trouble
