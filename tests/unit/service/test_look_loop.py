# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""When the host is looked at, at what, and what becomes of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from devagent.discovery import Discovery
from devagent.errors import LookFailed
from devagent.inventory.build import Nest
from devagent.inventory.default_policy import DEFAULT
from devagent.model.claim import Kind
from devagent.model.device import Device
from devagent.model.happened import Happened
from devagent.model.health import Health, Override, State
from devagent.model.occurrence import PcieError, Xid
from devagent.model.pci import Sriov, VirtualFunction
from devagent.model.policy import Policy
from devagent.model.snapshot import HostFacts
from devagent.service import look_loop, wishes
from devagent.service.beats import Beats
from devagent.service.facts import Facts, Refused
from devagent.service.health_book import HealthBook
from devagent.service.look_loop import LookLoop
from devagent.service.metrics import Metrics

from ..worlds import function, managed

HOST = HostFacts(hostname="h", boot_id="boot")
WELL = replace(managed(function(driver="nvidia")), health=Health(State.HEALTHY))
WELL = replace(WELL, claim=replace(WELL.claim, kind=Kind.GPU, health=WELL.health))
SICK = replace(WELL, health=Health(State.UNHEALTHY, ("3 rows cannot be remapped",)))
SICK = replace(SICK, claim=replace(SICK.claim, health=SICK.health))
GPU = WELL.address


class Eyes:
    """Sees what a test wants it to, and keeps what it was asked for."""

    def __init__(self, *devices: Device) -> None:
        self.devices: tuple[Device, ...] = devices
        self.asked: list[frozenset[str] | None] = []
        self.error: str | None = None

    def look(self, policy: Policy, only: Iterable[str] | None = None, *, timeout: float) -> Discovery:
        self.asked.append(None if only is None else frozenset(only))
        if self.error is not None:
            raise LookFailed(self.error)
        return Discovery(HOST, self.devices, ())


class Hands:
    """Configures what a test wants it to."""

    def __init__(self) -> None:
        self.running: frozenset[str] = frozenset()
        self.stuck: dict[str, str] = {}
        self.refused: tuple[Refused, ...] = ()
        self.forgiven = 0

    def advance(self, devices: Iterable[Device], policy: Policy, held: object) -> tuple[Refused, ...]:
        return self.refused

    def forgive(self) -> None:
        self.forgiven += 1

    def wait(self, seconds: float) -> bool:
        self.running = frozenset()
        return True


class Scene:
    """A loop with its surroundings; `turn` takes one turn in this thread."""

    def __init__(self, state_path: Path, *devices: Device) -> None:
        self.settings: Any = SimpleNamespace(
            policy=DEFAULT, host=None, nest=Nest.NUMA, state_path=state_path, scan_interval=3600.0,
            health_interval=3600.0, look_timeout=60.0, clean_checks=2, flap_limit=3, flap_window=3600.0, xids={},
        )  # fmt: skip
        self.facts, self.eyes, self.hands, self.told = Facts(), Eyes(*devices), Hands(), 0
        self.book = HealthBook(lambda: self.settings)
        self.loop = LookLoop(
            Beats(), self.facts, self.eyes, self.hands, self.book, lambda: self.settings, Metrics(), self._tell  # type: ignore[arg-type]
        )  # fmt: skip

    def _tell(self) -> None:
        self.told += 1

    def turn(self) -> Scene:
        self.loop.turn()
        return self

    @property
    def gpu(self) -> Device:
        assert self.facts.seen is not None
        return self.facts.seen.devices[0]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(wishes, "_TICK", 0.0)
    monkeypatch.setattr(look_loop, "_RETRY", 0.0)
    return Scene(tmp_path, WELL)


def test_the_first_look_is_at_everything_and_then_nothing_is_looked_at_without_a_reason(scene: Scene) -> None:
    scene.turn().turn().turn()
    assert scene.eyes.asked == [None]
    assert scene.told == 1
    assert scene.facts.published.is_set()


def test_events_about_a_device_have_that_device_looked_at(scene: Scene) -> None:
    scene.turn()
    scene.loop.hear(Happened(frozenset({GPU, "0000:5e:00.0"}), events=300))
    scene.loop.hear(Happened(frozenset({GPU}), events=1))
    scene.turn().turn()
    assert scene.eyes.asked == [None, frozenset({GPU, "0000:5e:00.0"})]


def test_lost_events_have_everything_looked_at(scene: Scene) -> None:
    scene.turn()
    scene.loop.hear(Happened(everything=True))
    scene.turn()
    assert scene.eyes.asked == [None, None]


def test_a_look_that_fails_keeps_what_is_known_and_is_made_again_at_everything(scene: Scene) -> None:
    scene.turn()
    before = scene.facts.seen
    scene.eyes.error = "the look process hangs"
    scene.loop.hear(Happened(frozenset({GPU}), events=1))
    scene.turn()
    assert (scene.facts.seen, scene.facts.look_error, scene.told) == (before, "the look process hangs", 1)
    scene.eyes.error = None
    scene.turn()
    assert scene.eyes.asked == [None, frozenset({GPU}), None]
    assert scene.facts.look_error is None


def test_an_xid_closes_its_gpu_before_a_look_at_it_that_may_hang(scene: Scene) -> None:
    scene.turn()
    scene.eyes.error = "the look process hangs"
    scene.loop.want(occurrences=[Xid(GPU, 79, "off the bus", 5.0)], log_position=7)
    scene.turn()
    assert scene.gpu.health.state.is_fenced
    assert scene.book.log_position == 7
    evidence = scene.book.current
    scene.eyes.error = None
    scene.turn()
    assert scene.gpu.health.state.is_fenced
    assert scene.book.current == evidence


def test_what_happened_to_a_device_that_is_not_known_yet_is_judged_by_the_look_that_finds_it(scene: Scene) -> None:
    scene.eyes.devices = ()
    scene.turn()
    scene.eyes.error = "the look process hangs"
    scene.loop.want(occurrences=[Xid(GPU, 79, "off the bus", 5.0)], log_position=7)
    scene.turn()
    assert scene.book.log_position is None
    scene.eyes.error, scene.eyes.devices = None, (WELL,)
    scene.turn()
    assert scene.gpu.health.state.is_fenced
    assert scene.book.log_position == 7


def test_a_look_that_fails_in_an_unexpected_way_is_made_again(scene: Scene) -> None:
    scene.turn()
    scene.eyes.look = lambda *_, **__: 1 / 0  # type: ignore[assignment]
    scene.loop.hear(Happened(frozenset({GPU}), events=1))
    with pytest.raises(ZeroDivisionError):
        scene.turn()
    del scene.eyes.look
    scene.turn()
    assert scene.eyes.asked == [None, None]


def test_an_event_makes_a_device_worse_at_once_but_never_well_any_sooner(scene: Scene) -> None:
    scene.turn()
    scene.eyes.devices = (SICK,)
    scene.loop.hear(Happened(frozenset({GPU}), events=1))
    assert scene.turn().gpu.health.state is State.UNHEALTHY
    scene.eyes.devices = (WELL,)
    for _ in range(5):
        scene.loop.hear(Happened(frozenset({GPU}), events=1))
        assert scene.turn().gpu.health.state is State.UNHEALTHY
    scene.loop.want(everything=True)
    assert scene.turn().gpu.health.state is State.UNHEALTHY
    for expected in (State.UNHEALTHY, State.HEALTHY):  # clean_checks = 2
        scene.loop._wishes._next_check = 0.0
        assert scene.turn().gpu.health.state is expected


def test_the_kernels_word_on_a_recovery_reaches_the_device(scene: Scene) -> None:
    scene.turn()
    scene.loop.hear(Happened(frozenset({GPU}), errors=(PcieError(GPU, "failed_recovery"),), events=1))
    assert scene.turn().gpu.health.state is State.UNHEALTHY


def test_what_is_being_configured_is_withheld_until_it_is_done(scene: Scene) -> None:
    scene.turn()
    scene.hands.running = frozenset({GPU})
    scene.loop.hear(Happened(frozenset({GPU}), events=1))
    decision = scene.turn().gpu.decision
    assert (decision.managed, decision.unknown) == (False, True)
    scene.hands.running = frozenset()
    scene.loop.want({GPU})
    assert scene.turn().gpu.decision.managed


def test_the_first_report_waits_for_what_is_being_configured_and_looks_at_it_again(scene: Scene) -> None:
    scene.hands.running = frozenset({GPU})
    scene.turn()
    assert scene.eyes.asked == [None, frozenset({GPU})]
    assert scene.gpu.decision.managed


def test_a_device_on_which_a_step_hangs_is_fenced(scene: Scene) -> None:
    scene.hands.stuck = {GPU: "set_vf_count hangs in the kernel"}
    health = scene.turn().gpu.health
    assert (health.state, health.reasons) == (State.UNHEALTHY, ("set_vf_count hangs in the kernel",))


def test_a_pf_is_fenced_while_what_was_done_to_its_vf_for_a_consumer_hangs(scene: Scene) -> None:
    vf = VirtualFunction(3, "0000:3b:00.7")
    scene.eyes.devices = (replace(scene.eyes.devices[0], function=function(GPU, sriov=Sriov(4, vfs=(vf,)))),)
    hanging = {vf.address: "bind hangs in the kernel"}
    scene.facts.hanging = lambda: hanging
    health = scene.turn().gpu.health
    assert (health.state, health.reasons) == (State.UNHEALTHY, ("bind hangs in the kernel",))
    hanging.clear()
    scene.loop.want([GPU])
    assert scene.turn().gpu.health.reasons == ()


def test_an_operators_word_counts_without_another_look(scene: Scene) -> None:
    scene.turn()
    scene.book.override(scene.gpu, Override(State.UNHEALTHY, "smells burnt", "uid 0"), 1.0)
    scene.loop.judge()
    assert scene.gpu.health.state is State.UNHEALTHY
    assert (scene.eyes.asked, scene.told) == ([None], 2)


def test_a_rescan_ends_with_a_look_that_began_after_it_was_asked_for(scene: Scene) -> None:
    scene.turn()
    outcome: list[bool] = []
    asking = threading.Thread(target=lambda: outcome.append(scene.loop.rescan(60)))
    asking.start()
    while len(scene.eyes.asked) < 2:
        scene.turn()
    asking.join()
    assert outcome == [True]
    assert scene.hands.forgiven == 1


def test_a_rescan_that_takes_longer_than_its_sender_waits_is_not_done(scene: Scene) -> None:
    assert scene.loop.rescan(0.0) is False


def test_what_is_refused_is_kept_for_the_status(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.hands.refused = (Refused(GPU, "16 VFs", "it has 8"),)
    with caplog.at_level(logging.ERROR):
        scene.turn()
        scene.loop.want(everything=True)
        scene.turn()
    assert scene.facts.seen is not None
    assert scene.facts.seen.refused == scene.hands.refused
    assert [record.message for record in caplog.records] == ["16 VFs: it has 8"]


def test_what_is_being_brought_back_is_reserved_at_once_and_without_another_look(scene: Scene) -> None:
    scene.turn()
    assert scene.facts.seen is not None
    uid = next(iter(scene.facts.seen.view.tree().devices))
    (name,) = scene.facts.seen.view.tree().by_uuid()[uid].inventories
    scene.facts.returning = lambda: {uid: {name: 1}}
    told = scene.told
    scene.loop.judge()
    assert scene.facts.seen.view.tree().by_uuid()[uid].inventories[name].reserved == 1
    assert (len(scene.eyes.asked), scene.told) == (1, told + 1)
    scene.loop.judge()
    assert scene.told == told + 1
