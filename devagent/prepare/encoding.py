# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A consumer's request and plans as the JSON text that the journal keeps, and back.

{"groups": [{"provider": "4a1e...", "resources": {"CUSTOM_QAT_VF": 1}, "address": null, "properties": {},
             "owner": null}],
 "project_id": null, "created": 1763712000.5, "deadline": 1763712240.5, "expires": null,
 "plan": {"steps": [{"verb": "bind", "target": "0000:3b:01.0", "arguments": {...}, "undo": {...}}],
          "handles": [{"type": "PCI", ...}], "locks": ["pf:0000:3b:00.0"],
          "wipes": {"4a1e...": {"how": "nvme-format", "image": null}},
          "devices": {"4a1e...": "144d:a80a:nvme:S4EVNX0M"}, "told": {"4a1e...": {"nvme": "S4EVNX0M"}}},
 "release": null, "timings": {"doing": 0.004}, "error": null, "given": true, "ended": null,
 "term": {"boot_id": "...", "ends": 7212.5, "seconds": 3600}}

What earlier versions did not write may be missing: `owner`, `ended`, `wipes`, `devices`, `told`, `term`. What a later
one writes more is passed over; where that would be wrong, the journal gets another version (journal_tables.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from devagent.model.handle import Handle, MdevHandle, PciHandle, as_json
from devagent.model.plan import Arguments, Group, Plan, Step
from devagent.model.preparation import Holder, Preparation, Refusal, RefusalKind, State
from devagent.model.term import Term


def encode(preparation: Preparation, release: Plan | None) -> str:
    """Gives all of a preparation but its consumer, state, boot and steps done, with the plan that releases it."""
    return text({
        "groups": [_raw_group(group) for group in preparation.groups],
        "project_id": preparation.project_id,
        "created": preparation.created,
        "deadline": preparation.deadline,
        "expires": preparation.expires,
        "plan": _raw_plan(preparation.plan),
        "release": _raw_plan(release) if release else None,
        "timings": dict(preparation.timings),
        "error": asdict(preparation.error) if preparation.error else None,
        "given": bool(preparation.handles),
        "ended": preparation.ended,
        "term": asdict(preparation.term) if preparation.term else None,
    })  # fmt: skip


def decode(
    consumer: str, state: State, boot_id: str, document: str, steps: Iterable[tuple[int, bool, str]]
) -> tuple[Preparation, Plan | None]:
    """Gives what `encode` was given; `steps` are the numbers of those begun, whether done, and what each found."""
    raw = json.loads(document)
    begun = sorted(steps)
    plan = _plan(consumer, raw["plan"])
    preparation = Preparation(
        consumer=consumer,
        groups=tuple(map(_group, raw["groups"])),
        plan=plan,
        state=state,
        created=raw["created"],
        boot_id=boot_id,
        deadline=raw["deadline"],
        project_id=raw["project_id"],
        done=tuple(number for number, done, _ in begun if done),
        found={number: arguments(found) for number, _, found in begun},
        handles=plan.handles if raw["given"] else (),
        expires=raw["expires"],
        timings=raw["timings"],
        error=_refusal(raw["error"]) if raw["error"] else None,
        ended=raw.get("ended"),
        term=_term(raw["term"]) if raw.get("term") else None,
    )
    return preparation, _plan(consumer, raw["release"]) if raw["release"] else None


def text(value: object) -> str:
    """Gives a value as JSON without any blank."""
    return json.dumps(value, separators=(",", ":"))


def arguments(document: str) -> Arguments:
    """Gives a step's arguments back."""
    found: Arguments = json.loads(document)
    return found


def _raw_group(group: Group) -> dict[str, Any]:
    # By hand here and below: dataclasses.asdict takes ten times as long, and this is written eight times a life.
    return {
        "provider": group.provider,
        "resources": dict(group.resources),
        "address": group.address,
        "properties": dict(group.properties),
        "owner": group.owner,
    }


def _raw_plan(plan: Plan) -> dict[str, Any]:
    return {
        "steps": [
            {
                "verb": step.verb,
                "target": step.target,
                "arguments": dict(step.arguments),
                "undo": dict(step.undo) if step.undo is not None else None,
            }
            for step in plan.steps
        ],
        "handles": [as_json(handle) for handle in plan.handles],
        "locks": plan.locks,
        "wipes": {provider: dict(wipe) for provider, wipe in plan.wipes.items()},
        "devices": dict(plan.devices),
        "told": {provider: dict(told) for provider, told in plan.told.items()},
    }


# Field by field here and below, never by **: a later version may have more of them.
def _group(raw: Mapping[str, Any]) -> Group:
    return Group(raw["provider"], raw["resources"], raw["address"], raw["properties"], raw.get("owner"))


def _plan(consumer: str, raw: Mapping[str, Any]) -> Plan:
    steps = tuple(Step(each["verb"], each["target"], each["arguments"], each["undo"]) for each in raw["steps"])
    handles = tuple(map(_handle, raw["handles"]))
    more = (raw.get(name, {}) for name in ("wipes", "devices", "told"))
    return Plan(consumer, steps, handles, tuple(raw["locks"]), *more)


def _handle(raw: Mapping[str, Any]) -> Handle:
    common = raw["provider"], raw["resource_class"]
    if raw["type"] == "PCI":
        return PciHandle(*common, raw["address"], raw["managed"])
    return MdevHandle(*common, raw["uuid"], raw["parent"], raw["mdev_type"])


def _refusal(raw: Mapping[str, Any]) -> Refusal:
    holders = tuple(Holder(each["consumer"], each["pid"], each["command"]) for each in raw["holders"])
    return Refusal(RefusalKind(raw["kind"]), raw["reason"], raw["address"], holders)


def _term(raw: Mapping[str, Any]) -> Term:
    return Term(raw["boot_id"], raw["ends"], raw["seconds"])
