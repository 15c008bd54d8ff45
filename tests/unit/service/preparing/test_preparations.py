# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whoever asks, and whatever comes in between: who gets which VF, and what is left of it on the machine."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from devagent.api.request_id import answering, current
from devagent.api.schemas import mistake
from devagent.discovery import Discovery
from devagent.errors import LookFailed, NoSuchPreparation, NotPrepared, PlacementUnreachable, PreparedOtherwise
from devagent.images.directory import Directory
from devagent.images.library import Sources
from devagent.inventory.build import Nest
from devagent.inventory.default_policy import DEFAULT
from devagent.model.claim import Mode
from devagent.model.device import Decision
from devagent.model.plan import Arguments, Group, Plan, Step
from devagent.model.policy import Match, Policy, Prepare, Rule
from devagent.model.preparation import Preparation, Refusal, RefusalKind, State
from devagent.model.snapshot import HostFacts
from devagent.model.user import User
from devagent.prepare.executor import Executor
from devagent.prepare.journal import Journal
from devagent.prepare.machine import StepFailed
from devagent.prepare.runs import Strangers, nobody
from devagent.service.facts import Facts, Reported, Seen
from devagent.service.metrics import Metrics
from devagent.service.preparing.allocations import Standing
from devagent.service.preparing.images import Images
from devagent.service.preparing.journal_keeper import FILE, JournalKeeper
from devagent.service.preparing.noting import NotingMachine
from devagent.service.preparing.preparations import Preparations
from devagent.service.preparing.preparer import Preparer
from devagent.service.preparing.returning import Returning
from devagent.service.preparing.sight import Sight
from devagent.service.preparing.upkeep import Upkeep
from devagent.service.preparing.vanished import Vanished
from devagent.view import Look

from ...prepare.scenes import ALICE, BOB, ROOT, Machine, on_bus, provider

PATIENCE_S = 30.0
NIC = "0000:3b:00.0"
VF = "SRIOV_NET_VF"
UNKNOWN = Decision(False, "unknown: nvml could not be read; what was reported of it stays", unknown=True)
HOST = HostFacts(hostname="h", boot_id="boot")


GPU: dict[str, Any] = {"id": "10de:1eb8", "class": "030000", "driver": "nvidia", "at": "00.0"}
AUDIO = {"id": "10de:10f8", "class": "040300", "driver": "snd_hda_intel", "at": "00.1", "iommu_with": "00.0"}


def nic(vfs: int, ids: str = "15b3:101d") -> dict[str, Any]:
    own = {"total": 8, "count": vfs, "device": "101e", "driver": "mlx5_core"}
    return {"id": ids, "class": "020000", "driver": "mlx5_core", "vfs": own}


class Host:
    """A machine in memory, seen and changed as the agent does; `seen` and `doing` are called in between."""

    def __init__(self, vfs: int) -> None:
        self.machine = Machine(on_bus(nic(vfs)))
        self.users: dict[str, User] = {}
        self.seen: Callable[[], None] = lambda: None
        self.doing: Callable[[Step], None] = lambda _: None
        self.looks: list[frozenset[str] | None] = []
        self.blind = self.hazy = False
        self.asked: list[tuple[str, str]] = []
        self.resists: Refusal | None = None

    def look(self, policy: Policy, only: Iterable[str] | None, *, timeout: float, every: bool) -> Discovery:
        assert every
        self.looks.append(None if only is None else frozenset(only))
        if self.blind:
            raise LookFailed("the look process hangs")
        found = Discovery(HOST, tuple(self.view().found.devices), ())
        self.seen()
        return found

    def view(self) -> Look:
        devices = [
            replace(
                device,
                decision=UNKNOWN if self.hazy else device.decision,
                vf_users=tuple((vf.index, (self.users[vf.address],)) for vf in device.vfs if vf.address in self.users),
            )
            for device in self.machine.view().cards.values()
        ]
        return Look(Discovery(HOST, tuple(devices), ()), "h", Nest.NUMA)

    def unwipeable(self, address: str, how: str) -> Refusal | None:
        self.asked.append((address, how))
        return self.resists

    def before(self, step: Step, seconds: float) -> Arguments:
        return {"driver": self.machine.drivers[step.target]}

    def do(self, step: Step, seconds: float) -> None:
        self.doing(step)
        if step.verb != "bind" or self.machine.drivers[step.target] != step.arguments["driver"]:
            self.machine.do(step)

    def check(self, step: Step, seconds: float) -> bool:
        return self.machine.drivers[step.target] == step.arguments["driver"]

    @property
    def bound(self) -> set[str]:
        """The functions that are on vfio-pci."""
        return {address for address, driver in self.machine.drivers.items() if driver == "vfio-pci"}


class Placement:
    """Knows who holds something."""

    def __init__(self) -> None:
        self.unknown: set[str] = set()
        self.moved: set[str] = set()
        self.asked: list[str] = []
        self.error: PlacementUnreachable | None = None

    def lacking(self, consumer: str, groups: Iterable[Group]) -> Refusal | None:
        return Refusal(RefusalKind.INVALID, f"{consumer} holds nothing") if consumer in self.unknown else None

    def standing(self, consumer: str, groups: Iterable[Group], others: Set[str]) -> Standing:
        if self.error is not None:
            raise self.error
        self.asked.append(consumer)
        if consumer not in self.unknown:
            return Standing.HELD
        return Standing.MOVED if consumer in self.moved else Standing.GONE


class Agent:
    """The preparations of one host, from one start to the next."""

    def __init__(self, state_path: Path, host: Host) -> None:
        self.settings: Any = SimpleNamespace(
            policy=DEFAULT, look_timeout=60.0, scan_interval=3600.0, reconcile_interval=600.0, prepare_deadline=60.0,
            prepare_workers=8, prepare_expires_in=0, check_allocations=True, tombstone=0.0,
            state_path=state_path, images_directory=state_path / "bitstreams", images_cache_size=64,
        )  # fmt: skip
        self.state_path, self.host, self.placement = state_path, host, Placement()
        self.now = time.time()
        self.booted, self.jump = self.now - 1000.0, 0.0
        self.begin()

    def begin(self, boot_id: str = "boot") -> None:
        devices = self.host.machine.devices
        listed: Any = dict.fromkeys(provider(each.address, devices) for each in devices)
        self.facts = Facts(reported=Reported(root=ROOT, listed=listed))
        self.see()
        machine = NotingMachine(self.host, lambda *_: None)
        held: Any = self.placement

        images = Images(lambda: self.settings, lambda: keeper.entries(), self.sources)

        def preparer(executor: Executor) -> Preparer:
            sight = Sight(self.host, self.facts, lambda: self.settings)
            settings = lambda: self.settings  # noqa: E731
            return Preparer(executor, machine, sight, held, images, self.facts, settings, self.host.unwipeable)

        keeper = JournalKeeper(self.state_path, boot_id, machine, preparer, boottime=lambda: self.now - self.booted)
        self.facts.prepared = keeper.held
        self.metrics = Metrics()
        self.own = Preparations(keeper, lambda: self.settings, self.metrics)
        self.own.start()
        self.recounted = 0
        ticks: Any = {"monotonic": lambda: self.now, "clock": lambda: self.now + self.jump}
        self.returning = Returning(keeper, held, lambda: self.settings, self._recount, monotonic=lambda: self.now)
        vanished = Vanished(held, lambda: self.settings, **ticks)
        self.upkeep = Upkeep(self.own, vanished, images, self.returning, self.facts, monotonic=lambda: self.now)

    def _recount(self) -> None:
        self.recounted += 1

    def sources(self, settings: Any) -> Sources:
        """Gives where images come from."""
        return Sources(Directory(settings.images_directory))

    def see(self) -> None:
        """Has the agent's own loop look."""
        self.facts.seen = Seen(self.host.view(), time.time(), 0.0, full=True)

    def restart(self, boot_id: str = "boot") -> None:
        assert self.own.close(PATIENCE_S)
        self.begin(boot_id)

    def put(
        self, consumer: str, count: int = 1, *, wait: float = PATIENCE_S, **more: Any
    ) -> tuple[dict[str, Any], int]:
        group = {"provider": provider(NIC, self.host.machine.devices), "resources": {VF: count}}
        found, status = self.own.put(consumer, {"groups": [group], **more}, wait)
        assert mistake("preparations#preparation", found) is None
        return found, status

    def prepared(self, consumer: str, count: int = 1, **more: Any) -> set[str]:
        found, status = self.put(consumer, count, **more)
        assert (status, found["state"]) == (200, "prepared")
        return {handle["address"] for handle in found["handles"]}

    def keep_up(self) -> None:
        """Takes a turn of the upkeep, and waits for what it has begun."""
        self.upkeep.turn()
        self.until(lambda: not any(map(self.own.is_at_work, (ALICE, BOB))))

    def states(self) -> dict[str, str]:
        found = self.own.list()
        assert mistake("preparations", found) is None
        return {each["consumer"]: each["state"] for each in found["preparations"]}

    @staticmethod
    def until(condition: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.005)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    yield from started(tmp_path, vfs=4)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Agent]:
    """An agent with one VF to give."""
    yield from started(tmp_path, vfs=1)


def started(tmp_path: Path, vfs: int) -> Iterator[Agent]:
    made = Agent(tmp_path, Host(vfs))
    yield made
    made.host.doing, made.host.seen = lambda _: None, lambda: None
    assert made.own.close(PATIENCE_S)


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def test_a_consumer_has_its_vfs_on_vfio_pci_until_it_gives_them_back(agent: Agent) -> None:
    before = agent.host.machine.state()
    addresses = agent.prepared(ALICE, 2)
    assert agent.host.bound == addresses
    assert agent.own.get(ALICE)["timings"].keys() >= {"placement", "looking", "planning", "doing", "journal"}
    assert agent.own.delete(ALICE, PATIENCE_S) == (None, 204)
    assert agent.host.machine.state() == before
    with pytest.raises(NoSuchPreparation):
        agent.own.get(ALICE)
    assert agent.own.delete(ALICE, PATIENCE_S) == (None, 204)


def test_the_same_request_again_gives_the_same_and_does_nothing(agent: Agent) -> None:
    first = agent.put(ALICE)
    agent.host.doing = lambda step: pytest.fail(f"{step} was done")
    looks = len(agent.host.looks)
    assert agent.put(ALICE) == first
    assert len(agent.host.looks) == looks
    with pytest.raises(PreparedOtherwise):
        agent.put(ALICE, 2)


def test_who_has_no_patience_is_told_that_it_goes_on_and_others_join(agent: Agent, clients: ThreadPoolExecutor) -> None:
    go_on, done = threading.Event(), list[Step]()

    def hold(step: Step) -> None:
        done.append(step)
        go_on.wait(PATIENCE_S)

    agent.host.doing = hold
    found, status = agent.put(ALICE, wait=0)
    assert (status, found["state"], found["handles"]) == (202, "preparing", [])
    with pytest.raises(PreparedOtherwise):
        agent.put(ALICE, 3, wait=0)
    others = [clients.submit(agent.put, ALICE) for _ in range(4)]
    agent.until(lambda: done)
    assert agent.states() == {ALICE: "preparing"}
    go_on.set()
    assert {(other.result()[1], str(other.result()[0]["handles"])) for other in others} == {
        (200, str(agent.own.get(ALICE)["handles"]))
    }
    assert len(done) == 1


def test_what_was_given_back_after_it_was_seen_is_planned_anew(small: Agent) -> None:
    """The VF was on vfio-pci when it was looked at, and is with its own driver when it is free."""
    (address,) = small.prepared(ALICE)

    def give_back() -> None:
        small.host.seen = lambda: None
        step = Step("bind", address, {"driver": "mlx5_core"})
        assert small.own.keeper.executor.release(ALICE, lambda _: Plan(ALICE, (step,)), PATIENCE_S) is None

    small.host.seen = give_back
    assert small.prepared(BOB) == {address}
    assert small.host.bound == {address}
    assert [step["verb"] for step in small.own.get(BOB)["steps"]] == ["bind"]


def test_what_was_given_back_after_it_was_seen_is_left_to_others_while_there_is_more(agent: Agent) -> None:
    """As it was seen, on vfio-pci, it would be the best of all: nothing would have to be done to it."""
    (address,) = agent.prepared(ALICE)

    def give_back() -> None:
        agent.host.seen = lambda: None
        step = Step("bind", address, {"driver": "mlx5_core"})
        assert agent.own.keeper.executor.release(ALICE, lambda _: Plan(ALICE, (step,)), PATIENCE_S) is None

    agent.host.seen = give_back
    looks = len(agent.host.looks)
    assert agent.prepared(BOB) != {address}
    assert len(agent.host.looks) == looks + 1


def test_who_waits_for_a_device_gets_it_when_it_is_given_back(small: Agent, clients: ThreadPoolExecutor) -> None:
    addresses = small.prepared(ALICE)
    waiting = clients.submit(small.prepared, BOB)
    small.until(lambda: small.own.is_at_work(BOB))
    small.own.delete(ALICE, PATIENCE_S)
    assert waiting.result() == addresses
    assert small.host.bound == addresses


def test_two_never_get_the_same_however_many_ask_at_once(agent: Agent, clients: ThreadPoolExecutor) -> None:
    consumers = [f"{number:08x}-27d4-4a3c-9a3e-0c1d2e3f4a5b" for number in range(4)]
    found = list(clients.map(agent.prepared, consumers))
    assert len(set().union(*found)) == 4
    assert agent.host.bound == set().union(*found)


def test_a_release_during_the_preparation_ends_it_and_leaves_nothing(agent: Agent, clients: ThreadPoolExecutor) -> None:
    before = agent.host.machine.state()
    reached, go_on = threading.Event(), threading.Event()

    def hold(step: Step) -> None:
        reached.set()
        go_on.wait(PATIENCE_S)

    agent.host.doing = hold
    asked = clients.submit(agent.put, ALICE, 2)
    assert reached.wait(PATIENCE_S)
    released = clients.submit(agent.own.delete, ALICE, PATIENCE_S)
    agent.until(lambda: agent.own._jobs[ALICE].cancelled.is_set())
    go_on.set()
    assert released.result() == (None, 204)
    with pytest.raises(NotPrepared, match="released while it was being prepared"):
        asked.result()
    assert agent.host.machine.state() == before
    assert agent.states() == {}


def test_a_release_ends_the_waiting_for_a_busy_device_for_good(small: Agent, clients: ThreadPoolExecutor) -> None:
    small.prepared(ALICE)
    waiting = clients.submit(small.put, BOB)
    small.until(lambda: small.own.is_at_work(BOB))
    assert small.own.delete(BOB, PATIENCE_S) == (None, 204)
    small.own.delete(ALICE, PATIENCE_S)
    with pytest.raises(NotPrepared):
        waiting.result()
    assert small.states() == {}
    assert small.host.bound == set()


def test_a_release_is_not_answered_by_a_recovery_that_is_under_way(agent: Agent, clients: ThreadPoolExecutor) -> None:
    """The upkeep saw it half done just before it was ready, and has it recovered: there is nothing left to do."""
    agent.prepared(ALICE)
    reached, go_on = threading.Event(), threading.Event()
    recover = agent.own.keeper.executor.recover

    def hold(consumer: str, strangers: Strangers = nobody) -> Refusal | None:
        reached.set()
        go_on.wait(PATIENCE_S)
        return recover(consumer, strangers)

    agent.own.keeper.executor.recover = hold  # type: ignore[method-assign]
    agent.own.recover(ALICE)
    assert reached.wait(PATIENCE_S)
    released = clients.submit(agent.own.delete, ALICE, PATIENCE_S)
    go_on.set()
    assert released.result() == (None, 204)
    assert agent.host.bound == set()


def test_a_release_waits_for_who_has_the_device_open_and_says_who(agent: Agent) -> None:
    (address,) = agent.prepared(ALICE)
    agent.host.users[address] = User(4711, "qemu-system-x86", "/dev/vfio/12")
    assert agent.own.delete(ALICE, 0)[1] == 202
    agent.until(lambda: agent.own.get(ALICE)["error"]["holders"])
    (holder,) = agent.own.get(ALICE)["error"]["holders"]
    assert (holder["pid"], holder["command"]) == (4711, "qemu-system-x86")
    assert (agent.own.get(ALICE)["state"], agent.own.get(ALICE)["handles"]) == ("releasing", [])
    agent.host.users.clear()
    assert agent.own.delete(ALICE, PATIENCE_S) == (None, 204)
    assert agent.host.bound == set()


def test_what_was_in_use_when_it_was_to_be_released_is_released_later_though_nobody_asks_again(agent: Agent) -> None:
    (address,) = agent.prepared(ALICE)
    agent.host.users[address] = User(4711, "qemu-system-x86", "/dev/vfio/12")
    agent.settings.prepare_deadline = 0
    with pytest.raises(NotPrepared, match="qemu-system-x86"):
        agent.own.delete(ALICE, PATIENCE_S)
    agent.settings.prepare_deadline = 60
    with pytest.raises(NotPrepared, match=r"is being released, which waits: .* qemu-system-x86") as refused:
        agent.put(ALICE)
    assert refused.value.kind == "retry"
    agent.restart()
    looks = len(agent.host.looks)
    for _ in range(3):
        agent.keep_up()
    assert len(agent.host.looks) == looks + 1
    assert agent.states() == {ALICE: "releasing"}
    agent.host.users.clear()
    agent.now += 31
    agent.keep_up()
    assert agent.states() == {}
    assert agent.host.bound == set()


def test_others_wait_for_what_is_in_use_and_to_be_released_as_for_any_other(
    small: Agent, clients: ThreadPoolExecutor
) -> None:
    (address,) = small.prepared(ALICE)
    small.host.users[address] = User(4711, "qemu-system-x86", "/dev/vfio/12")
    small.settings.prepare_deadline = 0
    with pytest.raises(NotPrepared, match="qemu-system-x86"):
        small.own.delete(ALICE, PATIENCE_S)
    small.settings.prepare_deadline = 60
    small.host.users.clear()
    looks = len(small.host.looks)
    waiting = clients.submit(small.prepared, BOB)
    small.until(lambda: len(small.host.looks) > looks + 1 or waiting.done())
    small.keep_up()
    assert waiting.result() == {address}


def test_many_recoveries_that_hang_hold_up_no_release(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    agent.prepared(ALICE)
    go_on, others = threading.Event(), [f"{number:08x}-27d4-4a3c-9a3e-0c1d2e3f4a5b" for number in range(8)]

    def hang(consumer: str, strangers: Strangers = nobody) -> Refusal | None:
        go_on.wait(PATIENCE_S)
        return Refusal(RefusalKind.RETRY, "its driver hangs")

    monkeypatch.setattr(agent.own.keeper.executor, "recover", hang)
    for each in others:
        agent.own.recover(each)
    assert agent.own.delete(ALICE, PATIENCE_S) == (None, 204)
    assert all(map(agent.own.is_at_work, others))
    go_on.set()
    agent.until(lambda: not any(map(agent.own.is_at_work, others)))
    assert f"{others[0]} is not finished or undone: its driver hangs" in caplog.text
    assert "is not released" not in caplog.text


def test_what_fails_is_undone_and_told_to_who_asks_later(agent: Agent) -> None:
    before = agent.host.machine.state()

    def fail(step: Step) -> None:
        if step.arguments["driver"] == "vfio-pci":
            raise StepFailed(RefusalKind.PERMANENT, f"{step.target}: vfio-pci refuses it", step.target)

    agent.host.doing = fail
    with pytest.raises(NotPrepared, match="vfio-pci refuses it") as refused:
        agent.put(ALICE)
    assert refused.value.kind == "permanent"
    assert agent.host.machine.state() == before
    assert agent.states() == {ALICE: "failed"}
    agent.host.doing = lambda _: None
    assert agent.prepared(ALICE)


def test_a_host_that_cannot_be_seen_is_no_place_for_anybody(agent: Agent) -> None:
    agent.host.blind = True
    with pytest.raises(NotPrepared, match="the look process hangs") as refused:
        agent.put(ALICE)
    assert refused.value.kind == "retry"
    agent.host.blind = False
    assert agent.prepared(ALICE)


def test_a_device_that_cannot_be_read_now_may_be_read_later(agent: Agent) -> None:
    """NVML is closed while another GPU changes hands: that is no reason to say that there is no such device."""
    agent.host.hazy = True
    agent.host.seen = lambda: setattr(agent.host, "hazy", len(agent.host.looks) < 2)
    assert agent.prepared(ALICE)
    agent.host.seen = lambda: None
    agent.host.hazy = True
    agent.settings.prepare_deadline = 3.0
    with pytest.raises(NotPrepared, match="unknown: nvml could not be read") as refused:
        agent.put(BOB)
    assert refused.value.kind == "retry"


@pytest.mark.parametrize("scrub", ["nvme-format", "nvme-sanitize", "gpu-reset"])
def test_what_is_known_to_resist_its_wipe_is_not_given(small: Agent, scrub: str) -> None:
    rule = Rule("vfs", mode=Mode.VF, match=Match(), prepare=Prepare(scrub=scrub))
    small.settings.policy = Policy((rule,), "test")
    small.host.resists = Refusal(RefusalKind.PERMANENT, "the policy wants it wiped, and it cannot be", NIC)
    with pytest.raises(NotPrepared, match="and it cannot be"):
        small.put(ALICE)
    assert small.host.asked == [("0000:3b:00.1", scrub)]
    assert small.host.bound == set()
    small.host.resists = None
    address = small.prepared(ALICE)
    small.host.asked.clear()
    with pytest.raises(NotPrepared, match="held by consumer"):
        small.put(BOB)
    assert address == {"0000:3b:00.1"}
    assert small.host.asked == [], "what somebody has, and may just be wiped, is left in peace"


def test_what_nobody_used_in_time_is_released(agent: Agent) -> None:
    agent.prepared(ALICE, expires_in=60)
    agent.keep_up()
    assert agent.states() == {ALICE: "prepared"}
    agent.now += 61
    agent.keep_up()
    assert agent.states() == {}
    assert agent.host.bound == set()


@pytest.mark.parametrize("jump", [365 * 86400.0, -365 * 86400.0])
def test_a_clock_that_is_set_makes_nothing_expire_and_hides_nobody_who_is_gone(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    agent.prepared(ALICE, expires_in=60)
    agent.prepared(BOB)
    agent.placement.unknown = {BOB}
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + jump)
    agent.jump = jump
    for waited, expected in ((0, {ALICE, BOB}), (59, {ALICE, BOB}), (1, {BOB}), (31, set())):
        agent.now += waited
        agent.keep_up()
        assert set(agent.states()) == expected


def test_what_was_used_once_never_expires(agent: Agent) -> None:
    (address,) = agent.prepared(ALICE, expires_in=60)
    agent.host.users[address] = User(4711, "qemu-system-x86", "/dev/vfio/12")
    agent.see()
    agent.keep_up()
    agent.host.users.clear()
    agent.see()
    agent.restart()
    agent.now += 61
    agent.keep_up()
    assert agent.own.get(ALICE)["expires"] is None
    assert agent.states() == {ALICE: "prepared"}


def test_what_is_used_now_is_not_released_though_the_last_look_is_older(agent: Agent) -> None:
    (address,) = agent.prepared(ALICE, expires_in=60)
    agent.host.users[address] = User(4711, "qemu-system-x86", "/dev/vfio/12")
    agent.now += 61
    agent.keep_up()
    assert agent.states() == {ALICE: "prepared"}
    assert agent.own.get(ALICE)["expires"] is None


def test_who_is_unknown_to_placement_twice_is_released(agent: Agent) -> None:
    agent.prepared(ALICE)
    agent.prepared(BOB)
    agent.placement.unknown = {ALICE}
    for expected in ({ALICE, BOB}, {BOB}):
        agent.now += 700
        agent.keep_up()
        assert agent.states() == dict.fromkeys(expected, "prepared")
    assert len(agent.host.bound) == 1


def test_who_vanished_without_a_word_is_found_within_minutes(agent: Agent) -> None:
    agent.prepared(ALICE)
    agent.placement.unknown = {ALICE}
    for waited, expected in ((130, {ALICE: "prepared"}), (20, {ALICE: "prepared"}), (10, {})):
        agent.now += waited
        agent.keep_up()
        assert agent.states() == expected


def test_after_a_hint_who_is_unknown_is_released_within_seconds(agent: Agent) -> None:
    agent.prepared(ALICE)
    agent.prepared(BOB)
    agent.placement.unknown = {ALICE}
    assert agent.upkeep.hint([ALICE, "somebody else"]) == {ALICE}
    for waited, expected in ((0, {ALICE, BOB}), (2, {BOB})):
        assert agent.upkeep.due_in(5.0) == waited
        agent.now += waited
        agent.keep_up()
        assert agent.states() == dict.fromkeys(expected, "prepared")
    assert set(agent.placement.asked) == {ALICE}


def test_a_hint_that_comes_before_the_allocation_is_gone_is_remembered_for_a_while(agent: Agent) -> None:
    agent.prepared(ALICE)
    agent.upkeep.hint([ALICE])
    agent.keep_up()
    agent.now += 4
    agent.keep_up()
    agent.placement.unknown = {ALICE}
    for waited in (5, 12):
        assert agent.states() == {ALICE: "prepared"}
        agent.now += waited
        agent.keep_up()
    assert agent.states() == {}


def test_a_hint_about_who_holds_its_devices_still_changes_nothing_and_is_forgotten(agent: Agent) -> None:
    agent.prepared(ALICE)
    agent.upkeep.hint([ALICE])
    for _ in range(5):
        agent.keep_up()
        agent.now += 30
    assert agent.upkeep.due_in(5.0) == 5.0
    assert agent.states() == {ALICE: "prepared"}
    assert len(agent.placement.asked) <= 5


def test_after_a_hint_who_has_it_open_keeps_it(agent: Agent) -> None:
    (address,) = agent.prepared(ALICE)
    agent.host.users[address] = User(4711, "qemu-system-x86", "/dev/vfio/12")
    agent.placement.unknown = {ALICE}
    agent.upkeep.hint([ALICE])
    for _ in range(5):
        agent.keep_up()
        agent.now += 10
    assert agent.states() == {ALICE: "prepared"}


def test_a_virtual_machine_that_ended_after_the_last_look_is_released_after_a_hint(agent: Agent) -> None:
    (address,) = agent.prepared(ALICE)
    agent.host.users[address] = User(4711, "qemu-system-x86", "/dev/vfio/12")
    agent.see()
    agent.host.users.clear()
    agent.placement.unknown = {ALICE}
    agent.upkeep.hint([ALICE])
    for _ in range(2):
        agent.keep_up()
        agent.now += 2
    assert agent.states() == {}


def test_what_a_migration_holds_meanwhile_is_kept_until_that_ends(agent: Agent) -> None:
    agent.prepared(ALICE)
    agent.placement.unknown = agent.placement.moved = {ALICE}
    for _ in range(3):
        agent.now += 700
        agent.keep_up()
    assert agent.states() == {ALICE: "prepared"}
    agent.placement.moved = set()
    for _ in range(2):
        agent.now += 700
        agent.keep_up()
    assert agent.states() == {}


@pytest.mark.parametrize("why", ["it is used", "Placement does not answer", "nobody checks"])
def test_who_is_unknown_is_kept_if(agent: Agent, why: str) -> None:
    (address,) = agent.prepared(ALICE)
    agent.placement.unknown = {ALICE}
    if why == "it is used":
        agent.host.users[address] = User(4711, "qemu-system-x86", "/dev/vfio/12")
    elif why == "nobody checks":
        agent.settings.check_allocations = False
    else:
        agent.placement.error = PlacementUnreachable("Placement is down")
    for _ in range(4):
        agent.now += 700
        agent.keep_up()
    assert agent.states() == {ALICE: "prepared"}


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
    agent.facts.reported.listed[asked] = None  # type: ignore[index]
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
    agent.facts.reported.listed[asked] = None  # type: ignore[index]
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
    agent.facts.reported.listed[asked] = None  # type: ignore[index]
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


def test_a_device_of_a_consumer_counts_as_held(agent: Agent) -> None:
    assert agent.facts.seen is not None
    assert agent.facts.holdings(agent.facts.seen.devices) is None
    agent.facts.held = frozenset()
    assert agent.facts.holdings(agent.facts.seen.devices) == frozenset()
    agent.prepared(ALICE)
    assert agent.facts.holdings(agent.facts.seen.devices) == frozenset({NIC})
    agent.own.delete(ALICE, PATIENCE_S)
    assert agent.facts.holdings(agent.facts.seen.devices) == frozenset()


def test_what_comes_of_requests_is_counted(agent: Agent) -> None:
    def counted(name: str, outcome: str) -> float | None:
        return agent.metrics._registry.get_sample_value(f"devagent_{name}_total", {"outcome": outcome})

    agent.prepared(ALICE)
    agent.prepared(ALICE)
    agent.placement.unknown = {BOB}
    with pytest.raises(NotPrepared):
        agent.put(BOB)
    assert [counted("prepares", each) for each in ("prepared", "repeated", "invalid", "retry")] == [1, 1, 1, 0]
    found = agent.own.keeper.overview()
    assert found is not None
    assert (found.states, found.releasing_since) == ({State.PREPARED: 1}, None)
    (address,) = agent.host.bound
    agent.host.users[address] = User(4711, "qemu-system-x86", "/dev/vfio/12")
    agent.settings.prepare_deadline = 0
    with pytest.raises(NotPrepared):
        agent.own.delete(ALICE, PATIENCE_S)
    waits = agent.own.keeper.overview()
    assert waits is not None
    assert waits.states == {State.RELEASING: 1}
    assert waits.releasing_since == pytest.approx(time.time(), abs=60)
    agent.host.users.clear()
    agent.settings.prepare_deadline = 60
    agent.own.delete(ALICE, PATIENCE_S)
    assert [counted("releases", each) for each in ("released", "retry")] == [1, 1]


def test_the_end_waits_for_what_is_under_way_and_begins_nothing(agent: Agent, clients: ThreadPoolExecutor) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def hold(step: Step) -> None:
        reached.set()
        go_on.wait(PATIENCE_S)

    agent.host.doing = hold
    asked = clients.submit(agent.prepared, ALICE)
    assert reached.wait(PATIENCE_S)
    assert not agent.own.close(0)
    with pytest.raises(NotPrepared, match="the agent is stopping"):
        agent.put(BOB)
    go_on.set()
    assert asked.result()
    agent.restart()
    assert agent.states() == {ALICE: "prepared"}


def test_one_look_serves_all_who_ask_meanwhile(agent: Agent, clients: ThreadPoolExecutor) -> None:
    sight, first = Sight(agent.host, agent.facts, lambda: agent.settings), threading.Event()
    reached, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        if not first.is_set():
            first.set()
            reached.set()
            go_on.wait(PATIENCE_S)

    agent.host.seen = hold
    early = clients.submit(sight.look, {NIC})
    assert reached.wait(PATIENCE_S)
    looks = len(agent.host.looks)
    late = [clients.submit(sight.look, {NIC}) for _ in range(5)]
    agent.until(lambda: clients._work_queue.empty())
    time.sleep(0.05)
    go_on.set()
    assert all(each.result().began > early.result().began for each in late)
    assert len(agent.host.looks) == looks + 1
    assert agent.host.looks[-1] == frozenset({NIC})


def test_refusals_name_the_reason_in_the_documents(agent: Agent) -> None:
    agent.placement.unknown = {ALICE}
    with pytest.raises(NotPrepared):
        agent.put(ALICE)
    found: Mapping[str, Any] = agent.own.get(ALICE)
    assert found["error"] == {"type": "invalid", "reason": f"{ALICE} holds nothing", "address": None, "holders": []}
    agent.own.delete(ALICE, PATIENCE_S)
    assert agent.states() == {}


def test_every_line_that_a_worker_logs_carries_the_request_that_it_works_for(agent: Agent) -> None:
    said: list[tuple[str, str | None]] = []

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append((record.getMessage().partition(":")[0], current()))

    logger, heard = logging.getLogger("devagent"), Heard(logging.INFO)
    level = logger.level
    logger.addHandler(heard)
    logger.setLevel(logging.INFO)
    try:
        with answering("req-1"):
            agent.prepared(ALICE)
        with answering("req-2"):
            agent.own.delete(ALICE, PATIENCE_S)
        agent.prepared(BOB)
    finally:
        logger.removeHandler(heard)
        logger.setLevel(level)
    assert (f"{ALICE} is prepared", "req-1") in said
    assert (f"{ALICE} is released", "req-2") in said
    assert (f"{BOB} is prepared", None) in said
    assert all(id_ is not None for message, id_ in said if message.startswith(ALICE))
