# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""health.json: what was kept is found again; a damaged file is named, set aside, and takes nothing with it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devagent.model.health import Condition, End, Evidence, Given, Health, Kept, Override, State, Trouble
from devagent.sources import condition_file
from devagent.sources.condition_file import FILE, load, save

SICK = Health(State.UNHEALTHY, ("XID 119: it does not answer",))
CONDITION = Condition(
    SICK,
    since=1.5,
    clean=1,
    flaps=(1.0, 2.0),
    evidence=(Evidence(1.0, "XID 119", "xid 119", 3),),
    override=Override(State.SUSPECT, "being looked at", "uid 0 (root)", 9.0),
    counters={"aer_dev_fatal": 3},
    troubles=(Trouble("xid 119", SICK, End.RESET, 1, False),),
    driver="nvidia",
    monitor="nvidia",
    action="none",
    recovered=True,
    gone=7.0,
    given=Given("vf", "SRIOV_NET_VF", 8, "vfs", ("CUSTOM_GOLD",), (("CUSTOM_VGPU_A", 4, 2),)),
)
KEPT = Kept({"10de:20f1:nvml:GPU-1": CONDITION, "15b3:101d:mac:b8": Condition()}, "boot", 1871)


def test_what_is_saved_is_found_again(tmp_path: Path) -> None:
    save(str(tmp_path / "state"), KEPT)
    assert load(str(tmp_path / "state")) == KEPT


def test_what_knows_of_one_class_only_is_found_again(tmp_path: Path) -> None:
    save(str(tmp_path), KEPT)
    path = tmp_path / FILE
    body = json.loads(path.read_text())
    for each in body["devices"].values():
        if each["given"]:
            del each["given"]["shares"]
    path.write_text(json.dumps(body))
    assert [each.given.shares for each in load(str(tmp_path)).book.values() if each.given] == [()]


def test_everybody_may_read_it(tmp_path: Path) -> None:
    save(str(tmp_path), KEPT)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o644


def test_nothing_is_written_if_nothing_changed(tmp_path: Path) -> None:
    save(str(tmp_path), KEPT)
    before = (tmp_path / FILE).stat()
    save(str(tmp_path), KEPT)
    after = (tmp_path / FILE).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_no_file_is_no_problem(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert load(str(tmp_path)) == Kept()
    assert caplog.text == ""


def test_what_a_later_version_adds_is_passed_over(tmp_path: Path) -> None:
    save(str(tmp_path), KEPT)
    body = json.loads((tmp_path / FILE).read_text())
    body["more"] = 1
    for device in body["devices"].values():
        device["more"] = device["health"]["more"] = {}
    (tmp_path / FILE).write_text(json.dumps(body))
    assert load(str(tmp_path)) == KEPT


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    body = json.loads(condition_file._encode(KEPT))
    change(body)
    return json.dumps(body)


def of_gpu(**more: object) -> str:
    return changed(lambda body: body["devices"]["10de:20f1:nvml:GPU-1"].update(more))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "\x00" * 64,
        "[" * 100_000,
        '{"version": 2, "devices": {}}',
        '{"version": 1}',
        changed(lambda body: body.update(devices=[])),
        changed(lambda body: body.update(boot_id=7)),
        changed(lambda body: body.update(log_position=-1)),
        of_gpu(since="now"),
        of_gpu(since=True),
        of_gpu(since=1e300),
        of_gpu(since=float("nan")),
        of_gpu(flaps=[-1]),
        of_gpu(clean=1.5),
        of_gpu(health={"state": "fine", "reasons": []}),
        of_gpu(troubles=[{}]),
        of_gpu(counters={"a": -1}),
        of_gpu(driver=5),
        of_gpu(recovered=1),
        of_gpu(given={"mode": "half", "resource_class": "PGPU", "total": 1, "rule": None, "traits": []}),
        of_gpu(monitor="\ud800"),
    ],
)
def test_a_damaged_file_is_named_and_set_aside_before_a_new_one_takes_its_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    (tmp_path / FILE).write_text(text)
    assert load(str(tmp_path)) == Kept()
    assert f"{tmp_path / FILE} is damaged (" in caplog.text
    assert "set again what must stay closed" in caplog.text
    assert (tmp_path / FILE).read_text() == text  # `report --dry-run` changes nothing
    save(str(tmp_path), KEPT)
    (aside,) = tmp_path.glob("health.damaged-*")
    assert aside.read_text() == text
    assert load(str(tmp_path)) == KEPT


def test_a_file_that_cannot_be_read_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE).mkdir()
    assert load(str(tmp_path)) == Kept()
    assert "cannot be read (it is no regular file)" in caplog.text


def test_what_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "state").write_text("")
    save(str(tmp_path / "state"), KEPT)
    assert "cannot be written (Not a directory): after a restart, health is judged anew" in caplog.text


def test_a_full_disk_leaves_the_old_file_and_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(str(tmp_path), KEPT)

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    save(str(tmp_path), Kept())
    assert "No space left on device" in caplog.text
    assert load(str(tmp_path)) == KEPT
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
