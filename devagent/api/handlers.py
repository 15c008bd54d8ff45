# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What each operation does: from a call that is in order to an answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from devagent.api import openapi as description
from devagent.api.backend import Backend
from devagent.api.caller import Caller
from devagent.api.faults import Code, Fault
from devagent.api.operations import JSON, METRICS, TEXT
from devagent.api.target import full
from devagent.api.versions import MAXIMUM, MINIMUM, text
from devagent.errors import NoSuchDevice

_UUID: Final = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Call:
    """A request, once it is known to be in order; `media` is what its sender takes best, `wait` is in seconds."""

    caller: Caller
    arguments: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    media: str = JSON
    wait: float = 0.0

    @property
    def target(self) -> str:
        """The device that the path names."""
        return full(self.arguments["device"])


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back: text and bytes as they are, everything else as JSON."""

    content: Any
    status: int = 200
    media: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


def versions(call: Call, backend: Backend) -> Answer:  # noqa: ARG001 - as the others
    """Tells which versions there are, in the form that keystoneauth looks for."""
    version = {
        "id": f"v{text(MINIMUM)}",
        "status": "CURRENT",
        "min_version": text(MINIMUM),
        "max_version": text(MAXIMUM),
        "links": [{"rel": "self", "href": "/v1"}],
    }
    return Answer({"versions": [version]})


def healthcheck(call: Call, backend: Backend) -> Answer:
    """Tells whether the agent works, as oslo.middleware's healthcheck does: `OK`, or 503 with the reasons."""
    reasons = [f"{name}: {detail or 'failed'}" for name, ok, detail in backend.checks() if not ok]
    status = 503 if reasons else 200
    later = {"Retry-After": "5"} if reasons else {}
    if call.media == JSON:
        return Answer({"detailed": False, "reasons": reasons or ["OK"]}, status, headers=later)
    return Answer("\n".join(reasons) if reasons else "OK", status, TEXT, later)


def metrics(call: Call, backend: Backend) -> Answer:  # noqa: ARG001 - as the others
    """Gives the measurements."""
    return Answer(backend.metrics(), media=METRICS)


def openapi(call: Call, backend: Backend) -> Answer:  # noqa: ARG001 - as the others
    """Gives the description of the API."""
    return Answer(description.text(), media=JSON)


def devices(call: Call, backend: Backend) -> Answer:  # noqa: ARG001 - as the others
    """Gives all that the last look found."""
    return Answer(backend.devices())


def device(call: Call, backend: Backend) -> Answer:
    """Gives one device. Raises NoSuchDevice."""
    for each in backend.devices()["devices"]:
        if call.target in (each["id"], each["address"]):
            return Answer(each)
    raise NoSuchDevice(call.target)


def providers(call: Call, backend: Backend) -> Answer:  # noqa: ARG001 - as the others
    """Gives the wanted provider tree, and what differs."""
    return Answer(backend.providers())


def status(call: Call, backend: Backend) -> Answer:  # noqa: ARG001 - as the others
    """Gives how the agent is."""
    return Answer(backend.status())


def health(call: Call, backend: Backend) -> Answer:  # noqa: ARG001 - as the others
    """Gives how each device is."""
    return Answer(backend.health())


def set_health(call: Call, backend: Backend) -> Answer:
    """Overrides a device's health, in the caller's name."""
    body = call.body
    found = backend.set_health(call.target, body["state"], body["reason"], body.get("expires_in"), str(call.caller))
    return Answer(found)


def clear_health(call: Call, backend: Backend) -> Answer:
    """Ends an override."""
    return Answer(backend.clear_health(call.target, str(call.caller)))


def preparations(call: Call, backend: Backend) -> Answer:  # noqa: ARG001 - as the others
    """Gives whose devices are ready, on their way, or refused."""
    return Answer(backend.preparations())


def preparation(call: Call, backend: Backend) -> Answer:
    """Gives the devices of one consumer. Raises NoSuchPreparation."""
    return Answer(backend.preparation(_consumer(call)))


def prepare(call: Call, backend: Backend) -> Answer:
    """Makes a consumer's devices ready; 202 if that takes longer than the caller waits."""
    consumer = _consumer(call)
    found, status = backend.prepare(consumer, call.body, call.wait)
    return Answer(found, status, headers=_later(consumer) if status == HTTPStatus.ACCEPTED else {})


def unprepare(call: Call, backend: Backend) -> Answer:
    """Makes sure that a consumer has no device: 204, or 202 if that takes longer than the caller waits."""
    consumer = _consumer(call)
    found, status = backend.unprepare(consumer, call.wait)
    if found is None:
        return Answer(b"", status)
    return Answer(found, status, headers=_later(consumer))


def forget(call: Call, backend: Backend) -> Answer:
    """Ends what cannot be released, in the caller's name."""
    body = call.body
    found = backend.forget(_consumer(call), body["reason"], body.get("offer", False), str(call.caller))
    return Answer(found)


def hint(call: Call, backend: Backend) -> Answer:
    """Has consumers looked for soon; of those that have nothing here nothing is kept."""
    told = {each["consumer"].lower(): each["event"] for each in call.body["hints"]}
    return Answer({"known": backend.hint(told)})


def rescan(call: Call, backend: Backend) -> Answer:
    """Looks again; 202 if that takes longer than the caller waits."""
    found = backend.rescan(call.wait)
    if found["done"]:
        return Answer(found)
    return Answer(found, 202, headers={"Location": "/v1/status", "Retry-After": "1"})


def _later(consumer: str) -> dict[str, str]:
    return {"Location": f"/v1/preparations/{consumer}", "Retry-After": "1"}


def _consumer(call: Call) -> str:
    """Gives the consumer that the path names. Raises Fault."""
    named = call.arguments["consumer"]
    if not _UUID.fullmatch(named):
        raise Fault(400, Code.INVALID, f"{named[:80]!r} is no consumer: expected is a UUID, as in Placement")
    return named.lower()
