# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Draws tables as OpenStack's commands do."""

from __future__ import annotations

from collections.abc import Sequence

from devagent.cli.render.printable import padded, width


def draw(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Draws a table with ASCII lines, each column as wide as its widest cell."""
    widths = [max(map(width, column)) for column in zip(headings, *rows, strict=True)]
    rule = "+" + "+".join("-" * (columns + 2) for columns in widths) + "+"

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(padded(cell, columns) for cell, columns in zip(cells, widths, strict=True)) + " |"

    return [rule, line(headings), rule, *map(line, rows), rule]
