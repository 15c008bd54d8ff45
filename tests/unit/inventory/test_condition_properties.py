# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What must hold of the health engine whatever happens, in whatever order, on whatever clock."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from devagent.inventory.condition import Rules, follow, resume
from devagent.inventory.operators import OVERRIDES, override, verdict
from devagent.model.device import Device
from devagent.model.health import Book, Condition, Health, Kept, Override, State
from devagent.model.occurrence import AerError, DriverLoaded, Occurrence, PcieError, Xid
from devagent.sources import condition_file

from ..worlds import claim, function, managed
from .conditions import ADDRESS, DEAD, SICK, SUSPECT, WELL, gpu

HEALTHS = st.sampled_from([WELL, SUSPECT, SICK, DEAD, None])
ACTIONS = st.sampled_from([None, "none", "gpu reset", "drain p2p"])
RECOVERIES = ["begin_recovery", "failed_recovery", "successful_recovery"]
COUNTS = st.integers(0, 3)
TIMES = st.floats(0, 4e9)


def counters(fatal: int, nonfatal: int) -> dict[str, str]:
    return {"aer_dev_fatal": f"TOTAL_ERR_FATAL {fatal}", "aer_dev_nonfatal": f"TOTAL_ERR_NONFATAL {nonfatal}"}


FILES: st.SearchStrategy[dict[str, str]] = (
    st.builds(counters, COUNTS, COUNTS) | st.just({"current_link_width": "8", "max_link_width": "16"}) | st.just({})
)
DEVICES = st.builds(gpu, HEALTHS, ACTIONS, FILES) | st.builds(gpu, st.none(), st.none(), driver=st.just("vfio-pci"))
OCCURRENCES: st.SearchStrategy[Occurrence] = st.one_of(
    st.builds(Xid, st.just(ADDRESS), st.integers(0, 999), st.text(max_size=9), TIMES, st.sampled_from([None, "GI 1"])),
    st.builds(AerError, st.just(ADDRESS), st.booleans(), TIMES),
    st.builds(PcieError, st.just(ADDRESS), st.sampled_from(RECOVERIES)),
    st.builds(DriverLoaded, TIMES),
)
STEPS = st.lists(st.tuples(DEVICES | st.none(), st.lists(OCCURRENCES, max_size=30), TIMES), max_size=30)
RULES = st.builds(Rules, st.integers(1, 4), st.integers(1, 4), st.floats(1, 1e6))
NAME = gpu().key


def books(steps: list[tuple[Device | None, list[Occurrence], float]], rules: Rules) -> list[Book]:
    """Gives the book before and after each step."""
    found: list[Book] = [{}]
    for device, happened, now in steps:
        found.append(follow([device] if device else [], found[-1], happened, now, rules))
    return found


def clean(device: Device | None) -> bool:
    """Tells whether a look says that the GPU is well: not silent, and nothing asked for."""
    return device is not None and device.claim.health == WELL


@settings(deadline=None)
@given(STEPS, RULES)
def test_nothing_that_is_fenced_is_opened_before_its_clean_checks(
    steps: list[tuple[Device | None, list[Occurrence], float]], rules: Rules
) -> None:
    in_a_row = 0
    for (device, _, _), before, after in zip(steps, books(steps, rules), books(steps, rules)[1:], strict=False):
        old, new = before.get(NAME, Condition()), after.get(NAME, Condition())
        fenced = old.health.state.is_fenced
        improves = device is not None and (device.claim.health is None or not device.claim.health.state.is_fenced)
        in_a_row = in_a_row + 1 if fenced and improves else 0
        if fenced and NAME in after and not new.health.state.is_fenced:
            assert in_a_row >= rules.clean_checks


@settings(deadline=None)
@given(STEPS, RULES, HEALTHS)
def test_the_state_is_never_better_than_what_the_last_look_saw(
    steps: list[tuple[Device | None, list[Occurrence], float]], rules: Rules, last: Health | None
) -> None:
    book = follow([gpu(last)], books(steps, rules)[-1], (), 1.0, rules)
    assert last is None or book[NAME].health.state.rank >= last.state.rank


@settings(deadline=None)
@given(STEPS, RULES)
def test_what_is_remembered_is_bounded(
    steps: list[tuple[Device | None, list[Occurrence], float]], rules: Rules
) -> None:
    for book in books(steps, rules):
        for condition in book.values():
            assert len(condition.evidence) <= 16
            assert len(condition.flaps) <= rules.flap_limit
            assert len(condition.troubles) <= 20
            assert len(condition.counters) <= 2


def test_devices_that_came_and_went_do_not_pile_up() -> None:
    book: Book = {}
    for number in range(600):
        of = function(pcie_path=(f"0000:3a:{number % 32:02x}.{number // 32 % 8}", f"0000:40:{number // 256:02x}.0"))
        book = follow([managed(of, claim=claim(of, health=SICK))], book, (), float(number), Rules())
    assert len(book) == 257


@settings(deadline=None)
@given(STEPS, RULES, HEALTHS, TIMES)
def test_the_same_look_again_changes_nothing_while_it_says_the_same(
    steps: list[tuple[Device | None, list[Occurrence], float]], rules: Rules, health: Health | None, now: float
) -> None:
    """Unless it counts as a check, which is what brings a trouble to its end."""
    once = follow([gpu(health)], books(steps, rules)[-1], (), now, rules, checked=())
    assert follow([gpu(health)], once, (), now, rules, checked=()) == once


OVERRIDE = st.builds(
    Override, st.sampled_from(OVERRIDES), st.text(max_size=9), st.text(max_size=9), st.none() | st.floats(0, 4e9)
)


@settings(deadline=None)
@given(STEPS, RULES, OVERRIDE, TIMES)
def test_an_override_wins_while_it_holds_but_hides_no_lost_device(
    steps: list[tuple[Device | None, list[Occurrence], float]], rules: Rules, said: Override, now: float
) -> None:
    book = follow([gpu()], books(steps, rules)[-1], (), now, rules)
    monitors = book[NAME].health
    health = verdict(override(book, NAME, said, now)[NAME], now)
    if not said.holds(now):
        assert health == verdict(book[NAME], now)
    elif monitors.state is State.LOST:
        assert health.state is State.LOST
    else:
        assert health.state is said.state
    assert not said.holds(now) or said.reason in health.reasons[0]


@settings(deadline=None)
@given(STEPS, RULES, OVERRIDE, st.none() | st.text(max_size=9), st.none() | st.integers(0, 1 << 62))
def test_what_is_kept_comes_back_from_the_file_the_same(
    steps: list[tuple[Device | None, list[Occurrence], float]],
    rules: Rules,
    said: Override,
    boot: str | None,
    position: int | None,
) -> None:
    book = follow([gpu()], books(steps, rules)[-1], (), 5.0, rules)
    kept = Kept(override(book, NAME, said, 6.0), boot, position)
    with TemporaryDirectory() as folder:
        condition_file.save(folder, kept)
        assert condition_file.load(folder) == kept
        body = json.loads((Path(folder) / condition_file.FILE).read_text())
    assert body["devices"][NAME] == json.loads(json.dumps(asdict(kept.book[NAME])))


@settings(deadline=None)
@given(STEPS, RULES)
def test_a_reboot_opens_nothing_by_itself(
    steps: list[tuple[Device | None, list[Occurrence], float]], rules: Rules
) -> None:
    book = books(steps, rules)[-1]
    after = resume(Kept(book, "one", 3), "two").book
    assert {name: each.health for name, each in after.items()} == {name: each.health for name, each in book.items()}
    for name, each in after.items():
        assert replace(each, troubles=(), clean=0, counters={}, action=None, driver=None) == replace(
            book[name], troubles=(), clean=0, counters={}, action=None, driver=None
        )
