# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Finds the secrets in our own JSON files: NVML's answers and identities.json tell them by their keys."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

Change = Callable[[str], str]

_KEYS: Final = frozenset({"uuid", "uuids", "serial", "cluster", "unique_id", "hive_id", "board_serial", "pdi"})
_PLACES: Final = ("topology", "address")

# SERIAL@pci0000:18/00.0 or SERIAL@0000:3b:00.0: one of several cards with this number.
_APART: Final = re.compile(r"(.*?)(@(?:pci[0-9a-f]{4,}:.*|[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]))?", re.DOTALL)
# The number may be the card's, and that of the function follows; in an NVMe's own anything may stand.
_OF_CARD: Final = re.compile(r"(.*?)(/[0-7])?", re.DOTALL)


def changed(text: str | bytes, secret: Change, value: Change, key: Change) -> str | None:
    """Gives a JSON document with each secret, other text and key as these make of them; None if it is none."""
    try:
        return json.dumps(_changed(json.loads(text), "", secret, value, key), indent=1) + "\n"
    except (ValueError, RecursionError):
        return None


def _changed(content: Any, under: str, secret: Change, value: Change, key: Change) -> Any:
    if isinstance(content, list):
        return [_changed(each, under, secret, value, key) for each in content]
    if isinstance(content, dict):
        source = content.get("source")
        identity = content.keys() == {"source", "value"} and isinstance(source, str)
        found = {}
        for name, each in content.items():
            of = source if identity and name == "value" else name if under == "others" else None
            if isinstance(of, str) and isinstance(each, str):
                found[key(name)] = _identity(of, each, secret)
            else:
                found[key(name)] = _changed(each, name, secret, value, key)
        return found
    if isinstance(content, str):
        return secret(content) if under in _KEYS else value(content)
    return content


def _identity(source: str, text: str, secret: Change) -> str:
    """Changes what identifies a device, but neither where it is nor what model."""
    if source in _PLACES:
        return text
    number, place = _parts(_APART, text)
    function = ""
    if source != "nvme":
        number, function = _parts(_OF_CARD, number)
    part, colon, serial = number.partition(":")
    if source == "vpd" and colon:
        return f"{part}:{secret(serial)}{function}{place}"
    return secret(number) + function + place


def _parts(pattern: re.Pattern[str], text: str) -> tuple[str, str]:
    match = pattern.fullmatch(text)
    return (match[1], match[2] or "") if match else (text, "")
