# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is remembered is read whole or not at all, and nothing that stands in its place holds anybody up."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from devagent.errors import JournalError
from devagent.model.health import Kept
from devagent.model.snapshot import Problem
from devagent.placement.state import Memory, StateFile
from devagent.prepare.journal import Journal
from devagent.sources import condition_file, known, state_file
from devagent.sources.host import Directory


def test_what_was_written_is_read_by_everybody_and_nothing_stands_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "below" / "it.json"
    assert state_file.read(path) is None
    for content in (b"first, and longer", b"second"):
        state_file.replace(path, content)
        assert state_file.read(path) == content
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [each.name for each in path.parent.iterdir()] == ["it.json"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["a FIFO", "a directory"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "it.json"
    make(path)
    with pytest.raises(OSError, match="it is no regular file"):
        state_file.read(path)


def test_what_stands_where_it_is_written_is_not_opened(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    (tmp_path / "a.new").symlink_to(elsewhere)
    os.mkfifo(tmp_path / "b.new")
    for name in ("a.json", "b.json"):
        state_file.replace(tmp_path / name, b"new")
        assert (tmp_path / name).read_bytes() == b"new"
    assert elsewhere.read_text() == "mine"


def test_a_full_disk_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "it.json"
    state_file.replace(path, b"old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        state_file.replace(path, b"new")
    assert (state_file.read(path), [each.name for each in tmp_path.iterdir()]) == (b"old", ["it.json"])


def test_no_fifo_holds_up_a_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in (condition_file.FILE, known.FILE, StateFile(tmp_path).path.name, "preparations.db"):
        os.mkfifo(tmp_path / name)
    assert condition_file.load(str(tmp_path)) == Kept()
    assert StateFile(tmp_path).load() is None
    problems: list[Problem] = []
    with Directory(tmp_path) as tree:
        assert known.load(tree, "", problems) == ()
    assert not condition_file.save(str(tmp_path), Kept())
    known.save(str(tmp_path), ())
    StateFile(tmp_path).save(Memory("root"))
    with pytest.raises(JournalError):
        Journal(tmp_path / "preparations.db", "boot")
    assert caplog.text.count("it is no regular file") == 4
