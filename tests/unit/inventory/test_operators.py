# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What operators say of a device's health wins until it ends, and no word hides a lost device."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from devagent.inventory.operators import clear, override
from devagent.model.health import Book, Health, Override, State
from devagent.model.occurrence import PcieError

from .conditions import ADDRESS, DEAD, OUT_OF_PROCESSOR, SICK, WELL, Patient, fatal, gpu

NAME = gpu().key
TWICE = Health(State.UNHEALTHY, ("its driver asks for a reset", "a row could not be remapped"))


def said(state: State = State.HEALTHY, until: float | None = None) -> Override:
    return Override(state, "vendor says it is fine", "uid 0 (root)", until)


def overridden(patient: Patient, word: Override) -> State:
    patient.book = override(patient.book, NAME, word, patient.now)
    return patient.state


@pytest.mark.parametrize("state", [State.HEALTHY, State.SUSPECT, State.UNHEALTHY])
def test_the_operators_word_wins_and_is_shown(state: State) -> None:
    patient = Patient()
    patient.looks(SICK)
    assert overridden(patient, said(state)) is state
    assert patient.health.reasons == (
        f"set to {state} by uid 0 (root): vendor says it is fine",
        "monitors say unhealthy: its driver asks for a reset",
    )


@pytest.fixture
def far_from_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as here:
        here.setenv("TZ", "XYZ-9")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_from_greenwich")
def test_a_word_is_evidence_of_what_was_said_by_whom_until_when() -> None:
    patient = Patient()
    patient.look(gpu(TWICE))
    until = 1_800_003_600.0
    overridden(patient, said(State.SUSPECT, until))
    words = "set to suspect by uid 0 (root) until 2027-01-15 09:00 UTC: vendor says it is fine"
    assert patient.health.reasons == (words, f"monitors say unhealthy: {'; '.join(TWICE.reasons)}")
    evidence = patient.condition.evidence[-1]
    assert (evidence.at, evidence.text, evidence.subject) == (patient.now, words, "override")


def test_no_word_hides_a_lost_device() -> None:
    patient = Patient()
    patient.looks(DEAD)
    assert overridden(patient, said()) is State.LOST


def test_a_word_ends_when_its_time_is_over() -> None:
    patient = Patient()
    patient.looks(SICK)
    overridden(patient, said(until=patient.now + 100))
    assert "until 20" in patient.health.reasons[0]
    assert patient.looks(SICK, SICK) == ["healthy", "unhealthy"]
    assert patient.condition.override is None


def test_a_word_that_is_over_counts_no_more_though_no_look_came_since() -> None:
    patient = Patient()
    patient.looks(SICK)
    overridden(patient, said(until=patient.now + 100))
    patient.now += 100
    assert patient.health == SICK


def test_the_monitors_go_on_below_an_operators_word() -> None:
    patient = Patient()
    patient.looks(WELL)
    overridden(patient, said(State.UNHEALTHY))
    assert patient.looks(SICK, WELL, WELL, WELL) == ["unhealthy"] * 4
    patient.book = clear(patient.book, NAME, "uid 0", patient.now)
    assert patient.looks(WELL) == ["healthy"]


@pytest.mark.parametrize("state", [State.LOST, State.UNMONITORED])
def test_a_state_that_nobody_can_set_is_refused(state: State) -> None:
    patient = Patient()
    patient.looks(WELL)
    with pytest.raises(ValueError, match=f"^{state} cannot be set: healthy, suspect, unhealthy can"):
        overridden(patient, said(state))
    with pytest.raises(ValueError, match=r"^1e\+300 is no time that a calendar has"):
        overridden(patient, said(until=1e300))


def test_of_an_unknown_device_nothing_can_be_said() -> None:
    book: Book = {}
    with pytest.raises(KeyError):
        override(book, "x", said(), 1.0)
    with pytest.raises(KeyError):
        clear(book, "x", "uid 0", 1.0)


def test_clear_forgets_what_no_look_can_end() -> None:
    patient = Patient()
    patient.look(gpu(), OUT_OF_PROCESSOR, PcieError(ADDRESS, "failed_recovery"))
    patient.book = clear(patient.book, NAME, "uid 0 (root)", patient.now)
    assert patient.looks(WELL) == ["healthy"]
    evidence = patient.condition.evidence[-1]
    assert (evidence.text, evidence.subject) == ("cleared by uid 0 (root)", "override")


def test_a_clear_begins_a_new_state_where_it_changes_the_old_one() -> None:
    patient = Patient()
    patient.looks(SICK, WELL, WELL)
    assert patient.condition.clean == 2
    patient.book = clear(patient.book, NAME, "uid 0", patient.now + 30)
    assert (patient.state, patient.condition.since, patient.condition.clean) == ("unmonitored", patient.now + 30, 0)


def test_a_clear_that_changes_nothing_begins_no_new_state() -> None:
    patient = Patient()
    patient.looks(SICK)
    began = patient.now
    patient.looks(SICK)
    patient.book = clear(patient.book, NAME, "uid 0", patient.now + 30)
    assert (patient.state, patient.condition.since) == ("unhealthy", began)


def test_of_all_that_the_last_look_saw_the_worst_remains() -> None:
    patient, narrow = Patient(), {"current_link_width": "8", "max_link_width": "16"}
    patient.look(gpu(DEAD, files=narrow))
    patient.book = clear(patient.book, NAME, "uid 0", patient.now)
    assert (patient.health.state, set(patient.health.reasons)) == (
        State.LOST,
        {*DEAD.reasons, "its PCIe link has 8 of 16 lanes"},
    )


def test_clear_forgets_errors_that_were_counted() -> None:
    patient = Patient()
    for total in (0, 1):
        patient.look(gpu(files=fatal(total)))
    patient.book = clear(patient.book, NAME, "uid 0", patient.now)
    assert patient.look(gpu(files=fatal(1))) == "healthy"


def test_clear_does_not_hide_what_the_last_look_saw() -> None:
    patient = Patient()
    patient.look(gpu(SICK), OUT_OF_PROCESSOR)
    patient.book = clear(patient.book, NAME, "uid 0", patient.now)
    assert patient.health == SICK
