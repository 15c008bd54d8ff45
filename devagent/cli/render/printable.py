# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Keeps out of a terminal what could move its cursor: sysfs, archives and arguments may hold anything."""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    """Gives `text` with a replacement for each control, format and other invisible character."""
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(char)[0] == "C" else char for char in text)
