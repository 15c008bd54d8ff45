# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the agent may ask of the privileged process: one JSON object per datagram, every part of it checked.

    {"verb": "set_vf_count", "arguments": {"address": "0000:3b:00.0", "count": 8}, "deadline_s": 38}
    {"service": "look"}

Nothing is passed on that is not named in the table of verbs, and no path ever comes from outside.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from devagent.privileged.verbs import VERBS

MAX_SIZE: Final = 4096
MAX_DEADLINE_S: Final = 3600.0


class Refused(Exception):
    """The request is none that would be carried out; its text says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """A verb with its arguments and how many seconds it may take; without `deadline_s` a service."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    deadline_s: float | None = None

    @property
    def address(self) -> str | None:
        """The PCI address of the device that it is about."""
        return self.arguments.get("address")


def parse(datagram: bytes, services: Collection[str]) -> Request:
    """Gives the request that `datagram` holds. Raises Refused for anything but a known one, complete and nothing more.

    `services` are the names of those that can be started.
    """
    try:
        # Not the bytes: for UTF-16 and UTF-32, which nobody sends, codecs would be imported here.
        raw = json.loads(datagram.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Refused("is no JSON") from None
    if not isinstance(raw, dict):
        raise Refused("is no object")
    if raw.keys() == {"service"}:
        return Request(_known("service", raw["service"], services))
    if raw.keys() != {"verb", "arguments", "deadline_s"}:
        raise Refused("has not the keys verb, arguments, deadline_s, or service alone")
    name = _known("verb", raw["verb"], VERBS)
    deadline_s = raw["deadline_s"]
    if type(deadline_s) not in (int, float) or not 0 < deadline_s <= MAX_DEADLINE_S:
        raise Refused(f"deadline_s is not between 0 and {MAX_DEADLINE_S:g}")
    return Request(name, _arguments(name, raw["arguments"]), float(deadline_s))


def _known(what: str, name: object, names: Collection[str]) -> str:
    if not isinstance(name, str) or name not in names:
        raise Refused(f"there is no {what} {name!r:.40}")
    return name


def _arguments(verb: str, raw: object) -> dict[str, Any]:
    checks = VERBS[verb].arguments
    if not isinstance(raw, dict) or raw.keys() != checks.keys():
        raise Refused(f"{verb} takes {', '.join(checks) or 'no arguments'}")
    for key, check in checks.items():
        if not check(raw[key]):
            raise Refused(f"{verb} does not take {raw[key]!r:.40} as {key}")
    return raw
