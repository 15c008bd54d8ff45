# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What operators say of a device's health wins until it ends, and no word hides a lost device."""

from __future__ import annotations

import pytest

from devagent.inventory.condition import key
from devagent.inventory.operators import clear, override
from devagent.model.happened import PcieError
from devagent.model.health import Book, Override, State

from .conditions import ADDRESS, DEAD, OUT_OF_PROCESSOR, SICK, WELL, Patient, fatal, gpu

NAME = key(gpu())


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
    with pytest.raises(ValueError, match="cannot be set: healthy, suspect, unhealthy can"):
        overridden(patient, said(state))
    with pytest.raises(ValueError, match="no time that a calendar has"):
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
    assert patient.condition.evidence[-1].text == "cleared by uid 0 (root)"


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
