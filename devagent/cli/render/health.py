# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent health` for people: a table of all devices, or all that is known of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from devagent.cli.render.grid import draw
from devagent.cli.render.printable import printable
from devagent.cli.render.times import since, until

Document = Mapping[str, Any]

HEADINGS: Final = ("Address", "Kind", "Device", "State", "For", "Why")
NOTHING: Final = "No devices: the agent has found none, or has not looked yet (devagent status)."


def render(document: Document, now: float) -> str:
    """Gives the devices as a table; `now` is the epoch time from which it is seen."""
    rows = [_row(device, now) for device in document["devices"]]
    return "\n".join(draw(HEADINGS, rows)) if rows else NOTHING


def line(device: Document, now: float) -> str:
    """Gives the device in one line: what it is, how it is, and why."""
    why = _why(device, now)
    return printable(f"{device['address']}  {device['model']}  {device['state']}{f': {why}' if why else ''}")


def detail(device: Document, now: float) -> str:
    """Gives all that is known of the device, with the evidence oldest first."""
    return "\n".join(map(printable, _details(device, now)))


def _details(device: Document, now: float) -> Iterator[str]:
    yield f"{device['address']}  {device['kind']}  {device['model']}"
    yield f"  id: {device['id']}"
    yield f"  state: {device['state']}, for {since(device['since'], now)}"
    for reason in device["reasons"]:
        yield f"  reason: {reason}"
    if device["override"]:
        yield f"  {_override(device['override'], now)}"
        yield f"  end it with: devagent health clear {device['address']}"
    yield f"  clean checks in a row: {device['clean_checks']}; times it got worse again: {device['flaps']}"
    for each in device["evidence"]:
        yield f"  {each['at']}  {each['text']}"


def _row(device: Document, now: float) -> tuple[str, ...]:
    cells = (device["address"], device["kind"], device["model"], device["state"])
    return (*map(printable, cells), since(device["since"], now), printable(_why(device, now)))


def _why(device: Document, now: float) -> str:
    parts = list(device["reasons"])
    if device["override"]:
        # What was said is the reason already, or stands there alone.
        said = device["override"]["reason"]
        parts = [*(part for part in parts if said not in part), _override(device["override"], now)]
    return "; ".join(parts)


def _override(override: Document, now: float) -> str:
    end = f"for {until(override['until'], now)} more" if override["until"] else "until it is cleared"
    return f"{override['by']} says {override['state']}, {end}: {override['reason']}"
