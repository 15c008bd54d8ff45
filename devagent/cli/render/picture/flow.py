# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Lays cards and boxes out in rows, a box in a box, and draws the lines that connect them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from devagent.cli.render.picture.card import Card
from devagent.cli.render.picture.text import escaped, fitted, measured
from devagent.cli.render.picture.topology import Branch

GAP: Final = 14
_PAD: Final = 14
# Above each row of a box: its line, and the ports at the line's stubs.
_RAIL: Final = 30
_STUB: Final = 24
_MOST_ABREAST: Final = 16
# Width to height of a page that is looked at on a screen or a wall.
_SHAPE: Final = 1.6


@dataclass(frozen=True, slots=True)
class Placed:
    """An item at its place in its box, whose height is that of the row."""

    item: Card | Box
    x: float
    y: float
    height: float


class Box:
    """A branch as a box around what hangs below it, as narrow as that allows."""

    def __init__(self, branch: Branch, room: float, depth: int = 0) -> None:
        self.name, self.depth, self.port = branch.name, depth, ""
        self.width: float
        self.style, self._size = ("panel", 17) if depth == 0 else ("box", 12)
        self._head = 40 if depth == 0 else 28
        inside = max(room - 2 * _PAD, Card.width)
        items = [each if isinstance(each, Card) else Box(each, inside, depth + 1) for each in branch.below]
        self.placed = list(_rows(items, inside, self._head))
        right = max(each.x + each.item.width for each in self.placed)
        wanted = max(right + _PAD, measured(self.name, self._size, bold=True) + 2 * _PAD)
        self.width = min(wanted, max(room, right + _PAD))
        self.height = max(each.y + each.height for each in self.placed) + _PAD

    @property
    def filled(self) -> float:
        """The area of the cards in it."""
        return sum(
            each.item.filled if isinstance(each.item, Box) else each.item.width * each.item.height
            for each in self.placed
        )

    def draw(self, x: float, y: float, height: float) -> str:
        """Gives the box at x and y."""
        frame = f'x="{x:g}" y="{y:g}" width="{self.width:g}" height="{height:g}" rx="{14 if self.depth == 0 else 9}"'
        name = fitted(self.name, self.width - 2 * _PAD, self._size, bold=True)
        ink = "ink bold" if self.depth == 0 else "soft bold"
        baseline = y + (27 if self.depth == 0 else 19)
        head = f'<text class="{ink}" x="{x + _PAD:g}" y="{baseline:g}" font-size="{self._size}">{escaped(name)}</text>'
        inside = "".join(each.item.draw(x + each.x, y + each.y, each.height) for each in self.placed)
        return f'<g><rect class="{self.style}" {frame}/>{head}{"".join(self._wires(x, y))}{inside}</g>'

    def _wires(self, x: float, y: float) -> Iterator[str]:
        """Draws a line above each row, a stub from it to each item, and on the left what connects the lines."""
        rails = sorted({each.y - _RAIL + 8 for each in self.placed})
        left = x + 7
        yield f'<path class="wire" d="M{left:g} {y + self._head - 4:g}V{y + rails[-1]:g}"/>'
        for rail in rails:
            row = [each for each in self.placed if each.y - _RAIL + 8 == rail]
            yield f'<path class="wire" d="M{left:g} {y + rail:g}H{x + row[-1].x + _STUB:g}"/>'
            for each in row:
                at = x + each.x + _STUB
                yield f'<path class="wire" d="M{at:g} {y + rail:g}V{y + each.y:g}"/>'
                yield f'<circle class="knot" cx="{at:g}" cy="{y + rail:g}" r="3"/>'
                port = fitted(each.item.port, each.item.width - _STUB - 8, 10)
                place = f'x="{at + 7:g}" y="{y + rail + 15:g}"'
                yield f'<text class="faint" {place} font-size="10">{escaped(port)}</text>' if port else ""


def _rows(items: Sequence[Card | Box], room: float, top: float) -> Iterator[Placed]:
    """Places the items in rows, from left to right, below `top`."""
    row: list[tuple[float, Card | Box]] = []
    x, y = float(_PAD), top + _RAIL - 8
    for item in items:
        if row and x + item.width > room + _PAD + 0.5:
            yield from _row(row, y)
            y += max(each.height for _, each in row) + _RAIL
            row, x = [], float(_PAD)
        row.append((x, item))
        x += item.width + GAP
    yield from _row(row, y)


def _row(row: list[tuple[float, Card | Box]], y: float) -> Iterator[Placed]:
    height = max(item.height for _, item in row)
    yield from (Placed(item, x, y, height) for x, item in row)


@dataclass(frozen=True, slots=True)
class Panels:
    """The boxes of the NUMA nodes on a page, all of the same width, so many in a row."""

    boxes: tuple[Box, ...]
    columns: int

    @property
    def width(self) -> float:
        """How wide they are together."""
        return self.columns * self.column + GAP * (self.columns - 1)

    @property
    def column(self) -> float:
        """How wide each is."""
        return max((box.width for box in self.boxes), default=0)

    @property
    def height(self) -> float:
        """How high they are together."""
        return sum(height + GAP for _, height in self.rows())

    def rows(self) -> Iterator[tuple[tuple[Box, ...], float]]:
        """Gives each row and its height."""
        for start in range(0, len(self.boxes), self.columns):
            row = self.boxes[start : start + self.columns]
            yield row, max(box.height for box in row)

    def drawn(self, x: float, y: float, column: float) -> Iterator[str]:
        """Gives the boxes, each `column` wide, the first at x and y."""
        for row, height in self.rows():
            for number, box in enumerate(row):
                box.width = column
                yield box.draw(x + number * (column + GAP), y, height)
            y += height + GAP


def panels(branches: Sequence[Branch]) -> Panels:
    """Lays the NUMA nodes out so that the page comes nearest to the shape of a wide sheet."""
    # With the padding of a panel, a root complex and a switch around the cards.
    rooms = [cards * (Card.width + GAP) + 6 * _PAD for cards in range(1, _MOST_ABREAST + 1)]
    most = min(2, len(branches)) or 1
    layouts = [
        Panels(tuple(Box(branch, room) for branch in branches), columns)
        for columns in range(1, most + 1)
        for room in rooms
    ]
    return min(layouts, key=_odd)


def _odd(layout: Panels) -> float:
    """Tells how far a layout is from the wanted shape, and how much of it is empty."""
    width, height = max(layout.width, 1), max(layout.height, 1)
    filled = sum(box.filled for box in layout.boxes) / (width * height)
    return abs(math.log(width / height / _SHAPE)) + (1 - filled)
