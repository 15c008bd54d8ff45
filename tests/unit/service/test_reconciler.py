# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The reconciler's cycles: what is told when, what is logged once, and what Placement's silence changes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devagent import errors
from devagent.inventory.build import build
from devagent.inventory.reconcile import Holding, Key, Kind, Scene, Unexplained, Verdict
from devagent.model.device import Device
from devagent.model.policy import Policy
from devagent.model.provider import ProviderTree
from devagent.model.user import User
from devagent.placement.holders import Holders
from devagent.placement.patience import Patience
from devagent.service.reconciler import Reconciler, Standing, follow

from ..worlds import function, managed, rule

ROOT = "0c6e1f57-6a3d-4f0b-9a55-2f7d5a3b8e10"
SERVER = "5e1f0000-0000-4000-8000-000000000001"
ADDRESS = "0000:3b:00.0"
IDLE = managed(function())
BUSY = replace(IDLE, users=(User(4711, "qemu-system-x86", "/dev/vfio/7", SERVER),))

Told = tuple[frozenset[str], tuple[tuple[str, str], ...]]


@dataclass
class Host:
    """A host with one GPU and its Placement: who holds the GPU, and at which generation."""

    device: Device | None = IDLE
    holding: Holding = field(default_factory=dict)
    generation: int = 1
    away: bool = False
    looked: bool = True
    reads: int = 0
    told: list[Told] = field(default_factory=list)

    def __post_init__(self) -> None:
        holders = Holders(self._read, Patience(lambda _: None))
        self.reconciler = Reconciler(self._scene, holders, lambda held, what: self.told.append((held, what)))

    def cycle(self) -> bool:
        return self.reconciler.cycle()

    def give(self, **amounts: int) -> None:
        self.holding, self.generation = {SERVER: amounts}, self.generation + 1

    def take_back(self) -> None:
        """Deletes the allocation, which leaves the generation as it is."""
        self.holding = {}

    def _read(self, uuid: str) -> tuple[int, Holding]:
        self.reads += 1
        if self.away:
            raise errors.PlacementUnreachable("Placement cannot be reached: connection refused")
        return self.generation, self.holding

    def _scene(self) -> Scene | None:
        if not self.looked:
            return None
        devices = (self.device,) if self.device else ()
        listed = {uuid: replace(one, generation=self.generation) for uuid, one in _given().by_uuid().items()}
        return Scene(devices, build(devices, ROOT, "h1"), listed, Policy((rule(),), "test"))


def _given() -> ProviderTree:
    return build((IDLE,), ROOT, "h1")


def kinds(host: Host) -> list[Kind]:
    return [one.finding.kind for one in host.reconciler.told]


def test_before_the_first_look_there_is_no_cycle() -> None:
    host = Host(looked=False)
    assert not host.cycle()
    assert (host.told, host.reads) == ([], 0)


def test_what_stands_in_two_cycles_is_told() -> None:
    host = Host(BUSY)
    assert host.cycle()
    assert host.cycle()
    assert [len(unexplained) for _, unexplained in host.told] == [0, 1]
    [(address, what)] = host.told[-1][1]
    assert address == ADDRESS
    assert "4711" in what


def test_a_start_between_two_cycles_is_never_told() -> None:
    host = Host(BUSY)
    host.cycle()
    host.give(PGPU=1)
    host.cycle()
    host.cycle()
    assert [what for _, what in host.told] == [(), (), ()]
    assert host.told[-1][0] == {ADDRESS}


def test_a_quiet_host_asks_placement_once() -> None:
    host = Host()
    host.give(PGPU=1)
    for _ in range(5):
        host.cycle()
    assert host.reads == 1


def test_a_finding_rests_on_what_placement_says_now() -> None:
    host = Host()
    host.give(PGPU=1)
    host.cycle()
    host.take_back()
    host.device = None
    for _ in range(3):
        host.cycle()
    assert kinds(host) == []
    assert host.reads == 2


def test_a_server_that_outlives_its_device_is_told_until_it_is_gone() -> None:
    host = Host(None)
    host.give(PGPU=1)
    host.cycle()
    host.cycle()
    assert kinds(host) == [Kind.GONE]
    host.take_back()
    host.cycle()
    assert kinds(host) == []


def test_it_is_logged_once_when_it_begins_to_count_and_once_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    host = Host(BUSY)
    counts = []
    for _ in range(4):
        host.cycle()
        counts.append(len(caplog.records))
    host.device = IDLE
    for _ in range(2):
        host.cycle()
        counts.append(len(caplog.records))
    assert counts == [0, 1, 1, 1, 2, 2]
    begun, ended = caplog.records
    assert (begun.levelname, ended.levelname) == ("WARNING", "INFO")
    assert begun.getMessage().startswith(f"{ADDRESS}: qemu-system-x86 (pid 4711)")
    assert ended.getMessage().startswith(f"{ADDRESS}: no longer so: qemu-system-x86 (pid 4711)")
    assert {vars(record)["device"] for record in caplog.records} == {ADDRESS}


def test_what_never_counted_is_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    host = Host(BUSY)
    host.cycle()
    host.device = IDLE
    host.cycle()
    assert caplog.records == []


def test_while_placement_is_away_all_stays_and_one_line_says_so(caplog: pytest.LogCaptureFixture) -> None:
    host = Host(BUSY)
    host.cycle()
    host.cycle()
    before = host.reconciler.told
    caplog.clear()
    host.away, host.generation = True, 2
    assert [host.cycle() for _ in range(3)] == [False] * 3
    assert host.reconciler.told == before
    assert len(host.told) == 2
    [line] = caplog.messages
    assert "connection refused" in line


def test_after_placement_is_back_its_next_absence_is_said_again(caplog: pytest.LogCaptureFixture) -> None:
    host = Host()
    for away in (True, False, True):
        host.away, host.generation = away, host.generation + 1
        host.cycle()
    assert len(caplog.messages) == 2


def test_a_device_that_cannot_be_read_for_a_while_keeps_what_was_told(caplog: pytest.LogCaptureFixture) -> None:
    host = Host(BUSY)
    host.cycle()
    host.cycle()
    lines = len(caplog.records)
    unread = replace(BUSY.decision, managed=False, unknown=True)
    host.device = replace(BUSY, decision=unread)
    host.cycle()
    assert kinds(host) == [Kind.UNALLOCATED]
    assert len(caplog.records) == lines


FOUND = Unexplained(ADDRESS, Kind.GONE, "", "p", "it is gone")
Steps = list[tuple[bool, bool]]


def stood(steps: Iterable[Verdict]) -> Mapping[Key, Standing]:
    standing: Mapping[Key, Standing] = {}
    for verdict in steps:
        standing = follow(standing, verdict)
    return standing


def test_what_stands_in_two_cycles_counts() -> None:
    [once] = stood([Verdict((FOUND,))]).values()
    [twice] = stood([Verdict((FOUND,)), Verdict((FOUND,))]).values()
    assert not once.counts
    assert twice.counts


def test_a_cycle_without_it_starts_the_count_anew() -> None:
    [again] = stood([Verdict((FOUND,)), Verdict(()), Verdict((FOUND,))]).values()
    assert not again.counts


def test_new_words_do_not_make_a_new_finding() -> None:
    [one] = stood([Verdict((FOUND,)), Verdict((replace(FOUND, what="it is still gone"),))]).values()
    assert (one.counts, one.finding.what) == (True, "it is still gone")


def test_another_process_does_make_one() -> None:
    process = replace(FOUND, kind=Kind.UNALLOCATED, about="1")
    [one] = stood([Verdict((process,)), Verdict((replace(process, about="2"),))]).values()
    assert not one.counts


@given(st.lists(st.tuples(st.booleans(), st.booleans())))
def test_a_cycle_that_could_not_judge_changes_nothing(steps: Steps) -> None:
    verdicts = [
        Verdict((), frozenset({"p"})) if blind else Verdict((FOUND,) if found else ()) for blind, found in steps
    ]
    told = {key: one.cycles for key, one in stood(verdicts).items()}
    judging = [verdict for verdict in verdicts if not verdict.unjudged]
    assert told == {key: one.cycles for key, one in stood(judging).items()}
