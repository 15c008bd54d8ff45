# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The table of bench.compare, and how it takes the place of an older one between two comments of a Markdown file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Final

BEGIN: Final = "<!-- bench.compare: begin -->"
END: Final = "<!-- bench.compare: end -->"
UNMEASURED: Final = "not measured"


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of whom, by which command; what was not says so."""

    what: str
    devagent: str = UNMEASURED
    nova: str = UNMEASURED
    cyborg: str = UNMEASURED
    command: str = ""

    def __post_init__(self) -> None:
        if not all(astuple(self)):
            raise ValueError(f"a cell of {self.what!r} is empty: it has to say why there is no number")


def table(peers: Sequence[str], rows: Iterable[Row]) -> str:
    """Gives a Markdown table; `peers` are the headings of the three who are compared."""
    heads = ("", *peers, "`python -m ...`")
    cells = (heads, ["---"] * len(heads), *((*astuple(row)[:-1], f"`{row.command}`") for row in rows))
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def replaced(text: str, block: str) -> str:
    """Gives a file's text with another block between the comments; ValueError unless each is there once, in order."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in rest or END in before + after:
        raise ValueError(f"wants {BEGIN} and {END} once each, in this order")
    return f"{before}{BEGIN}\n{block}\n{END}{after}"
