# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Keeps out of a terminal what could move its cursor: sysfs, archives and arguments may hold anything."""

from __future__ import annotations

import unicodedata
from typing import Final

# Line and paragraph separators are no control characters, but what reads lines may take them for an end of one.
_SEPARATORS: Final = ("Zl", "Zp")


def printable(text: str) -> str:
    """Gives `text` with a replacement for each control, format and other invisible character."""
    if text.isascii() and text.isprintable():
        return text
    return "".join("\N{REPLACEMENT CHARACTER}" if _is_invisible(char) else char for char in text)


def width(text: str) -> int:
    """Gives how many columns of a terminal `text` takes: CJK characters take two, accents that combine none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


def padded(text: str, columns: int) -> str:
    """Gives `text` with spaces up to that many columns."""
    return text + " " * (columns - width(text))


def _is_invisible(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] == "C" or category in _SEPARATORS
