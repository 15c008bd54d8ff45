# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Who changes our providers again and again wins for ten minutes at a time, and nobody else stops us."""

from __future__ import annotations

from dataclasses import replace

from devagent.inventory.diff import Action, Change
from devagent.model.provider import Inventory, Provider
from devagent.placement.contests import judge, ongoing
from devagent.placement.state import Contest

OURS = Provider("4a1e", "devagent:host:0000:3b:00.0", "root", {"PGPU": Inventory(1)}, frozenset({"CUSTOM_A"}), 7)
THEIRS = replace(OURS, traits=frozenset(), generation=8)
UNDONE = Change(Action.UPDATE, THEIRS, OURS)
NOW = 1e9


class Cycles:
    """What is remembered from one cycle to the next."""

    def __init__(self) -> None:
        self.contests: dict[str, Contest] = {}

    def see(self, *changes: Change, written: Provider = OURS, now: float = NOW) -> None:
        judge(self.contests, changes, {written.uuid: written}, [OURS.uuid], now)

    def says(self, now: float = NOW) -> str:
        return str(ongoing(self.contests, OURS.uuid, now) or "")


def test_who_undoes_it_three_times_in_a_row_has_it_for_ten_minutes() -> None:
    cycles = Cycles()
    for _ in range(2):
        cycles.see(UNDONE)
        assert cycles.says() == ""
    cycles.see(UNDONE)
    assert "somebody else keeps changing it (3 times in a row)" in cycles.says()
    assert "left alone for 10 minutes" in cycles.says(NOW + 599)
    assert cycles.says(NOW + 600) == ""


def test_while_it_is_left_alone_a_quiet_cycle_ends_nothing_and_afterwards_it_does() -> None:
    cycles = Cycles()
    for _ in range(3):
        cycles.see(UNDONE)
    cycles.see(now=NOW + 599)
    assert cycles.says(NOW + 599) != ""
    cycles.see(now=NOW + 600)
    assert cycles.contests == {}


def test_who_goes_on_afterwards_has_it_again_at_once() -> None:
    cycles = Cycles()
    for _ in range(3):
        cycles.see(UNDONE)
    cycles.see(UNDONE, now=NOW + 700)
    assert "4 times in a row" in cycles.says(NOW + 1299)


def test_a_quiet_cycle_in_between_begins_the_count_anew() -> None:
    cycles = Cycles()
    for changes in ((UNDONE,), (UNDONE,), (), (UNDONE,), (UNDONE,)):
        cycles.see(*changes)
        assert cycles.says() == ""


def test_only_what_we_had_written_is_undone() -> None:
    """The host itself has changed, nothing was ever written, it is new, or it is on its way out."""
    for written, change in (
        (replace(OURS, traits=frozenset({"CUSTOM_B"})), UNDONE),
        (replace(OURS, uuid="another"), UNDONE),
        (OURS, Change(Action.CREATE, None, OURS)),
        (OURS, Change(Action.REPLACE, THEIRS, OURS)),
    ):
        cycles = Cycles()
        for _ in range(4):
            cycles.see(change, written=written)
        assert cycles.contests == {}


def test_a_late_answer_of_a_replicated_database_is_nobodys_doing() -> None:
    late = replace(THEIRS, generation=6)
    cycles = Cycles()
    for _ in range(4):
        cycles.see(replace(UNDONE, before=late))
    assert cycles.contests == {}
    cycles.see(replace(UNDONE, before=replace(THEIRS, generation=OURS.generation)))
    assert cycles.contests[OURS.uuid].count == 1


def test_a_clock_that_was_far_ahead_leaves_nothing_alone_for_years() -> None:
    assert ongoing({OURS.uuid: Contest(3, NOW + 601)}, OURS.uuid, NOW) is None
    assert ongoing({OURS.uuid: Contest(3, NOW + 600)}, OURS.uuid, NOW) is not None
    assert ongoing({}, OURS.uuid, NOW) is None
