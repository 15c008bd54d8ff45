# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""identities.json: what was settled is found again; a damaged file is named and takes nothing with it."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from devagent.model.gpu import GpuFacts
from devagent.model.identity import Identity
from devagent.model.known import Known
from devagent.model.snapshot import Problem
from devagent.sources import known
from devagent.sources.host import Directory

GPU = Known(
    "10de:20f1:10de:145f",
    "pci0000:3a/01.0/00.0",
    Identity("nvml", "GPU-1"),
    {"nvml": "GPU-1", "dsn": "b8/0"},
    GpuFacts("GPU-1", "1652", 81920),
)
NIC = Known("15b3:101d:15b3:0016", "pci0000:3a/02.0/00.0", Identity("mac", "b8:59:9f:00:11:22"), {})


def loaded(top: Path) -> tuple[tuple[Known, ...], list[Problem]]:
    problems: list[Problem] = []
    with Directory(top) as tree:
        return known.load(tree, "/var/lib/devagent", problems), problems


def test_what_is_saved_is_found_again(tmp_path: Path) -> None:
    known.save(str(tmp_path / "var/lib/devagent"), (GPU, NIC))
    assert loaded(tmp_path) == ((GPU, NIC), [])


def test_everybody_may_read_it(tmp_path: Path) -> None:
    """`discover` without root must give each device the identity that the report made a provider of."""
    known.save(str(tmp_path), (GPU,))
    assert stat.S_IMODE((tmp_path / known.FILE).stat().st_mode) == 0o644


def test_nothing_is_written_if_nothing_changed(tmp_path: Path) -> None:
    known.save(str(tmp_path), (GPU,))
    before = (tmp_path / known.FILE).stat()
    known.save(str(tmp_path), (GPU,))
    after = (tmp_path / known.FILE).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_no_file_is_no_problem(tmp_path: Path) -> None:
    assert loaded(tmp_path) == ((), [])


GOOD = {"ids": "a", "topology": "b", "identity": {"source": "c", "value": "d"}, "others": {}, "gpu": None}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"version": 2, "devices": []}',
        '{"version": 1}',
        json.dumps({"version": 1, "devices": [{**GOOD, "ids": 7}]}),
        json.dumps({"version": 1, "devices": [{**GOOD, "identity": None}]}),
        json.dumps({"version": 1, "devices": [{**GOOD, "others": []}]}),
        json.dumps({"version": 1, "devices": [{**GOOD, "gpu": "x"}]}),
        json.dumps({"version": 1, "devices": [{key: GOOD[key] for key in ("ids", "topology")}]}),
        "[" * 100_000,
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "var/lib/devagent").mkdir(parents=True)
    (tmp_path / "var/lib/devagent" / known.FILE).write_text(text)
    found, (problem,) = loaded(tmp_path)
    assert found == ()
    assert problem.problem.startswith("/var/lib/devagent/identities.json is damaged (")
    assert problem.problem.endswith("restore or remove it")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "var/lib/devagent" / known.FILE).mkdir(parents=True)
    found, (problem,) = loaded(tmp_path)
    assert found == ()
    assert problem.problem == (
        "var/lib/devagent/identities.json: is a directory: devices may get another identity than before"
    )


def test_what_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "state").write_text("")
    known.save(str(tmp_path / "state"), (GPU,))
    assert "cannot be written (Not a directory): devices may get another identity later" in caplog.text


def test_a_damaged_file_is_set_aside_before_a_new_one_takes_its_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / known.FILE).write_text('{"version": 1, "devi')
    known.save(str(tmp_path), (GPU,))
    (aside,) = tmp_path.glob("identities.damaged-*")
    assert aside.read_text() == '{"version": 1, "devi'
    assert f"set aside as {aside.name}" in caplog.text
