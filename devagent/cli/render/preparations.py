# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent preparations` for people: a table of all, or all that is known of one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from devagent.cli.render.grid import draw
from devagent.cli.render.printable import printable
from devagent.cli.render.times import since

Document = Mapping[str, Any]

HEADINGS: Final = ("Consumer", "State", "For", "Devices")
_MIB: Final = 1 << 20
NOTHING: Final = "Nothing is prepared for anybody."


def render(document: Document, now: float) -> str:
    """Gives the preparations as a table, and below it why some are as they are; `now` is in seconds of the epoch."""
    rows = [row for each in document["preparations"] for row in _rows(each, now)]
    return "\n".join([*draw(HEADINGS, rows), *_reasons(document["preparations"])]) if rows else NOTHING


def _rows(preparation: Document, now: float) -> Iterator[tuple[str, ...]]:
    """Gives a line per device, so that the table fits a terminal of 80 columns."""
    devices = [printable(_handle(handle)) for handle in preparation["handles"]] or [""]
    yield preparation["consumer"], preparation["state"], since(preparation["created"], now), devices[0]
    yield from (("", "", "", device) for device in devices[1:])


def _reasons(preparations: Iterable[Document]) -> Iterator[str]:
    """Gives a sentence per preparation that has failed or waits: it is too long for a column."""
    amiss = [each for each in preparations if each["error"]]
    yield from ("", f"Why ({len(amiss)}):") if amiss else ()
    for each in amiss:
        error = each["error"]
        yield printable(f"  {each['consumer']}  {error['type']}: {error['reason']}")


def detail(document: Document, now: float) -> str:
    """Gives all that is known of one preparation."""
    return "\n".join(map(printable, _details(document, now)))


def forgotten(document: Document) -> str:
    """Tells what became of the devices of a consumer that was forgotten."""
    lines = [f"{document['consumer']} is forgotten", *map(_given_up, document["devices"])]
    return "\n".join(map(printable, lines))


def _given_up(device: Document) -> str:
    had, address = ", ".join(device["functions"]), device["address"]
    if device["withheld"]:
        place = address or "is not there now; when it comes back it"
        return f"  {had}: {place} is unhealthy until you say `devagent health clear {address or 'DEVICE'}`"
    return f"  {had}: {'is offered as it is' if address else 'is not there; wipe it before it comes back'}"


def _details(document: Document, now: float) -> Iterator[str]:
    yield f"{document['consumer']}  {document['state']}, asked for {since(document['created'], now)} ago"
    for group in document["groups"]:
        resources = ", ".join(f"{amount} {name}" for name, amount in sorted(group["resources"].items()))
        yield f"  asked for: {resources} of resource provider {group['provider']}"
    for handle in document["handles"]:
        yield f"  has: {handle['resource_class']} {_handle(handle)}"
    for step in document["steps"]:
        given = sorted((name, value) for name, value in step["arguments"].items() if value is not None)
        arguments = " ".join(f"{name}={value}" for name, value in given)
        yield f"  {'done' if step['done'] else 'to do'}: {step['verb']} {step['target']} {arguments}".rstrip()
    if document["progress"]:
        yield f"  {_progress(document['progress'])}"
    if document["expires"]:
        yield f"  released if no virtual machine uses it by {document['expires']}"
    if document["timings"]:
        timings = sorted(document["timings"].items(), key=lambda each: -each[1])
        yield f"  took: {', '.join(f'{name} {seconds:.3f} s' for name, seconds in timings)}"
    if document["error"]:
        yield f"  {document['error']['type']}: {document['error']['reason']}"


def _progress(progress: Document) -> str:
    """Gives `fetches the image loopback: 31.0 of 96.4 MiB`."""
    here, total = progress["bytes"] / _MIB, progress["total"]
    of = f" of {total / _MIB:.1f}" if total is not None else ""
    return f"fetches the image {progress['bitstream']}: {here:.1f}{of} MiB"


def _handle(handle: Document) -> str:
    if handle["type"] == "PCI":
        return str(handle["address"])
    return f"{handle['uuid']} ({handle['mdev_type']} of {handle['parent']})"
