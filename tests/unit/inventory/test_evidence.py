# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a look leaves as evidence: what is new, worse or over, the newest of each subject."""

from __future__ import annotations

import pytest

from devagent.inventory.evidence import news, noted
from devagent.model.health import Condition, Evidence, Health, State, Trouble


def trouble(state: State, source: str = "driver") -> Trouble:
    return Trouble(source, Health(state, ("a row failed", "it is hot")))


@pytest.mark.parametrize("source", ["driver", "link", "aer"])
@pytest.mark.parametrize(
    ("before", "told"), [(None, True), (State.SUSPECT, True), (State.UNHEALTHY, False), (State.LOST, False)]
)
def test_what_is_new_or_worse_is_told_with_all_reasons(source: str, before: State | None, told: bool) -> None:
    old = [] if before is None else [trouble(before, source)]
    found = news(old, [trouble(State.UNHEALTHY, source)], 5.0)
    assert found == ([Evidence(5.0, "a row failed; it is hot", source)] if told else [])


def test_what_is_over_is_told_and_an_xid_speaks_for_itself_only_at_its_beginning() -> None:
    driver, xid = trouble(State.LOST), trouble(State.LOST, "xid 79")
    assert news([], [xid], 5.0) == []
    assert news([driver, xid], [driver], 5.0) == [Evidence(5.0, "xid 79: well again", "xid 79 again")]
    assert news([driver], [], 5.0) == [Evidence(5.0, "driver: well again", "driver again")]


def test_of_each_subject_the_newest_is_kept_and_of_many_the_last_sixteen() -> None:
    many = [Evidence(float(number), str(number), f"xid {number}") for number in range(17)]
    kept = noted(Condition(), *many).evidence
    assert kept == tuple(many[1:])
    again = noted(Condition(evidence=kept), Evidence(99.0, "again", "xid 1")).evidence
    assert again == (*many[2:], Evidence(99.0, "again", "xid 1", times=2))
