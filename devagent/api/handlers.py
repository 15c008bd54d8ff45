# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What each operation does: from a call that is in order to an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from devagent.api import openapi as description
from devagent.api.backend import Backend
from devagent.api.caller import Caller
from devagent.api.operations import JSON, METRICS, TEXT
from devagent.api.target import full
from devagent.api.versions import MAXIMUM, MINIMUM, text
from devagent.errors import NoSuchDevice


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
    if call.media == JSON:
        return Answer({"detailed": False, "reasons": reasons or ["OK"]}, status)
    return Answer("\n".join(reasons) if reasons else "OK", status, TEXT)


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


def rescan(call: Call, backend: Backend) -> Answer:
    """Looks again; 202 if that takes longer than the caller waits."""
    found = backend.rescan(call.wait)
    if found["done"]:
        return Answer(found)
    return Answer(found, 202, headers={"Location": "/v1/status", "Retry-After": "1"})
