# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What XIDs mean: NVIDIA's classes, both of its opinions where it has two, and the operator's word."""

from __future__ import annotations

import pytest

from devagent.inventory.xids import MISSED, TABLE, meaning
from devagent.model.health import End, State

# NVIDIA's catalogue of XIDs of October 2025, by its immediate action.
RESTART_APP = {8, 11, 13, 25, 31, 32, *range(39, 42), 60, *range(68, 73), *range(75, 78), 80, *range(82, 87), 88, 89}
RESTART_APP |= {94, *range(96, 106), *range(126, 136), 139}
IGNORE = {37, 38, 43, 44, 63, 66, 67, 92, 93, 106, 107, 121, 137, 141, 152, 153, 157, 160, 161}
RESET_GPU = {46, 62, 64, 95, 109, 110, 119, 120, 136, 140, 143, 155, 156, 158}
OF_TWO_MINDS = {45, 48, 54, 74, 78, 79, 123, 142, *range(144, 152), 154, 159}
# NVIDIA's own Kubernetes device plugin passes these over.
SKIPPED = {13, 31, 43, 45, 68, 109}


@pytest.mark.parametrize("number", sorted(RESTART_APP | IGNORE | {45, 78, 151, 154, 159}))
def test_a_programs_fault_and_mere_news_never_fence(number: int) -> None:
    assert meaning(number).state is State.HEALTHY


@pytest.mark.parametrize("number", sorted(RESET_GPU))
def test_what_asks_for_a_reset_ends_only_by_one(number: int) -> None:
    found = meaning(number)
    assert found.end is End.RESET
    assert "--gpu-reset" in found.cure
    assert found.state is (State.SUSPECT if number in SKIPPED else State.UNHEALTHY)


def test_every_number_of_the_catalogue_is_known_and_no_other() -> None:
    assert set(TABLE) == RESTART_APP | IGNORE | RESET_GPU | OF_TWO_MINDS


@pytest.mark.parametrize(
    ("number", "state", "end", "cure"),
    [
        (48, State.UNHEALTHY, End.RESET, "--gpu-reset"),
        (54, State.UNHEALTHY, End.RESET, "power cables"),
        (74, State.SUSPECT, End.CHECKS, "nvlink --errorcounters"),
        *((number, State.SUSPECT, End.CHECKS, "nvlink --errorcounters") for number in range(144, 151)),
        (78, State.HEALTHY, End.CHECKS, "the guest's driver"),
        (123, State.SUSPECT, End.CHECKS, ""),
        (142, State.SUSPECT, End.CHECKS, "report it to NVIDIA"),
        (151, State.HEALTHY, End.CHECKS, "restart the virtual machine"),
        (159, State.HEALTHY, End.CHECKS, "managed memory"),
    ],
)
def test_what_is_neither_says_what_to_do(number: int, state: State, end: End, cure: str) -> None:
    found = meaning(number)
    assert (found.state, found.end) == (state, end)
    assert cure in found.cure


def test_a_gpu_off_the_bus_is_lost() -> None:
    assert (meaning(79).state, meaning(79).end, meaning(79).cure) == (State.LOST, End.RESET, "reboot this host")


def test_an_nvlink_error_says_itself_whether_it_is_fatal() -> None:
    fatal = "NETIR_LINK_EVT Fatal XC0 i0 Link 00 (0x025001c6 0x00000000)"
    assert meaning(149, fatal).state is State.SUSPECT
    for number in (144, 150):
        assert meaning(number, "RLW_RXPIPE Nonfatal XC0").state is State.HEALTHY
    for number in (142, 143, 151):
        assert meaning(number, "a Nonfatal error") == meaning(number)
    assert meaning(145, "RLW_RXPIPE Nonfatal XC0 i0 Link 13 (0x0409a0c2)").state is State.HEALTHY


def test_an_unknown_number_makes_suspect_and_says_what_to_do() -> None:
    assert meaning(998).state is State.SUSPECT
    assert "[health] xids" in meaning(998).cure


@pytest.mark.parametrize("number", [13, 46, 79, 998])
def test_the_operators_word_wins(number: int) -> None:
    assert meaning(number, words={number: "ignore"}).state is State.HEALTHY
    assert meaning(number, words={number: "suspect"}).state is State.SUSPECT
    found = meaning(number, words={number: "unhealthy"})
    assert (found.state, found.end) == (State.UNHEALTHY, End.RESET)
    assert found.cure


def test_the_operators_word_takes_over_what_the_table_knows_beside_it() -> None:
    assert "report it to NVIDIA" in meaning(142, words={142: "unhealthy"}).cure
    suspect = meaning(13, words={13: "suspect"})
    assert (suspect.end, suspect.cure) == (End.CHECKS, "")
    assert meaning(13, words={14: "unhealthy"}) == meaning(13)


def test_whatever_fences_says_what_to_do() -> None:
    assert all(found.cure for found in TABLE.values() if found.state.is_fenced)
    assert all(meaning(number).state.is_fenced for number in MISSED)
    assert set(MISSED) == {62, 79, 119, 120}
