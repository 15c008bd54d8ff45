# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is written about a preparation is read again: by this version, by those after it, and of those before it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import pytest

from devagent.model.handle import MdevHandle, PciHandle
from devagent.model.plan import Group, Plan, Step
from devagent.model.preparation import Holder, Preparation, Refusal, RefusalKind, State
from devagent.model.term import Term
from devagent.prepare.database import Database
from devagent.prepare.encoding import arguments, decode, encode, text
from devagent.prepare.journal_tables import MIGRATIONS

VF = PciHandle("4a1e", "CUSTOM_VF", "0000:10:01.0", managed=True)
MDEV = MdevHandle("4a1e", "CUSTOM_VGPU", "4b20d080-1b54-4048-85b3-a6a62d165c01", "0000:10:02.0", "nvidia-558")
BIND = Step("bind", VF.address, {"driver": "vfio-pci"}, {"driver": "iavf"})
RESET = Step("reset", VF.address, {"method": None})
PLAN = Plan(
    "A", (BIND, RESET), (VF, MDEV), ("pf:0000:10:00.0",),
    {"4a1e": {"how": "fpga-blank", "image": "5e1f"}}, {"4a1e": "144d:a80a:nvme:S4EVNX0M"},
    {"4a1e": {"nvme": "S4EVNX0M"}},
)  # fmt: skip
RELEASE = Plan("A", (RESET,), (VF,), ("group:42",), PLAN.wipes, PLAN.devices, PLAN.told)
ERROR = Refusal(RefusalKind.RETRY, "it is in use", VF.address, (Holder("B", 4711, "qemu"),))
EVERYTHING = Preparation(
    consumer="A", groups=(Group("4a1e", {"CUSTOM_VF": 1}, VF.address, {"mac": "02:00:00:00:00:01"}, "nova"),),
    plan=PLAN, state=State.RELEASING, created=1000.5, boot_id="boot 1", deadline=1240.0, project_id="project",
    done=(0,), found={0: {"driver": "ice"}, 1: {}}, handles=(VF, MDEV), expires=5000.0, timings={"doing": 0.25},
    error=ERROR, ended=1100.0, term=Term("boot 1", 7212.5, 3600.0),
)  # fmt: skip
STEPS = ((1, False, "{}"), (0, True, '{"driver":"ice"}'))

# What is kept by names that are data: whatever a consumer, a plan or a device calls it.
FREE = ("resources", "properties", "arguments", "undo", "wipes", "devices", "told", "timings", "info")
LATER: dict[str, object] = {"owner": None, "ended": None, "wipes": {}, "devices": {}, "told": {}, "term": None}
"""What earlier versions did not write, and how it then is; who adds a field that agents before may pass over names it
here and in FIELDS[newest]."""
FIELDS = {
    2: """
        created deadline ended error error.address error.holders error.holders.command error.holders.consumer
        error.holders.pid error.kind error.reason expires given groups groups.address groups.owner groups.properties
        groups.provider groups.resources plan plan.devices plan.handles plan.handles.address plan.handles.info
        plan.handles.managed plan.handles.mdev_type plan.handles.parent plan.handles.provider
        plan.handles.resource_class plan.handles.type plan.handles.uuid plan.locks plan.steps plan.steps.arguments
        plan.steps.target plan.steps.undo plan.steps.verb plan.told plan.wipes project_id release release.devices
        release.handles release.handles.address release.handles.info release.handles.managed release.handles.provider
        release.handles.resource_class release.handles.type release.locks release.steps release.steps.arguments
        release.steps.target release.steps.undo release.steps.verb release.told release.wipes term term.boot_id
        term.ends term.seconds timings
    """
}
COLUMNS = {
    2: {
        "holdings": "key consumer parent sum",
        "preparations": "consumer state boot_id created document sum",
        "released": "address at sum",
        "steps": "consumer releasing number done found sum",
        "tombstones": "consumer boot_id ends seconds sum",
    }
}
NEWEST = len(MIGRATIONS)


def written() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(encode(EVERYTHING, RELEASE))
    return document


def read(document: dict[str, Any]) -> tuple[Preparation, Plan | None]:
    return decode("A", State.RELEASING, "boot 1", text(document), STEPS)


def objects(raw: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Gives whatever in a document has fields of ours, by the names that lead there."""
    if isinstance(raw, list):
        for each in raw:
            yield from objects(each, path)
    if isinstance(raw, dict) and not {*path} & {*FREE}:
        yield path, raw
        for name, each in raw.items():
            yield from objects(each, (*path, name))


def has_default(field: Field[Any], value: object) -> bool:
    made = field.default_factory() if field.default_factory is not MISSING else field.default
    return bool(value == made)


def test_whatever_there_is_to_say_of_a_preparation_comes_back() -> None:
    """Each field of it says something: one that is new in the model and not written fails here."""
    said: tuple[Any, ...] = (EVERYTHING, *EVERYTHING.groups, PLAN, BIND, VF, MDEV, ERROR, *ERROR.holders)
    silent = [f"{type(each).__name__}.{field.name}" for each in said for field in fields(each)
              if has_default(field, getattr(each, field.name))]  # fmt: skip
    assert silent == []
    assert read(written()) == (EVERYTHING, RELEASE)


def test_a_release_that_has_not_begun_and_a_device_that_was_not_given_stay_so() -> None:
    begun = Preparation("A", EVERYTHING.groups, PLAN, State.PREPARING, 1.0, "boot 1", 2.0)
    assert decode("A", State.PREPARING, "boot 1", encode(begun, None), ()) == (begun, None)


def test_what_a_step_found_comes_back() -> None:
    assert arguments(text({"driver": None, "count": 3})) == {"driver": None, "count": 3}


def test_what_a_later_version_writes_more_is_passed_over() -> None:
    document = written()
    for path, each in list(objects(document)):
        each["later"] = ".".join(path)
    assert read(document) == (EVERYTHING, RELEASE)


@pytest.mark.parametrize("name", LATER)
def test_what_earlier_versions_did_not_write_may_be_missing(name: str) -> None:
    document = written()
    for _, each in list(objects(document)):
        each.pop(name, None)
    preparation, _ = read(document)
    (found,) = (
        getattr(each, name) for each in (preparation, preparation.plan, *preparation.groups) if hasattr(each, name)
    )
    assert found == LATER[name]


def test_what_is_written_is_what_this_version_of_the_journal_has() -> None:
    """What is gone, has another name or another meaning: another version, whose list is a new one of FIELDS."""
    names = {".".join((*path, name)) for path, each in objects(written()) for name in each}
    assert sorted(names) == sorted(FIELDS[NEWEST].split())


def test_the_tables_are_those_of_this_version_of_the_journal(tmp_path: Path) -> None:
    Database(tmp_path / "journal.db", MIGRATIONS).close()
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        columns = "SELECT t.name, group_concat(c.name, ' ') FROM sqlite_schema t, pragma_table_info(t.name) c"
        rows = connection.execute(f"{columns} WHERE t.type = 'table' GROUP BY t.name").fetchall()
    assert dict(rows) == COLUMNS[NEWEST]
