# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What `devagent status` and `devagent health` print: whole outputs from whole documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from devagent.api.schemas import validator
from devagent.cli.render import health, preparations, status, times

from .agent_documents import DEGRADED, HEALTH, NOW, RUNNING, STARTING

GOLDEN = Path(__file__).parent / "golden"

OUTPUTS = {
    "status-running": status.render(RUNNING, NOW),
    "status-starting": status.render(STARTING, NOW),
    "status-degraded": status.render(DEGRADED, NOW),
    "health": health.render(HEALTH, NOW),
    "health-unhealthy": health.detail(HEALTH["devices"][0], NOW),
    "health-override": health.detail(HEALTH["devices"][1], NOW),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_output_is_as_it_was(name: str) -> None:
    assert OUTPUTS[name] + "\n" == (GOLDEN / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", OUTPUTS)
def test_no_line_moves_a_cursor(name: str) -> None:
    assert all(line.isprintable() for line in OUTPUTS[name].split("\n"))


@pytest.mark.parametrize("document", [RUNNING, STARTING, DEGRADED])
def test_the_documents_are_what_an_agent_answers(document: dict[str, Any]) -> None:
    validator("status").validate(document)
    validator("health").validate(HEALTH)


def test_what_a_step_leaves_open_is_not_shown() -> None:
    step = {"verb": "reset", "target": "0000:3b:00.2", "arguments": {"method": None}, "done": False}
    document = {"consumer": "c", "state": "releasing", "created": "2026-01-01T00:00:00Z", "groups": [], "handles": []}
    more: dict[str, Any] = {"steps": [step], "expires": None, "timings": {}, "progress": None, "error": None}
    shown = preparations.detail({**document, **more}, NOW)
    assert shown.splitlines()[1] == "  to do: reset 0000:3b:00.2"


def test_the_table_of_preparations_fits_80_columns_and_has_the_reasons_below() -> None:
    handles = [{"type": "PCI", "address": f"0000:3b:00.{number}"} for number in range(3)]
    common: dict[str, Any] = {"created": "2026-01-01T00:00:00Z", "handles": handles, "error": None}
    why = {"type": "retry", "reason": "process 812 has it open " * 9}
    states = ("preparing", "prepared", "releasing", "failed")
    ready = [{**common, "consumer": str(UUID(int=number)), "state": state} for number, state in enumerate(states)]
    failed = {**common, "consumer": str(UUID(int=9)), "state": "failed", "handles": [], "error": why}
    shown = preparations.render({"preparations": [*ready, failed]}, NOW).splitlines()
    table = [line for line in shown if line[:1] in "+|" and line]
    assert len(table) == 3 + 4 * 3 + 1 + 1
    assert max(map(len, table)) <= 80
    assert shown[len(table) :] == ["", "Why (1):", f"  {UUID(int=9)}  retry: {why['reason']}"]


def test_every_fact_that_is_amiss_is_shown() -> None:
    shown = OUTPUTS["status-degraded"]
    for part in (
        "connection refused",
        "asks NVML",
        "XID 79",
        "16 VFs",
        "qemu-system-x86",
        "reset",
        "rules[1]",
        "nova.conf",
    ):
        assert shown.count(part) == 1, part


def test_nothing_is_amiss_where_all_is_well() -> None:
    assert status.amiss(RUNNING, NOW) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"reasons": ["x"]},
        {"loops": [{**RUNNING["loops"][0], "state": "late"}]},
        {"scan": {**RUNNING["scan"], "problems": [{"source": "s", "device": None, "problem": "p"}]}},
        {"report": {**RUNNING["report"], "state": "failed"}},
        {"report": {**RUNNING["report"], "error": "x"}},
        {"differs": [{"provider": "p", "what": "w"}]},
        *({name: DEGRADED[name]} for name in ("fenced", "refused", "unexplained", "stuck", "configuration")),
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_whatever_is_amiss_is_a_section(wrong: dict[str, Any]) -> None:
    ((_, lines),) = status.amiss({**RUNNING, **wrong}, NOW)
    assert lines


def test_no_devices_is_said() -> None:
    assert health.render({"schema_version": 1, "devices": []}, NOW) == health.NOTHING


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0.9, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (86399, "23 h 59 min"),
        (86400, "1 d"),
        (90061, "1 d 1 h"),
        (400 * 86400, "400 d"),
    ],
)
def test_spans_are_as_people_say_them(seconds: float, text: str) -> None:
    assert times.span(seconds) == text
