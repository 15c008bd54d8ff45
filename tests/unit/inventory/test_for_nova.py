# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What Nova's own PCI tracking gives away is made ready by devagent where a rule says so, and never reported."""

from __future__ import annotations

from dataclasses import replace

from devagent.inventory.build import Nest, build
from devagent.inventory.vfs import plan as vf_plan
from devagent.model.claim import Mode
from devagent.model.device import Decision
from devagent.model.nova import DeviceSpec, NovaDevices
from devagent.model.policy import Policy
from devagent.model.snapshot import Snapshot

from ..worlds import decide, function, pf, rule, snapshot

ADDRESS = "0000:3b:00.0"
MADE = rule(Mode.VF, owner="nova", vf_count=4)
WHOLE, VFS = rule(Mode.WHOLE, owner="nova"), rule(Mode.VF, owner="nova")


def taking(seen: Snapshot, **keys: object) -> Snapshot:
    return replace(seen, nova=NovaDevices((DeviceSpec("{...}", "/etc/nova/nova.conf", keys),), ()))


def decided(seen: Snapshot, *rules: object) -> Decision:
    return decide(seen, *rules)[ADDRESS].decision  # type: ignore[arg-type]


def test_a_whole_device_of_novas_is_made_ready_and_not_reported() -> None:
    found = decide(taking(snapshot(function()), vendor_id="10de"), WHOLE)
    decision = found[ADDRESS].decision
    assert (decision.managed, decision.owner, decision.mode) == (False, "nova", Mode.WHOLE)
    assert decision.reason == "Nova gives it, devagent makes it ready: given whole"
    assert build(found.values(), "0c6e1f57-6a3d-4f0b-9a55-2f7d5a3b8e10", "h", Nest.NUMA).devices == {}


def test_of_vfs_those_are_made_ready_that_are_novas() -> None:
    decision = decided(taking(snapshot(*pf(4)), address="0000:3b:01.0"), VFS)
    assert (decision.owner, decision.total) == ("nova", 1)
    assert dict(decision.vf_vetoes) == dict.fromkeys((1, 2, 3), "is not Nova's")
    everything = decided(taking(snapshot(*pf(4)), address=ADDRESS), VFS)
    assert (everything.owner, everything.total, everything.vf_vetoes) == ("nova", 4, ())
    assert everything.reason == "Nova gives it, devagent makes it ready: 4 of 4 VFs"


def test_vfs_that_the_rule_leaves_out_do_not_count() -> None:
    some = rule(Mode.VF, owner="nova", vf_indexes=frozenset({0, 1, 3}))
    decision = decided(taking(snapshot(*pf(4)), address=ADDRESS), some)
    assert (decision.total, decision.reason) == (3, "Nova gives it, devagent makes it ready: 3 of 4 VFs")


def test_vfs_that_are_yet_to_be_made_are_made() -> None:
    """Which of them are Nova's is known once they are there."""
    (device,) = decide(taking(snapshot(*pf(0, driver="mlx5_core")), vendor_id="15b3", product_id="101e"), MADE).values()
    assert (device.decision.owner, device.decision.total) == ("nova", 0)
    assert device.decision.reason.endswith("no VFs exist")
    plan = vf_plan([device], Policy((MADE,), "test"), held=frozenset())
    assert [(step.address, step.count) for step in plan.steps] == [(ADDRESS, 4)]


def test_vfs_that_are_there_are_never_removed_for_others_may_have_been_given_them() -> None:
    (device,) = decide(taking(snapshot(*pf(2, driver="mlx5_core")), address=ADDRESS), MADE).values()
    plan = vf_plan([device], Policy((MADE,), "test"), held=frozenset())
    assert (plan.steps, [each.address for each in plan.refused]) == ((), [ADDRESS])
    assert "given by Nova" in plan.refused[0].why


def test_what_is_not_novas_is_not_left_to_it() -> None:
    for seen, each in ((snapshot(function()), WHOLE), (snapshot(*pf(2)), VFS)):
        reason = "is left to Nova by rule r, but no device_spec in [pci] of nova.conf has it: list it there"
        assert decided(taking(seen, vendor_id="ffff"), each) == Decision(False, reason, "r", each.mode)


def test_what_the_guards_keep_from_giving_is_not_made_ready_either() -> None:
    used = taking(snapshot(function(), host_use={ADDRESS: "the default route"}), vendor_id="10de")
    assert decided(used, WHOLE).owner is None
    assert decided(taking(snapshot(function(), iommu=False), vendor_id="10de"), WHOLE).owner is None
    one_used = taking(snapshot(*pf(2), host_use={"0000:3b:01.1": "the default route"}), address=ADDRESS)
    assert dict(decided(one_used, VFS).vf_vetoes) == {1: "is used by the host: the default route"}


def test_the_vfs_that_are_kept_are_told_in_their_order_whoever_keeps_them() -> None:
    used = snapshot(*pf(3), host_use={"0000:3b:01.0": "the default route"})
    ours = {"domain": ".*", "bus": ".*", "slot": "01", "function": "[02]"}
    decision = decided(taking(used, address=ours), VFS)
    assert decision.total == 1
    assert decision.vf_vetoes == ((0, "is used by the host: the default route"), (1, "is not Nova's"))


def test_without_such_a_rule_novas_stays_novas() -> None:
    decision = decided(taking(snapshot(function()), vendor_id="10de"), rule(Mode.WHOLE))
    assert (decision.managed, decision.owner) == (False, None)
    assert decision.reason.startswith("is managed by Nova")
