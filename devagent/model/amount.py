# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""How many of something there are, in words."""

from __future__ import annotations


def amount(number: int, noun: str) -> str:
    """Gives `1 row`, `3 rows`: for nouns whose plural has an `s` more."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
