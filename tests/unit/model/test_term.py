# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A length of time that no clock can change."""

from __future__ import annotations

import pytest

from devagent.model.term import Term

TERM = Term("one", ends=700.0, seconds=600.0)


@pytest.mark.parametrize(("now", "left"), [(100.0, 600.0), (650.0, 50.0), (700.0, 0.0), (800.0, -100.0)])
def test_in_its_boot_a_term_ends_when_it_was_said_to(now: float, left: float) -> None:
    assert TERM.left("one", now) == left


@pytest.mark.parametrize(("now", "left"), [(0.0, 600.0), (650.0, -50.0)])
def test_after_another_boot_a_term_counts_anew_from_there(now: float, left: float) -> None:
    assert TERM.left("another", now) == left
