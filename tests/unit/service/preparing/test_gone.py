# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is to be wiped and is pulled, moved or replaced meanwhile: nobody gets it before it is wiped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devagent.errors import NotPrepared
from devagent.model.claim import Mode
from devagent.model.identity import Identity
from devagent.model.plan import Step
from devagent.model.policy import Match, Policy, Prepare, Rule
from devagent.model.preparation import RefusalKind
from devagent.model.user import User
from devagent.prepare.machine import StepFailed
from devagent.service.facts import Reported

from ...prepare.scenes import ALICE, BOB, ROOT, Machine, on_bus, provider
from .one_host import PATIENCE_S, Agent, started

HERE, THERE = "0000:3b:00.0", "0000:3b:01.0"
GPU: dict[str, Any] = {"id": "10de:1eb8", "class": "030200", "driver": "nvidia"}
NIC: dict[str, Any] = {"id": "15b3:101d", "class": "020000", "driver": "mlx5_core"}


class Slots:
    """A host with two slots, of which each has the GPU of a serial number, or none; and what was wiped."""

    def __init__(self, agent: Agent) -> None:
        self.agent, self.wiped, self.given = agent, list[str](), dict[str, str]()
        agent.settings.policy = Policy(
            (Rule("g", mode=Mode.WHOLE, match=Match(), prepare=Prepare(scrub="gpu-reset")),), "t"
        )
        agent.settings.prepare_deadline = 1.0
        agent.host.doing = lambda step: self.wiped.append(step.target) if step.verb == "scrub" else None

    def have(self, here: str | None, there: str | None = None) -> None:
        """Puts GPUs into the slots, and has the agent look."""
        names = {HERE: here, THERE: there}
        found = on_bus(*({**GPU, "at": at[-4:]} for at, name in names.items() if name), {**NIC, "at": "02.0"})
        named = [
            replace(each, identity=Identity("nvml", name)) if (name := names.get(each.address)) else each
            for each in found
        ]
        self.agent.host.machine = Machine(tuple(named))
        self.given |= {name: provider(at, named) for at, name in names.items() if name}
        self.agent.facts.reported = Reported(root=ROOT, listed=dict.fromkeys(self.given.values()))  # type: ignore[arg-type]
        self.agent.see()

    def put(self, consumer: str, name: str) -> str:
        """Gives where a consumer has got the GPU."""
        group = {"provider": self.given[name], "resources": {"PGPU": 1}}
        found, _ = self.agent.own.put(consumer, {"groups": [group]}, PATIENCE_S)
        return str(found["handles"][0]["address"])

    def delete(self, match: str) -> None:
        with pytest.raises(NotPrepared, match=match) as refused:
            self.agent.own.delete(ALICE, PATIENCE_S)
        assert refused.value.kind == "retry"
        assert self.agent.states()[ALICE] == "releasing"

    def later(self) -> dict[str, str]:
        self.agent.now += 31
        self.agent.keep_up()
        return self.agent.states()


@pytest.fixture
def slots(tmp_path: Path) -> Iterator[Slots]:
    for agent in started(tmp_path, vfs=1):
        made = Slots(agent)
        made.have("A")
        assert made.put(ALICE, "A") == HERE
        yield made


@pytest.mark.parametrize("restarted", [True, False])
def test_what_was_pulled_is_kept_and_wiped_when_it_is_back(slots: Slots, *, restarted: bool) -> None:
    slots.have(None)
    slots.delete(rf"{HERE} \(10de:1eb8:nvml:A\) is not there, so it cannot be wiped: put it back, or say `devagent pre")
    if restarted:
        slots.agent.restart("another boot")
        slots.have(None)
    assert slots.later() == {ALICE: "releasing"}
    assert "put it back" in slots.agent.own.get(ALICE)["error"]["reason"]
    (owed,) = slots.agent.own.keeper.owed()
    assert (owed.address, "put it back" in owed.why) == (HERE, True)
    slots.have("A")
    assert slots.later() == {}
    assert slots.wiped == [HERE]
    assert slots.put(BOB, "A") == HERE


def test_nobody_gets_what_is_back_before_it_is_wiped(slots: Slots) -> None:
    slots.have(None)
    slots.delete("put it back")
    slots.have("A")
    with pytest.raises(NotPrepared, match=f"held by consumer {ALICE}"):
        slots.put(BOB, "A")
    assert slots.wiped == []


def test_what_was_put_in_its_place_is_given_to_others_and_never_wiped_for_it(slots: Slots) -> None:
    slots.have("B")
    slots.delete("is not there, another device is in its place")
    assert slots.put(BOB, "B") == HERE
    assert slots.later() == {ALICE: "releasing", BOB: "prepared"}
    assert slots.wiped == []
    slots.have("A")
    assert slots.later()[BOB] == "prepared"
    assert slots.wiped == [HERE]


def test_what_comes_back_to_where_another_one_stood_is_not_given_before_it_is_wiped(slots: Slots) -> None:
    slots.have("B")
    slots.delete("another device is in its place")
    slots.have("A")
    with pytest.raises(
        NotPrepared, match=f"was given to consumer {ALICE} as {HERE}, and is not wiped since"
    ) as refused:
        slots.put(BOB, "A")
    assert refused.value.kind == "retry"
    assert slots.later() == {BOB: "failed"}
    assert slots.put(BOB, "A") == HERE


@pytest.mark.parametrize("asked", [True, False])
def test_what_was_moved_to_another_slot_is_wiped_there_and_given_to_nobody_before(slots: Slots, *, asked: bool) -> None:
    slots.have("B", "A")
    if asked:
        with pytest.raises(NotPrepared, match=f"{THERE} was given to consumer {ALICE} as {HERE}"):
            slots.put(BOB, "A")
    assert slots.agent.own.delete(ALICE, PATIENCE_S) == (None, 204)
    assert slots.wiped == [THERE]
    assert slots.put(BOB, "A") == THERE


def test_it_is_ended_by_an_operators_word_alone(slots: Slots) -> None:
    slots.have(None)
    slots.delete("put it back")
    slots.agent.own.forget(ALICE, lambda _: None)
    assert slots.agent.states() == {}


def test_what_is_not_to_be_wiped_is_released_though_it_is_gone(slots: Slots) -> None:
    slots.agent.settings.policy = Policy((Rule("g", mode=Mode.WHOLE, match=Match()),), "t")
    slots.have(None, "C")
    assert slots.put(BOB, "C") == THERE
    slots.have(None)
    assert slots.agent.own.delete(BOB, PATIENCE_S) == (None, 204)


def test_who_was_gone_when_it_vanished_is_not_prepared_any_more(slots: Slots) -> None:
    slots.have(None)
    slots.agent.placement.unknown = {ALICE}
    for _ in range(2):
        slots.agent.now += 700
        slots.agent.keep_up()
    assert slots.agent.states() == {ALICE: "releasing"}


def test_what_was_made_again_in_vain_and_is_gone_then_is_kept_too(slots: Slots) -> None:
    slots.agent.restart("another boot")
    slots.have("A")

    def fail(step: Step) -> None:
        raise StepFailed(RefusalKind.PERMANENT, "no", step.target)

    slots.agent.host.doing = fail
    with pytest.raises(NotPrepared, match="no"):
        slots.put(ALICE, "A")
    assert slots.agent.states() == {ALICE: "failed"}
    slots.agent.host.doing = lambda step: slots.wiped.append(step.target) if step.verb == "scrub" else None
    slots.have(None)
    slots.delete("put it back")
    slots.have("A")
    assert slots.later() == {}
    assert slots.wiped == [HERE]


def test_while_one_is_gone_a_process_that_has_another_open_is_named(slots: Slots) -> None:
    slots.agent.own.delete(ALICE, PATIENCE_S)
    slots.have("A", "C")
    groups = [{"provider": slots.given[name], "resources": {"PGPU": 1}} for name in "AC"]
    slots.agent.own.put(ALICE, {"groups": groups}, PATIENCE_S)
    slots.have(None, "C")
    view = slots.agent.host.view
    user = User(4711, "qemu-system-x86", "/dev/vfio/12")

    def used() -> Any:
        found = view()
        devices = tuple(replace(each, users=(user,)) if each.address == THERE else each for each in found.found.devices)
        return replace(found, found=replace(found.found, devices=devices))

    slots.agent.host.view = used  # type: ignore[method-assign]
    slots.delete("qemu-system-x86")


def test_it_is_logged_once_that_something_is_gone(slots: Slots, caplog: pytest.LogCaptureFixture) -> None:
    slots.have(None)
    slots.delete("put it back")
    for _ in range(3):
        slots.later()
    assert caplog.text.count("put it back") == 1


def told(slots: Slots, name: str, **more: str) -> None:
    """Puts a GPU into the first slot that tells who it is, which the agent's own looks have not seen yet."""
    machine = slots.agent.host.machine
    drivers = dict(machine.drivers)
    serials = {"serials/vpd": name, **more}
    found = [
        replace(
            each,
            identity=Identity("vpd", f"{name}/0"),
            function=replace(each.function, attributes={**each.function.attributes, **serials}),
        )
        if each.address == HERE
        else each
        for each in machine.devices
    ]
    slots.agent.host.machine = Machine(tuple(found), drivers=drivers)


def begin_with(slots: Slots, name: str) -> None:
    """Begins anew: nobody has anything, and the first slot has a device that tells who it is."""
    slots.agent.own.delete(ALICE, PATIENCE_S)
    slots.wiped.clear()
    slots.have("A")
    told(slots, name)
    slots.given[name] = provider(HERE, slots.agent.host.machine.devices)
    slots.agent.see()


def test_a_device_of_the_same_model_that_nobody_has_looked_at_yet_is_not_taken_for_the_one_before(slots: Slots) -> None:
    begin_with(slots, "S1")
    told(slots, "S2")
    with pytest.raises(NotPrepared, match="another device is in its place since the last look") as refused:
        slots.put(ALICE, "S1")
    assert refused.value.kind == "retry"
    told(slots, "S1")
    assert slots.put(ALICE, "S1") == HERE
    told(slots, "S2")
    slots.delete("is not there, another device is in its place")
    assert slots.wiped == []
    told(slots, "S1")
    assert slots.later() == {}
    assert slots.wiped == [HERE]


def test_what_does_not_say_any_more_who_it_is_is_not_wiped_for_now(slots: Slots) -> None:
    begin_with(slots, "S1")
    slots.put(ALICE, "S1")
    slots.agent.host.machine.drivers[HERE] = "nvidia"
    told(slots, "")
    slots.delete(r"does not say now whether it is what was given \(vpd S1/0\), so it is not wiped")
    assert slots.wiped == []
    slots.agent.host.machine.drivers[HERE] = "vfio-pci"
    assert slots.later() == {}
    assert slots.wiped == [HERE]


@pytest.mark.parametrize("prepare", [Prepare(), Prepare(scrub="nvme-format"), None])
def test_what_was_to_be_wiped_when_it_was_given_is_wiped_whatever_the_policy_says_by_now(
    slots: Slots, prepare: Prepare | None
) -> None:
    rules = (Rule("g", mode=Mode.WHOLE, match=Match(), prepare=prepare),) if prepare is not None else ()
    slots.agent.settings.policy = Policy(rules, "t")
    hows: list[object] = []
    slots.agent.host.doing = lambda step: hows.append(step.arguments["how"]) if step.verb == "scrub" else None
    assert slots.agent.own.delete(ALICE, PATIENCE_S) == (None, 204)
    assert hows == ["nvme-format" if prepare is not None and prepare.scrub else "gpu-reset"]
