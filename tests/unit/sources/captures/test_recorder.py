# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is read of a tree is noted, packed, and read again just so."""

from __future__ import annotations

import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devagent.errors import ConfigurationError, DevagentError, RootError, Unreadable
from devagent.sources import roots
from devagent.sources.captures.packing import check_name, pack
from devagent.sources.captures.recorder import Recorder
from devagent.sources.host import Directory, Tree

from ...worlds import PCI, Link, World, write

HOME = "sys/devices/pci0000:3a/0000:3b:00.0"
WORLD: World = {
    f"{HOME}/uevent": "DRIVER=x\n",
    f"{HOME}/vendor": "0x10de\n",
    f"{HOME}/config": bytes(range(256)),
    f"{HOME}/binary": b"\xff\x00\x01",
    f"{HOME}/long": "x" * 5000,
    f"{HOME}/net/eth0/address": "02:00:00:00:00:01\n",
    f"{HOME}/physfn": Link("../0000:3b:00.1"),
    f"{PCI}/0000:3b:00.0": Link("../../../devices/pci0000:3a/0000:3b:00.0"),
    f"{PCI}/0000:3b:00.1": Link("nowhere"),
    "sys/class/net/eth0": Link("../../devices/pci0000:3a/0000:3b:00.0/net/eth0"),
    "proc/self": Link("4711"),
    "proc/4711/mountinfo": "mounts\n",
    "proc/loop": Link("loop"),
    "etc/secret.conf": "a = 1\npassword = geheim\nb = 2\n",
}
Ask = Callable[[Tree], Any]


def excerpt(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if "password" not in line)


QUESTIONS: dict[str, Ask] = {
    "text": lambda tree: tree.text(f"{PCI}/0000:3b:00.0/uevent"),
    "text by its own path": lambda tree: tree.text(f"{HOME}//./vendor"),
    "text below": lambda tree: tree.below(PCI).below("0000:3b:00.0").text("vendor"),
    "absent": lambda tree: tree.text(f"{HOME}/nothing"),
    "absent folder": lambda tree: tree.text("sys/none/nothing"),
    "binary": lambda tree: tree.text(f"{HOME}/binary"),
    "long": lambda tree: tree.text(f"{HOME}/long"),
    "a file": lambda tree: tree.file(f"{HOME}/long"),
    "a directory": lambda tree: tree.text(HOME),
    "a link": lambda tree: tree.text("sys/class/net/eth0"),
    "data": lambda tree: [tree.data(f"{HOME}/config", 4, offset) for offset in (128, 0, 254, 300)],
    "link": lambda tree: tree.link(f"{PCI}/0000:3b:00.0/physfn"),
    "no link": lambda tree: tree.link(f"{HOME}/uevent"),
    "loop": lambda tree: tree.below("proc/loop"),
    "has": lambda tree: [tree.has(f"{PCI}/0000:3b:00.{number}") for number in range(3)],
    "names": lambda tree: tree.names(PCI),
    "some names": lambda tree: tree.names(HOME, "v*"),
    "no names": lambda tree: tree.names(f"{HOME}/uevent"),
    "by another way": lambda tree: tree.text("sys/class/net/eth0/address"),
    "self": lambda tree: tree.file("proc/self/mountinfo"),
    "excerpt": lambda tree: tree.file("etc/secret.conf", excerpt),
    "nothing": lambda tree: tree.below("sys/none"),
}


def answer(tree: Tree, ask: Ask) -> Any:
    try:
        given = ask(tree)
    except Unreadable as error:
        return str(error)
    return "a directory" if isinstance(given, Tree) else given


def packed(top: Path, *asked: Ask, suffix: str = ".tar", redact: bool = False) -> tuple[Path, list[Any]]:
    path = top / f"capture{suffix}"
    with Directory(top / "host") as tree:
        recorder = Recorder(tree)
        recorder.has(PCI)  # as discovery does, and without it there is no host
        answers = [answer(recorder, ask) for ask in asked]
        pack(recorder, path, "h", redact=redact)
    return path, answers


@pytest.mark.parametrize("name", QUESTIONS)
def test_each_answer_is_the_same_again(tmp_path: Path, name: str) -> None:
    write(tmp_path / "host", WORLD)
    path, answers = packed(tmp_path, QUESTIONS[name])
    with Directory(tmp_path / "host") as tree:
        assert answers == [answer(tree, QUESTIONS[name])]
    with roots.open_root(path) as tree:
        assert [answer(tree, QUESTIONS[name])] == answers


@pytest.mark.parametrize("form", ["archive", "directory"])
def test_all_answers_together_are_the_same_again(tmp_path: Path, form: str) -> None:
    write(tmp_path / "host", WORLD)
    path, answers = packed(tmp_path, *QUESTIONS.values())
    if form == "directory":
        with tarfile.open(path) as archive:
            archive.extractall(tmp_path / "unpacked", filter="data")
        path = tmp_path / "unpacked"
    with roots.open_root(path) as tree:
        assert [answer(tree, ask) for ask in QUESTIONS.values()] == answers


def test_a_capture_of_a_capture_is_the_same(tmp_path: Path) -> None:
    write(tmp_path / "host", WORLD)
    path, answers = packed(tmp_path, *QUESTIONS.values())
    again = tmp_path / "again.tar"
    with roots.open_root(path) as tree:
        recorder = Recorder(tree)
        recorder.has(PCI)
        assert [answer(recorder, ask) for ask in QUESTIONS.values()] == answers
        pack(recorder, again, "h")
    assert again.read_bytes() == path.read_bytes()


def test_nothing_is_packed_that_nobody_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "host", WORLD)
    path, _ = packed(tmp_path, QUESTIONS["excerpt"], QUESTIONS["some names"])
    assert b"geheim" not in path.read_bytes()
    with roots.open_root(path) as tree:
        assert tree.names(HOME) == ["vendor"]
        assert tree.file("etc/secret.conf") == "a = 1\nb = 2"


def test_a_device_stands_where_sysfs_has_it(tmp_path: Path) -> None:
    write(tmp_path / "host", WORLD)
    path, _ = packed(tmp_path, QUESTIONS["text"], QUESTIONS["by another way"])
    with tarfile.open(path) as archive:
        members = {member.name: member for member in archive}
    assert members[f"h/{PCI}/0000:3b:00.0"].linkname == "../../../devices/pci0000:3a/0000:3b:00.0"
    assert members[f"h/{HOME}/uevent"].isfile()
    assert members[f"h/{HOME}/net/eth0/address"].isfile()


def test_a_device_that_vanishes_is_in_the_capture_still(tmp_path: Path) -> None:
    write(tmp_path / "host", WORLD)
    with Directory(tmp_path / "host") as tree:
        recorder = Recorder(tree)
        asked = answer(recorder, QUESTIONS["text"]), answer(recorder, QUESTIONS["names"])
        (tmp_path / "host" / PCI / "0000:3b:00.0").unlink()
        pack(recorder, tmp_path / "c.tar", "h")
    with roots.open_root(tmp_path / "c.tar") as tree:
        assert (answer(tree, QUESTIONS["text"]), answer(tree, QUESTIONS["names"])) == asked


def test_what_is_there_and_reads_as_absent_does_so_again(tmp_path: Path) -> None:
    class Odd(Directory):
        def _read(self, path: str, limit: int, *, whole: bool = False, offset: int = 0) -> bytes | None:
            return None

    write(tmp_path / "host", WORLD)
    with Odd(tmp_path / "host") as odd:
        recorder = Recorder(odd)
        assert (recorder.names(HOME, "v*"), recorder.text(f"{HOME}/vendor")) == (["vendor"], None)
        recorder.has(PCI)
        pack(recorder, tmp_path / "c.tar", "h")
    with roots.open_root(tmp_path / "c.tar") as tree:
        assert (tree.names(HOME, "v*"), tree.text(f"{HOME}/vendor")) == (["vendor"], None)


def test_what_is_forgotten_is_in_no_capture(tmp_path: Path) -> None:
    write(tmp_path / "host", WORLD)
    with Directory(tmp_path / "host") as tree:
        recorder = Recorder(tree)
        for name in ("vendor", "uevent"):
            recorder.below(PCI).text(f"0000:3b:00.0/{name}")
        recorder.names(PCI)
        recorder.forget(f"{PCI}/0000:3b:00.0")
        assert {question.path for question in recorder.notes} == {PCI}


def test_children_hand_their_notes_to_the_parent(tmp_path: Path) -> None:
    write(tmp_path / "host", WORLD)
    with Directory(tmp_path / "host") as tree:
        parent, child = Recorder(tree), Recorder(tree)
        child.text("proc/stale")
        child.taken()
        for ask in QUESTIONS.values():
            answer(child, ask)
        child.keep("devagent/nvml/x.json", "{}")
        parent.take(pickle.loads(pickle.dumps(child.taken())))
        assert child.taken() == {}
        alone = Recorder(tree)
        for ask in QUESTIONS.values():
            answer(alone, ask)
        alone.keep("devagent/nvml/x.json", "{}")
        assert parent.notes == alone.notes


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"])
def test_the_same_notes_make_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / "host", WORLD)
    first = packed(tmp_path, *QUESTIONS.values(), suffix=suffix)[0].read_bytes()
    os.utime(tmp_path / "host" / HOME / "uevent", (0, 0))
    backwards = packed(tmp_path, *reversed(QUESTIONS.values()), suffix=suffix)[0]
    assert backwards.read_bytes() == first
    assert backwards.stat().st_mode & 0o777 == 0o600
    with tarfile.open(backwards) as archive:
        assert {(member.uid, member.gid, member.uname, member.gname, member.mtime) for member in archive} == {
            (0, 0, "", "", 0)
        }


@pytest.mark.parametrize("name", ["capture", "capture.zip", "capture.xz", "tar"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"must end with one of \.tar, "):
        check_name(tmp_path / name)


@pytest.mark.parametrize("where", ["none/c.tar", "/dev/full/c.tar", "/proc/c.tar"])
def test_what_cannot_be_written_is_one_line(tmp_path: Path, where: str) -> None:
    write(tmp_path / "host", WORLD)
    with Directory(tmp_path / "host") as tree, pytest.raises(DevagentError) as caught:
        pack(Recorder(tree), tmp_path / where, "h")
    assert str(caught.value).startswith(f"{tmp_path / where}: the capture cannot be written: ")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["host"]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "host", WORLD)
    path, _ = packed(tmp_path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DevagentError, match="no space left on device"):
        packed(tmp_path, *QUESTIONS.values())
    assert path.read_bytes() == before
    assert {each.name for each in tmp_path.iterdir()} == {"host", "capture.tar"}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"other": {}}', '{"file": []}', '{"file": {"a": 1}}', "[" * 100_000])
def test_a_damaged_list_of_what_was_unreadable_is_told(tmp_path: Path, text: str) -> None:
    write(tmp_path, {f"{PCI}/": "", "devagent/unreadable.json": text})
    with pytest.raises(RootError, match=r"devagent/unreadable\.json: is damaged"), roots.open_root(tmp_path):
        pass


def test_a_host_without_a_name_keeps_the_one_it_had(tmp_path: Path) -> None:
    write(tmp_path / "host", WORLD)
    path, _ = packed(tmp_path)
    with roots.open_root(path) as tree:
        assert roots.kept_name(tree) == "h"
    with roots.open_root(tmp_path / "host") as tree:
        assert roots.kept_name(tree) is None
