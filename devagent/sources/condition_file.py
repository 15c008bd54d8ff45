# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Keeps the health of the devices over restarts, in a file that everybody may read: health.json."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, TypeVar

from devagent.model.claim import Mode
from devagent.model.health import Condition, End, Evidence, Given, Health, Kept, Override, State, Trouble
from devagent.sources import state_file

LOG = logging.getLogger(__name__)

FILE: Final = "health.json"
_VERSION: Final = 1
_LATEST: Final = 253402300799.0  # the end of the year 9999, the last that a calendar has
# Whatever a file that was not written so makes of the decoder.
_DAMAGED: Final = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)

_FORGOTTEN: Final = (
    "XIDs, flapping and what operators set are forgotten, monitors judge anew; check `devagent health` and set "
    "again what must stay closed"
)

Value = TypeVar("Value")


def load(state_path: str) -> Kept:
    """Gives what was kept; nothing if there was none, or its file cannot be used, which is a warning."""
    path = Path(state_path) / FILE
    try:
        content = state_file.read(path)
        return Kept() if content is None else _decode(content)
    except OSError as error:
        LOG.warning("%s cannot be read (%s): %s", path, error.strerror, _FORGOTTEN)
    except _DAMAGED as error:
        LOG.warning("%s is damaged (%s): %s", path, error, _FORGOTTEN)
    return Kept()


def save(state_path: str, kept: Kept) -> bool:
    """Replaces the file in one step, durably, if it would differ; false, and a warning, if it cannot be saved."""
    path = Path(state_path) / FILE
    try:
        state_file.update(path, _encode(kept), _decode, _DAMAGED)
    except OSError as error:
        LOG.warning("%s cannot be written (%s): after a restart, health is judged anew", path, error.strerror)
        return False
    return True


def _encode(kept: Kept) -> bytes:
    body = {
        "version": _VERSION,
        "boot_id": kept.boot_id,
        "log_position": kept.log_position,
        "devices": {name: asdict(condition) for name, condition in sorted(kept.book.items())},
    }
    return (json.dumps(body, indent=1, sort_keys=True) + "\n").encode()


def _decode(data: bytes) -> Kept:
    """Raises one of _DAMAGED for anything that was not written so; keys that are unknown are passed over."""
    body = json.loads(data)
    if body["version"] != _VERSION:
        raise ValueError(f"version {body['version']!r} is unknown")
    book = {_text(name): _condition(raw) for name, raw in body["devices"].items()}
    return Kept(book, _or_none(_text, body["boot_id"]), _or_none(_count, body["log_position"]))


def _condition(raw: dict[str, Any]) -> Condition:
    return Condition(
        health=_health(raw["health"]),
        since=_moment(raw["since"]),
        clean=_count(raw["clean"]),
        flaps=tuple(_moment(each) for each in raw["flaps"]),
        evidence=tuple(_evidence(each) for each in raw["evidence"]),
        override=_or_none(_override, raw["override"]),
        counters={_text(name): _count(number) for name, number in raw["counters"].items()},
        troubles=tuple(_trouble(each) for each in raw["troubles"]),
        driver=_or_none(_text, raw["driver"]),
        monitor=_or_none(_text, raw["monitor"]),
        action=_or_none(_text, raw["action"]),
        recovered=_flag(raw["recovered"]),
        gone=_or_none(_moment, raw["gone"]),
        given=_or_none(_given, raw["given"]),
    )


def _given(raw: dict[str, Any]) -> Given:
    mode = _text(raw["mode"])
    if mode not in tuple(Mode):
        raise ValueError(f"{mode!r} is no way to give a device")
    traits, rule = tuple(_text(each) for each in raw["traits"]), _or_none(_text, raw["rule"])
    # Earlier versions knew of one class only.
    shares = tuple((_text(name), _count(total), _count(closed)) for name, total, closed in raw.get("shares", ()))
    return Given(mode, _text(raw["resource_class"]), _count(raw["total"]), rule, traits, shares)


def _health(raw: dict[str, Any]) -> Health:
    return Health(State(raw["state"]), tuple(_text(each) for each in raw["reasons"]))


def _evidence(raw: dict[str, Any]) -> Evidence:
    return Evidence(_moment(raw["at"]), _text(raw["text"]), _text(raw["subject"]), _count(raw["times"]))


def _override(raw: dict[str, Any]) -> Override:
    return Override(State(raw["state"]), _text(raw["reason"]), _text(raw["by"]), _or_none(_moment, raw["until"]))


def _trouble(raw: dict[str, Any]) -> Trouble:
    clean, present = _count(raw["clean"]), _flag(raw["present"])
    return Trouble(_text(raw["source"]), _health(raw["health"]), End(raw["end"]), clean, present)


def _or_none(read: Callable[[Any], Value], raw: object) -> Value | None:
    return None if raw is None else read(raw)


def _text(raw: object) -> str:
    if not isinstance(raw, str):
        raise ValueError(f"{raw!r} is no text")
    raw.encode()  # half of a surrogate pair, which JSON can hold, cannot be printed
    return raw


def _count(raw: object) -> int:
    if type(raw) is not int or raw < 0:
        raise ValueError(f"{raw!r} is no count")
    return raw


def _flag(raw: object) -> bool:
    if type(raw) is not bool:
        raise ValueError(f"{raw!r} is neither true nor false")
    return raw


def _moment(raw: object) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not 0 <= raw <= _LATEST:
        raise ValueError(f"{raw!r} is no time that a calendar has")
    return float(raw)
