# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A preparation as the API's answer has it, and a request as the planner wants it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from devagent.errors import NotPrepared
from devagent.model.handle import as_json
from devagent.model.plan import Group
from devagent.model.preparation import Holder, Preparation, Progress, Refusal, State
from devagent.prepare.entry import Entry
from devagent.prepare.executor import Request
from devagent.prepare.runs import REBOOTED
from devagent.service.status import when

Document = dict[str, Any]


def request(consumer: str, body: Mapping[str, Any], expires_in: float) -> Request:
    """Gives what a body asks for; `expires_in` is in force where it does not say, 0 for never."""
    groups = tuple(
        Group(
            each["provider"].lower(),
            each["resources"],
            each.get("address"),
            each.get("properties", {}),
            each.get("owner"),
        )
        for each in body["groups"]
    )
    seconds = body.get("expires_in", expires_in)
    return Request(consumer, groups, body.get("project_id"), seconds or None)


def document(entry: Entry, boot_id: str, error: Refusal | None) -> Document:
    """Gives what the journal has; `error` is what speaks against it since then."""
    preparation = entry.preparation
    state = preparation.state
    if state is State.PREPARED and preparation.boot_id != boot_id:
        # After a boot nothing of it is there: whoever still wants it asks again, and has it made again.
        state, error = State.FAILED, REBOOTED
    handles = preparation.handles if state is State.PREPARED else ()
    refused = error or preparation.error
    return {
        "consumer": preparation.consumer,
        "project_id": preparation.project_id,
        "state": state.value,
        "groups": [asdict(group) for group in preparation.groups],
        "handles": [as_json(handle) for handle in handles],
        "steps": list(_steps(entry)),
        "created": when(preparation.created),
        "deadline": when(preparation.deadline),
        "expires": when(preparation.expires),
        "timings": {name: round(seconds, 6) for name, seconds in preparation.timings.items()},
        "progress": None,
        "error": _refusal(refused) if refused else None,
    }


def waiting(
    asked: Request, created: float, deadline: float, error: Refusal | None, progress: Progress | None
) -> Document:
    """Gives what is not in the journal: a request whose turn has not come, or with `error` one that came to nothing.

    `progress` tells of the image that is fetched for it.
    """
    return {
        "consumer": asked.consumer,
        "project_id": asked.project_id,
        "state": State.FAILED.value if error else State.PREPARING.value,
        "groups": [asdict(group) for group in asked.groups],
        "handles": [],
        "steps": [],
        "created": when(created),
        "deadline": when(deadline),
        "expires": when(created + asked.expires_in if asked.expires_in else None),
        "timings": {},
        "progress": asdict(progress) if progress is not None and error is None else None,
        "error": _refusal(error) if error else None,
    }


def not_prepared(refusal: Refusal) -> NotPrepared:
    """Gives the error that tells a caller of a refusal."""
    return NotPrepared(refusal.kind.value, refusal.reason, refusal.address, tuple(map(_holder, refusal.holders)))


def _steps(entry: Entry) -> list[Document]:
    """Gives the steps of the plan that counts now: those of the release once that has begun."""
    preparation: Preparation = entry.preparation
    plan, done = preparation.plan, frozenset(preparation.done)
    if entry.release is not None:
        plan, done = entry.release, entry.released
    return [
        {"verb": step.verb, "target": step.target, "arguments": dict(step.arguments), "done": number in done}
        for number, step in enumerate(plan.steps)
    ]


def _refusal(refusal: Refusal) -> Document:
    return {
        "type": refusal.kind.value,
        "reason": refusal.reason,
        "address": refusal.address,
        "holders": [_holder(each) for each in refusal.holders],
    }


def _holder(holder: Holder) -> dict[str, str | int | None]:
    return {"consumer": holder.consumer, "pid": holder.pid, "command": holder.command}
