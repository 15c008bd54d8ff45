# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The README and the page on the peers say the same."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

import pytest

from bench.compare_table import BEGIN, END, replaced

REPOSITORY = Path(__file__).parents[3]
README, PAGE = (REPOSITORY / name for name in ("README.md", "docs/comparison.md"))
FEATURES = "| | devagent | Nova's own tracking | Cyborg |"


def features(path: Path) -> list[str]:
    """Gives the lines of the table of what each has."""
    lines = path.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(FEATURES))
    return list(takewhile(lambda line: line.startswith("|"), lines[first:]))


def measured(path: Path) -> str:
    """Gives what stands between the two comments."""
    return path.read_text().partition(BEGIN)[2].partition(END)[0]


@pytest.mark.parametrize("path", [README, PAGE], ids=lambda path: path.name)
def test_the_measured_table_can_be_written(path: Path) -> None:
    assert measured(path).strip()
    assert replaced(path.read_text(), measured(path).strip()) == path.read_text()


def test_both_have_the_same_measured_table() -> None:
    assert measured(README) == measured(PAGE)


def test_what_the_readme_says_that_each_has_the_page_says_too() -> None:
    assert len(features(README)) > 10
    assert [line for line in features(README) if line not in features(PAGE)] == []


def test_every_row_has_a_word_for_each() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in features(PAGE)]
    assert {len(row) for row in rows} == {6}
    assert [row for row in rows[2:] if not all(row)] == []
