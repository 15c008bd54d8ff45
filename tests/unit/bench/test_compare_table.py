# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The table of bench.compare: no cell without a word, and nothing but the table changes in a page."""

from __future__ import annotations

import pytest

from bench.compare_table import BEGIN, END, UNMEASURED, Row, replaced, table

PAGE = f"# Title\n\n{BEGIN}\nan older table\n{END}\n\nwhat follows\n"


def test_a_row_names_all_three_and_the_command() -> None:
    row = Row("first report: requests", "29", "57", "4610", "bench.placement")
    assert table(["devagent", "Nova", "Cyborg"], [row]).splitlines() == [
        "|  | devagent | Nova | Cyborg | `python -m ...` |",
        "| --- | --- | --- | --- | --- |",
        "| first report: requests | 29 | 57 | 4610 | `bench.placement` |",
    ]


def test_what_was_not_measured_says_so() -> None:
    assert Row("memory", devagent="66.3", command="bench.agent").cyborg == UNMEASURED


@pytest.mark.parametrize("cell", ["what", "devagent", "nova", "cyborg", "command"])
def test_a_cell_without_a_word_is_refused(cell: str) -> None:
    cells = {"what": "memory", "devagent": "1", "nova": "2", "cyborg": "3", "command": "bench.agent"}
    with pytest.raises(ValueError, match="empty"):
        Row(**{**cells, cell: ""})


def test_only_what_is_between_the_comments_is_replaced() -> None:
    assert replaced(PAGE, "| new |") == PAGE.replace("an older table", "| new |")


def test_writing_the_same_again_changes_nothing() -> None:
    once = replaced(PAGE, "| new |")
    assert replaced(once, "| new |") == once


@pytest.mark.parametrize(
    "page",
    [
        pytest.param("# Title\n", id="neither"),
        pytest.param(PAGE.replace(END, ""), id="no end"),
        pytest.param(PAGE.replace(BEGIN, ""), id="no begin"),
        pytest.param(f"{END}\n{BEGIN}\n", id="the wrong way round"),
        pytest.param(PAGE + PAGE, id="twice"),
        pytest.param(PAGE.replace("an older table", BEGIN), id="two begins"),
        pytest.param(PAGE + END, id="two ends"),
    ],
)
def test_a_page_without_its_two_comments_is_left_alone(page: str) -> None:
    with pytest.raises(ValueError, match="once each"):
        replaced(page, "| new |")
