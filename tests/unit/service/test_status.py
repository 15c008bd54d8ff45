# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the agent says of itself, as the shipped schemas have it, in every state that it can be in."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from devagent.discovery import Discovery
from devagent.inventory import condition, operators
from devagent.inventory.build import Nest
from devagent.model.health import Health, Override, State
from devagent.model.snapshot import HostFacts, Problem
from devagent.service.beats import Beats, Pulse
from devagent.service.facts import Facts, Refused, Reported, Seen
from devagent.service.health import health
from devagent.service.status import Self, status
from devagent.sources.abandoned import Stuck
from devagent.view import Look

from ..worlds import function, managed

NOW = 1_790_000_000.0
SICK = replace(managed(function()), health=Health(State.UNHEALTHY, ("XID 79: off the bus",)))
ADDRESS = SICK.address
OWN = Self(
    host="cmp1", started=NOW, stopping=False, files=("/etc/devagent/devagent.conf",), policy="built in",
    loaded=NOW, error=None, processes={"agent": 1},
)  # fmt: skip
CURRENT = Reported("current", NOW, 0, 1, root="0c6e1f57-6a3d-4f0b-9a55-2f7d5a3b8e10", root_name="cmp1.example.org")
OK = (Pulse("look", late=False, failed=False, at=NOW, detail=None),)


def valid(document: dict[str, Any], name: str) -> dict[str, Any]:
    schema = json.loads(resources.files("devagent").joinpath(f"schemas/{name}.schema.json").read_text())
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(
        json.loads(json.dumps(document))
    )
    return document


def seen(*, sick: bool = False, **more: Any) -> Seen:
    device = SICK if sick else managed(function())
    found = Discovery(
        HostFacts(hostname="cmp1"), (device,), (Problem("nvml", ADDRESS, "does not answer"),),
        stuck=(Stuck("device", ADDRESS, 4711, NOW), Stuck("kfd", "kfd", 4712, NOW)),
    )  # fmt: skip
    return Seen(Look(found, "cmp1", Nest.NUMA), NOW, 0.1, True, **more)


@pytest.mark.parametrize(
    ("facts", "own", "pulses", "state", "reasons"),
    [
        (Facts(), OWN, OK, "starting", 0),
        (Facts(look_error="the look process hangs"), OWN, OK, "degraded", 1),
        (Facts(seen()), OWN, OK, "starting", 0),
        (Facts(seen(configuring=frozenset({ADDRESS}))), OWN, OK, "configuring", 0),
        (Facts(seen(), reported=CURRENT), OWN, OK, "running", 0),
        (Facts(seen(sick=True), reported=CURRENT), OWN, OK, "running", 0),
        (Facts(seen(), "the look process hangs", reported=CURRENT), OWN, OK, "degraded", 1),
        (Facts(seen(), state_error="the disk is full", reported=CURRENT), OWN, OK, "degraded", 1),
        (Facts(seen(), reported=Reported("waiting", error="no provider", retry_at=NOW)), OWN, OK, "degraded", 1),
        (Facts(seen(), reported=CURRENT), replace(OWN, error="devices.yaml:3: rules"), OK, "degraded", 1),
        (Facts(seen(), reported=CURRENT), OWN, (replace(OK[0], late=True),), "degraded", 1),
        (Facts(seen(), reported=CURRENT), OWN, (replace(OK[0], failed=True, detail="KeyError"),), "degraded", 1),
        (Facts(seen(), reported=CURRENT), replace(OWN, stopping=True), OK, "stopping", 0),
    ],
)
def test_its_state_says_whether_somebody_must_look(
    facts: Facts, own: Self, pulses: tuple[Pulse, ...], state: str, reasons: int
) -> None:
    document = valid(status(facts, pulses, own), "status")
    assert (document["state"], len(document["reasons"])) == (state, reasons)


def test_a_failure_that_a_loop_and_the_facts_both_know_is_said_once() -> None:
    reported = Reported("failed", error="Placement is away", retry_at=NOW)
    pulses = (replace(OK[0], name="report", failed=True, detail="Placement is away"),)
    assert len(status(Facts(seen(), reported=reported), pulses, OWN)["reasons"]) == 1


def test_what_is_fenced_refused_unexplained_and_stuck_is_listed() -> None:
    book = condition.follow([SICK], {}, (), NOW, condition.Rules())
    facts = Facts(
        seen(sick=True, refused=(Refused(ADDRESS, "16 VFs", "it has 8"),), book=book),
        reported=replace(CURRENT, differs=(("devagent:cmp1:x", "in use"),)),
        unexplained=((ADDRESS, "is held by PID 4711"),),
    )
    own = replace(OWN, hung=((ADDRESS, f"{ADDRESS}: set_vf_count hangs", NOW),))
    document = valid(status(facts, OK, own), "status")
    assert document["fenced"][0]["address"] == ADDRESS
    assert document["fenced"][0]["override"] is False
    assert document["refused"] == [{"address": ADDRESS, "what": "16 VFs", "why": "it has 8"}]
    assert document["unexplained"] == [{"address": ADDRESS, "what": "is held by PID 4711"}]
    assert document["differs"] == [{"provider": "devagent:cmp1:x", "what": "in use"}]
    assert [each["address"] for each in document["stuck"]] == [ADDRESS, ADDRESS, None]
    assert document["stuck"][0]["what"] == "set_vf_count hangs"


def test_the_health_of_each_device_has_its_history() -> None:
    book = condition.follow([SICK], {}, (), NOW, condition.Rules())
    book = operators.override(book, SICK.key, Override(State.SUSPECT, "watch it", "uid 0", NOW + 60), NOW)
    facts = Facts(seen(sick=True, book=book), reported=CURRENT)
    (device,) = valid(health(facts), "health")["devices"]
    assert device["override"] == {
        "state": "suspect", "reason": "watch it", "by": "uid 0", "until": "2026-09-21T14:14:20Z",
    }  # fmt: skip
    assert device["evidence"]
    assert valid(health(Facts()), "health")["devices"] == []


def test_the_beats_are_shown_as_they_are() -> None:
    beats = Beats(lambda: 5.0, lambda: NOW)
    beats.expect("udev", 60)
    (loop,) = status(Facts(), beats.pulses(), OWN)["loops"]
    assert loop == {"name": "udev", "state": "ok", "beat": "2026-09-21T14:13:20Z", "detail": None}


def test_processes_that_are_gone_are_not_listed() -> None:
    assert status(Facts(), (), replace(OWN, processes={"agent": 1, "look": 1 << 22}))["processes"][0]["name"] == "agent"
    assert len(status(Facts(), (), replace(OWN, processes={"look": (1 << 22) + 1}))["processes"]) == 0
