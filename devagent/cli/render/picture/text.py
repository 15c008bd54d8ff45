# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Measures, wraps and escapes text for the picture, without the fonts that will show it.

The widths are those of a wide face (DejaVu Sans), so that what fits here fits in every other as well.
"""

from __future__ import annotations

import unicodedata
from typing import Final
from xml.sax.saxutils import escape

from devagent.cli.render.printable import printable

ELLIPSIS: Final = "…"

# In thousandths of the font's size.
_NARROW: Final = dict.fromkeys("iljI", 300) | dict.fromkeys(".,:;!|'/ ", 345) | dict.fromkeys("()[]-ftrJ", 415)
_BROAD: Final = dict.fromkeys("ABCEFKLPRSTVXYZ", 700) | dict.fromkeys("DGHNOQU&_=+~<>#", 840)
_BROADEST: Final = dict.fromkeys("mwMW@%", 1000)
_WIDTHS: Final = _NARROW | _BROAD | _BROADEST
_COMMON: Final = 640
_MONO: Final = 610
# Bold letters are a tenth broader.
_BOLD: Final = 1.11


def measured(text: str, size: float, *, mono: bool = False, bold: bool = False) -> float:
    """Gives how wide `text` is at most."""
    total = sum(_thousandths(char, mono=mono) for char in text)
    return total * size / 1000 * (_BOLD if bold else 1)


def fitted(text: str, room: float, size: float, *, mono: bool = False, bold: bool = False) -> str:
    """Gives as much of `text` as fits, with an ellipsis for the rest."""
    if measured(text, size, mono=mono, bold=bold) <= room:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if measured(text[:middle] + ELLIPSIS, size, mono=mono, bold=bold) <= room:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + ELLIPSIS


def wrapped(text: str, room: float, size: float, most: int, *, bold: bool = False) -> list[str]:
    """Breaks `text` into lines that fit, `most` of them; what is left then ends with an ellipsis."""
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < most - 1:
        line, words = _line(words, room, size, bold=bold)
        lines.append(line)
    if words:
        lines.append(fitted(" ".join(words), room, size, bold=bold))
    return lines


def escaped(text: str) -> str:
    """Gives `text` as XML text or attribute: without what XML 1.0 forbids, each line by itself."""
    return escape("\n".join(map(printable, text.split("\n"))), {'"': "&quot;"})


def _line(words: list[str], room: float, size: float, *, bold: bool) -> tuple[str, list[str]]:
    """Takes the words of one line; a word that is longer than a line is broken."""
    for count in range(1, len(words) + 1):
        if measured(" ".join(words[:count]), size, bold=bold) > room:
            break
    else:
        return " ".join(words), []
    if count > 1:
        return " ".join(words[: count - 1]), words[count - 1 :]
    head = fitted(words[0], room, size, bold=bold).removesuffix(ELLIPSIS) or words[0][:1]
    return head, [words[0][len(head) :], *words[1:]]


def _thousandths(char: str, *, mono: bool) -> int:
    if not char.isascii():
        if unicodedata.combining(char):
            return 0
        return 1100 if mono or unicodedata.east_asian_width(char) in "WF" else 900
    return _MONO if mono else _WIDTHS.get(char, _COMMON)
