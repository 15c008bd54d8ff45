# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The policy's VFs are made where there are none, and nobody's VF is ever removed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devagent.inventory.vfs import Refusal, Step, VfPlan, plan
from devagent.model.claim import Kind, Mode
from devagent.model.device import Device
from devagent.model.identity import Identity
from devagent.model.policy import ALL_VFS, Policy, Rule
from devagent.model.user import User

from ..worlds import GPU, claim, decide, function, pf, rule, snapshot

PF = "0000:3b:00.0"
QEMU = User(4711, "qemu-system-x86", "/dev/vfio/102", "5e1f0000-0000-0000-0000-000000000000", "instance-0000001a")


def device(there: int, *rules: Rule, kind: Kind = Kind.NIC, host: Any = None, **more: Any) -> Device:
    """Gives a PF that can have 8 VFs and has some, as rules decide about it."""
    functions = pf(there, driver="mlx5_core") if "driver" not in more else pf(there, **more)
    return decide(snapshot(*functions, **host or {}), *rules, claims=[claim(functions[0], kind)])[PF]


def planned(wanted: int | None, seen: Device, held: Collection[str] | None = (), **more: Any) -> VfPlan:
    return plan([seen], Policy((rule(Mode.VF, vf_count=wanted, **more),), "test"), held)


def seen(there: int, wanted: int | None = 8, **more: Any) -> Device:
    return device(there, rule(Mode.VF, vf_count=wanted), **more)


def why(found: VfPlan) -> str:
    assert found.steps == ()
    (refusal,) = found.refused
    return refusal.why


def test_where_there_are_none_they_are_made() -> None:
    assert planned(8, seen(0)) == VfPlan((Step(PF, 8, "8 VFs", "mlx5_core"),))
    assert planned(8, seen(0), None) == VfPlan((Step(PF, 8, "8 VFs", "mlx5_core"),)), (
        "nothing is removed: no need to know who holds"
    )


@pytest.mark.parametrize(("there", "wanted"), [(8, 8), (0, 0), (0, None), (3, None)])
def test_what_is_as_it_should_be_stays(there: int, wanted: int | None) -> None:
    assert planned(wanted, seen(there, wanted), None) == VfPlan()


def test_only_a_rule_that_gives_vfs_makes_them() -> None:
    for mode in (Mode.WHOLE, None):
        asked = rule(mode, vf_count=8)
        assert plan([device(0, asked)], Policy((asked,), "test"), ()) == VfPlan()
    first, second = rule(Mode.VF, "first", vf_count=2), rule(Mode.VF, "second", vf_count=8)
    assert plan([device(0, first, second)], Policy((first, second), "test")).steps == (
        Step(PF, 2, "2 VFs", "mlx5_core"),
    )


@pytest.mark.parametrize(
    ("there", "wanted", "what"),
    [(4, 8, "0 VFs (4 are there, 8 are wanted)"), (8, 2, "0 VFs (8 are there, 2 are wanted)"), (4, 0, "0 VFs")],
)
def test_from_one_number_to_another_leads_by_none(there: int, wanted: int, what: str) -> None:
    assert planned(wanted, seen(there, wanted)) == VfPlan((Step(PF, 0, what, "mlx5_core"),))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"vf_users": ((2, (QEMU,)),)}, f"VF 2 is held by {QEMU}"),
        ({"vf_use": ((1, "port of br0"),)}, "the host uses VF 1: port of br0"),
        ({"in_use_by": "default route (ens1f0)"}, "the host uses the device: default route (ens1f0)"),
    ],
)
def test_vfs_in_use_are_not_removed(more: dict[str, Any], reason: str) -> None:
    used = replace(seen(4), **more)
    assert planned(8, used).refused == (
        Refusal(PF, "8 VFs", f"all 4 VFs must be removed before there can be 8, but {reason}"),
    )
    assert why(planned(0, used)) == f"all 4 VFs must be removed, but {reason}"


def test_vfs_that_consumers_have_are_not_removed() -> None:
    assert "consumers in Placement have allocations of them" in why(planned(8, seen(4), {PF}))
    assert planned(8, seen(4), {"0000:5e:00.0"}).steps


def test_while_nobody_knows_who_has_them_none_is_removed() -> None:
    assert "who holds them in Placement is not known yet" in why(planned(8, seen(4), None))


def test_more_than_the_device_can_have() -> None:
    reason = "the device can have 8 VFs at most; lower vf_count, or let its firmware offer more"
    assert why(planned(9, seen(0, 9))) == reason
    assert why(planned(9, seen(4, 9))) == reason, "what there is stays, since it would not help"


def test_a_driver_that_makes_all_or_none_is_not_asked_for_some() -> None:
    """It would make all, which would have to be removed again, for ever."""
    assert why(planned(4, seen(0, 4, kind=Kind.QAT))).endswith("write vf_count: 8")
    assert planned(8, seen(0, 8, kind=Kind.QAT)).steps == (Step(PF, 8, "8 VFs", "mlx5_core"),)
    assert planned(0, seen(8, 0, kind=Kind.QAT)).steps == (Step(PF, 0, "0 VFs", "mlx5_core"),)


def test_a_pf_without_driver_gets_no_vfs() -> None:
    assert why(planned(8, seen(0, driver=None))) == (
        "the device has no driver, and VFs are made by the driver; bind one"
    )


def test_what_the_guards_veto_or_no_driver_offers_gets_none() -> None:
    assert why(planned(8, seen(0, host={"iommu": False}))) == "the host has no IOMMU in use"
    no_pf = decide(snapshot(function(PF)), rule(Mode.VF, vf_count=8))[PF]
    assert why(planned(8, no_pf)) == "is no SR-IOV PF: it has no VFs to give"
    asked = rule(Mode.VF, vf_count=8)
    functions = pf(0)
    refusing = claim(functions[0], offers={}, refusals={Mode.VF: "made by gim"})
    assert why(planned(8, decide(snapshot(*functions), asked, claims=[refusing])[PF])) == "made by gim"


def test_what_is_unknown_stays_as_it_is() -> None:
    unread = seen(0, unread=frozenset({"virtfn"}), driver="mlx5_core")
    assert why(planned(8, unread)) == "unknown: virtfn could not be read; what was reported of it stays"


def test_what_no_rule_matches_or_needs_nothing_does_not_stand_before_others() -> None:
    rules = Policy((rule(Mode.VF, vf_count=8, driver=("mlx5*",)),), "test")
    for first in (seen(0, driver="other"), seen(8)):
        assert [step.address for step in plan([first, seen(0)], rules).steps] == [PF]


def test_a_rule_that_fits_by_what_an_earlier_look_knew_makes_vfs_too() -> None:
    known = replace(seen(0), identity=Identity("mac", "b8:ce:f6:12:34:56"))
    assert planned(8, known, serial=("b8:ce:f6:*",)).steps
    assert planned(8, seen(0), serial=("b8:ce:f6:*",)) == VfPlan()


def test_of_what_can_have_none_all_are_none() -> None:
    asked = rule(Mode.VF, vf_count=ALL_VFS)
    assert plan([decide(snapshot(function(PF)), asked)[PF]], Policy((asked,), "test")) == VfPlan()


def test_one_pf_that_is_refused_keeps_no_other_from_its_vfs() -> None:
    one, other = seen(0), seen(4)
    other = replace(other, function=replace(other.function, address="0000:5e:00.0"))
    found = plan([one, other], Policy((rule(Mode.VF, vf_count=8),), "test"))
    assert [step.address for step in found.steps] == [PF]
    assert [refusal.address for refusal in found.refused] == ["0000:5e:00.0"]


@given(
    st.integers(0, 8), st.integers(0, 10), st.sampled_from([None, frozenset(), frozenset({PF})]), st.booleans(),
    st.booleans(), st.sampled_from(["mlx5_core", None]), st.sampled_from([Kind.NIC, Kind.QAT]),
)  # fmt: skip
def test_no_step_removes_what_anybody_has_and_none_is_in_vain(
    there: int, wanted: int, held: frozenset[str] | None, used: bool, route: bool, driver: str | None, kind: Kind
) -> None:
    pf_ = seen(there, wanted, driver=driver, kind=kind)
    pf_ = replace(pf_, vf_users=((0, (QEMU,)),) if used else (), in_use_by="route" if route else None)
    found = planned(wanted, pf_, held)
    assert len(found.steps) + len(found.refused) == (there != wanted)
    for step in found.steps:
        assert step.count in (0, wanted)
        assert (step.count == 0) == (there > 0)
        assert there == 0 or (held == frozenset() and not used and not route)
        assert wanted <= 8
        assert driver


# --- VFs that carry vGPUs ---


def gpu(
    there: int, mode: Mode = Mode.VGPU, *, host: Any = None, types: Any = (("CUSTOM_A", None),), **more: Any
) -> Any:
    """Gives a GPU that can have 8 VFs, as a rule for vGPUs decides about it, with the policy."""
    wanted = rule(mode, vf_count=ALL_VFS, types=types)
    functions = pf(there, **{"ids": "10de:26b9", "class_code": GPU, "driver": "nvidia"} | more)
    offers = {Mode.WHOLE: "PGPU"} | ({mode: "VGPU"} if there else {})
    claims = [claim(functions[0], Kind.GPU, offers=offers)]
    found = decide(snapshot(*functions, **host or {}), wanted, claims=claims)[PF]
    return found, Policy((wanted,), "test")


@pytest.mark.parametrize("mode", [Mode.VGPU, Mode.MDEV])
def test_a_gpu_that_is_to_carry_vgpus_gets_all_its_vfs(mode: Mode) -> None:
    found, policy = gpu(0, mode)
    assert not found.decision.managed, "nothing tells what it can make before they are there"
    assert plan([found], policy, None) == VfPlan((Step(PF, 8, "8 VFs", "nvidia"),))
    found, policy = gpu(8, mode)
    assert plan([found], policy, None) == VfPlan()


def test_without_the_word_no_vfs_are_made_for_vgpus() -> None:
    found, _ = gpu(0)
    assert plan([found], Policy((rule(Mode.VGPU, types=(("CUSTOM_A", None),)),), "test"), None) == VfPlan()


def test_a_gpu_that_has_no_vfs_is_its_own_parent() -> None:
    found, policy = gpu(0, Mode.MDEV, sriov=None)
    assert plan([found], policy, None) == VfPlan()


def test_the_vfs_of_a_gpu_of_which_nothing_tells_what_they_carry_are_not_removed() -> None:
    found, policy = gpu(4)
    reason = found.decision.reason
    assert (found.decision.managed, found.decision.mode) == (False, None)
    assert why(plan([found], policy, ())) == reason


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"host": {"iommu": False}}, "the host has no IOMMU in use"),
        ({"host": {"host_use": {PF: "a filesystem"}}}, "is used by the host"),
        ({"attributes": {"boot_vga": "1"}}, "is the boot display"),
        ({"driver": "vfio-pci"}, "made by NVIDIA's tool, for a GPU with the driver nvidia; it has vfio-pci"),
        ({"driver": None}, "the device has no driver"),
        ({"unread": frozenset({"nvml"})}, "unknown: nvml could not be read"),
    ],
)
def test_what_speaks_against_taking_a_gpu_from_its_driver(more: dict[str, Any], words: str) -> None:
    found, policy = gpu(0, **more)
    assert words in why(plan([found], policy, None))
