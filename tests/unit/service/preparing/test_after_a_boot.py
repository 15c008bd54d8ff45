# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What was given before a boot, or before a device was replaced, and what was left half done."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from devagent.errors import NotPrepared
from devagent.model.claim import Mode
from devagent.model.device import Decision
from devagent.model.plan import Step
from devagent.model.policy import Match, Policy, Prepare, Rule
from devagent.model.preparation import Preparation, RefusalKind, State
from devagent.prepare.journal import Journal
from devagent.prepare.machine import StepFailed
from devagent.service.facts import Reported
from devagent.service.preparing.journal_keeper import FILE
from devagent.view import Look

from ...prepare.scenes import ALICE, BOB, Machine, on_bus, provider
from .one_host import AUDIO, GPU, NIC, PATIENCE_S, VF, Agent, nic


def test_after_a_boot_there_are_no_handles_until_it_is_asked_for_again(agent: Agent) -> None:
    addresses = agent.prepared(ALICE)
    agent.host.machine.drivers.update(dict.fromkeys(addresses, "mlx5_core"))
    agent.restart("another boot")
    found = agent.own.get(ALICE)
    assert (found["state"], found["handles"], found["error"]["type"]) == ("failed", [], "retry")
    agent.keep_up()
    assert agent.host.bound == set()
    assert agent.prepared(ALICE) == addresses
    assert agent.host.bound == addresses


def test_a_device_that_did_not_answer_in_time_is_looked_at_again(agent: Agent) -> None:
    unread = Decision(False, "unknown", unknown=True)
    view, views = agent.host.view, []

    def once() -> Look:
        views.append(view())
        if len(views) > 1:
            return views[-1]
        found = views[-1].found
        return replace(
            views[-1], found=replace(found, devices=tuple(replace(d, decision=unread) for d in found.devices))
        )

    agent.host.view = once  # type: ignore[method-assign]
    assert agent.prepared(ALICE) == agent.host.bound
    assert len(views) > 1


def test_another_device_at_the_address_of_the_one_that_was_given_is_left_alone(agent: Agent) -> None:
    """A boot numbers buses anew: what has the address now is not the consumer's, and may be the host's own."""
    addresses = agent.prepared(ALICE)
    asked = provider(NIC, agent.host.machine.devices)
    agent.host.machine = Machine(on_bus(nic(4, "8086:1592")))
    agent.restart("another boot")
    agent.still_lists(asked)
    group = {"provider": asked, "resources": {VF: 1}}
    with pytest.raises(NotPrepared, match="is another device than the one that was given") as refused:
        agent.own.put(ALICE, {"groups": [group]}, PATIENCE_S)
    assert (refused.value.kind, refused.value.address in addresses) == ("permanent", True)
    done: list[Step] = []
    agent.host.doing = done.append
    assert agent.own.delete(ALICE, PATIENCE_S) == (None, 204)
    assert (done, agent.host.bound, agent.states()) == ([], set(), {})


@pytest.mark.parametrize("beside", [AUDIO, {**AUDIO, "iommu_with": None}, None])
def test_what_stood_beside_a_device_before_a_boot_is_changed_only_while_it_stands_there(
    agent: Agent, beside: dict[str, Any] | None
) -> None:
    """The GPU is where it was; the function that shared its IOMMU group may be another's by now."""
    agent.host.machine = Machine(on_bus(GPU, AUDIO))
    agent.restart()
    asked = provider("0000:3b:00.0", agent.host.machine.devices)
    body = {"groups": [{"provider": asked, "resources": {"PGPU": 1}}]}
    agent.own.put(ALICE, body, PATIENCE_S)
    both = {"0000:3b:00.0", "0000:3b:00.1"}
    assert agent.host.bound == both
    found = [{name: value for name, value in each.items() if value} for each in (GPU, beside) if each]
    agent.host.machine = Machine(on_bus(*found))
    agent.restart("another boot")
    if beside == AUDIO:
        assert agent.own.put(ALICE, body, PATIENCE_S)[1] == 200
        assert agent.host.bound == both
    elif beside is not None:
        with pytest.raises(NotPrepared, match="is another device than the one"):
            agent.own.put(ALICE, body, PATIENCE_S)
        assert agent.host.bound == set()
    else:
        assert agent.own.keeper.preparer.strangers(found_of(agent)) == frozenset()


def found_of(agent: Agent) -> Preparation:
    entry = agent.own.keeper.get(ALICE)
    assert entry is not None
    return entry.preparation


@pytest.mark.parametrize("ids", ["15b3:101d", "8086:1592"])
def test_a_release_before_a_boot_is_planned_anew_for_what_is_there_then(agent: Agent, ids: str) -> None:
    rule = Rule("vfs", mode=Mode.VF, match=Match(), prepare=Prepare(scrub="nvme-format"))
    agent.settings.policy = Policy((rule,), "test")
    agent.prepared(ALICE)
    asked = provider(NIC, agent.host.machine.devices)

    def fail(step: Step) -> None:
        raise StepFailed(RefusalKind.PERMANENT, "no", step.target)

    agent.host.doing = fail
    with pytest.raises(NotPrepared):
        agent.own.delete(ALICE, PATIENCE_S)
    assert agent.states() == {ALICE: "releasing"}
    done: list[Step] = []
    agent.host.doing = done.append
    agent.host.machine = Machine(on_bus(nic(4, ids)))
    agent.restart("another boot")
    agent.still_lists(asked)
    assert (agent.states(), done) == ({ALICE: "releasing"}, [])
    agent.keep_up()
    # What is not there may come back with all that its consumer left.
    assert agent.states() == ({} if ids == "15b3:101d" else {ALICE: "releasing"})
    # A driver of the host has it already, and many lose a device that is reset below them.
    assert [step.verb for step in done] == (["scrub"] if ids == "15b3:101d" else [])


@pytest.mark.parametrize("restarted", [True, False])
@pytest.mark.parametrize("again", ["nobody", "the consumer"])
@pytest.mark.parametrize("ids", ["15b3:101d", "8086:1592"])
def test_a_wipe_that_was_interrupted_is_never_done_to_what_was_put_in_place_of_the_device(
    agent: Agent, ids: str, again: str, *, restarted: bool
) -> None:
    """A drive that cannot be wiped is replaced, and the new one has its address at once."""
    rule = Rule("vfs", mode=Mode.VF, match=Match(), prepare=Prepare(scrub="nvme-format"))
    agent.settings.policy = Policy((rule,), "test")
    agent.prepared(ALICE)
    asked = provider(NIC, agent.host.machine.devices)

    def fail(step: Step) -> None:
        if step.verb == "scrub":
            raise StepFailed(RefusalKind.RETRY, "internal error", step.target)

    agent.host.doing = fail
    with pytest.raises(NotPrepared, match="internal error"):
        agent.own.delete(ALICE, PATIENCE_S)
    wiped: list[str] = []
    agent.host.doing = lambda step: wiped.append(step.verb) if step.verb == "scrub" else None
    agent.host.machine = Machine(on_bus(nic(4, ids)))
    if restarted:
        agent.restart()
    agent.see()
    agent.still_lists(asked)
    if again == "the consumer":
        with pytest.raises(NotPrepared, match="is being released"):
            agent.own.put(ALICE, {"groups": [{"provider": asked, "resources": {VF: 1}}]}, PATIENCE_S)
        assert wiped == []
    agent.keep_up()
    assert agent.states() == ({} if ids == "15b3:101d" else {ALICE: "releasing"})
    assert wiped == (["scrub"] if ids == "15b3:101d" else [])


@pytest.mark.parametrize("handed_out", [True, False])
def test_what_the_host_uses_since_a_boot_is_not_taken_from_it(agent: Agent, *, handed_out: bool) -> None:
    """After a boot a device is with the host's driver, and nothing keeps the host from mounting what is on it."""
    (address,) = agent.prepared(ALICE)
    agent.host.machine = Machine(on_bus(nic(4)))
    agent.restart("another boot")
    index = next(vf.index for device in agent.host.machine.devices for vf in device.vfs if vf.address == address)
    used = index if handed_out else index + 1
    view = agent.host.view

    def with_use() -> Look:
        found = view().found
        devices = tuple(
            replace(each, vf_use=((used, "mounted on /srv"),) if each.vfs else ()) for each in found.devices
        )
        return replace(view(), found=replace(found, devices=devices))

    agent.host.view = with_use  # type: ignore[method-assign]
    if not handed_out:
        assert agent.prepared(ALICE) == {address}
        return
    with pytest.raises(NotPrepared, match="is used by the host since: mounted on /srv") as refused:
        agent.put(ALICE)
    assert (refused.value.kind, refused.value.address, agent.host.bound) == ("permanent", address, set())
    assert agent.own.delete(ALICE, PATIENCE_S) == (None, 204)


def test_before_the_host_is_known_in_placement_nothing_is_made_again(agent: Agent) -> None:
    addresses = agent.prepared(ALICE)
    agent.host.machine.drivers.update(dict.fromkeys(addresses, "mlx5_core"))
    agent.restart("another boot")
    agent.facts.reported = Reported()
    with pytest.raises(NotPrepared, match="not in Placement yet"):
        agent.put(ALICE)
    assert agent.host.bound == set()


def test_what_was_half_done_is_finished_before_anybody_is_served(agent: Agent) -> None:
    agent.prepared(BOB)
    machine = agent.host.machine
    (vf,) = agent.host.bound
    assert agent.own.close(PATIENCE_S)
    journal = Journal(agent.state_path / FILE, "boot")
    free = machine.planned(machine.group(NIC), consumer=ALICE, holdings=journal.holdings())
    now = time.time()
    journal.begin(Preparation(ALICE, (), free, State.PREPARING, now, "boot", now + 60))
    journal.intend(ALICE, 0, {"driver": "mlx5_core"})
    journal.close()
    agent.begin()
    assert agent.states() == {ALICE: "prepared", BOB: "prepared"}
    assert agent.host.bound == {vf, free.handles[0].function}
