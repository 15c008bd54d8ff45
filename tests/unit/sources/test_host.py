# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The door to /sys and /proc: absent is None, odd is Unreadable, and an archive answers as a directory does."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from devagent.errors import Unreadable
from devagent.sources.captures.archive import read_archive
from devagent.sources.host import FILE_LIMIT, Directory, Tree

from ..worlds import Link, World, write

LOOP = "is a link where a file should be, or links in a loop"
Opened = Callable[[World], Tree]


@pytest.fixture(params=["directory", "archive"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """Gives a function that writes a world and opens it, as a directory and as an archive."""

    def open_world(world: World) -> Tree:
        top = write(tmp_path / "top", world)
        if request.param == "directory":
            return Directory(top)
        with tarfile.open(tmp_path / "top.tar", "w") as archive:
            archive.add(top, ".")
        return read_archive(tmp_path / "top.tar")

    return open_world


def refused(tree: Tree, path: str, read: str = "text") -> str:
    with tree, pytest.raises(Unreadable) as caught:
        getattr(tree, read)(path)
    assert caught.value.path == path
    assert str(caught.value) == f"{path}: {caught.value.reason}"
    return caught.value.reason


def test_a_file_is_read_without_its_newline(opened: Opened) -> None:
    with opened({"sys/a": " up\n"}) as tree:
        assert tree.text("sys/a") == tree.file("sys/a") == "up"


def test_what_is_absent_is_none(opened: Opened) -> None:
    with opened({"file": "x\n", "dangling": Link("nowhere")}) as tree:
        assert tree.text("no/such") is None
        assert tree.text("file/below") is None
        assert tree.text("dangling/below") is None
        assert tree.link("no/such") is None
        assert tree.link("file") is None
        assert tree.names("no/such") == []
        assert tree.names("file") == []
        assert tree.names("dangling") == []


def test_a_link_is_given_as_it_is_written(opened: Opened) -> None:
    with opened({"a": Link("../no/such/nvidia"), "b/": ""}) as tree:
        assert tree.link("a") == "../no/such/nvidia"
        assert tree.link("b/../a") == "../no/such/nvidia"
        assert tree.link("b") is None


def test_links_to_directories_are_followed(opened: Opened) -> None:
    world: World = {
        "sys/devices/pci0000:00/0000:00:01.0/class": "0x1\n",
        "sys/bus/pci/devices/0000:00:01.0": Link("../../../devices/pci0000:00/0000:00:01.0"),
        "sys/hop": Link("bus/pci/devices"),
    }
    with opened(world) as tree:
        assert tree.text("sys/bus/pci/devices/0000:00:01.0/class") == "0x1"
        assert tree.text("sys/hop/0000:00:01.0/class") == "0x1"
        assert tree.names("sys/hop/0000:00:01.0") == ["class"]
        with tree.below("sys/bus/pci/devices") as below:
            assert below.text("0000:00:01.0/class") == "0x1"
            assert below.link("0000:00:01.0") == "../../../devices/pci0000:00/0000:00:01.0"


def test_names_come_sorted(opened: Opened) -> None:
    with opened({"d/b": "", "d/a": "", "d/.c": "", "d/e/": ""}) as tree:
        assert tree.names("d") == [".c", "a", "b", "e"]
        assert tree.names() == ["d"]


def test_a_dangling_link_is_there(opened: Opened) -> None:
    with opened({"a": Link("nowhere"), "loop": Link("loop")}) as tree:
        assert tree.has("a")
        assert tree.has("loop")
        assert not tree.has("loop/below")
        assert not tree.has("b")
        assert not tree.has("a/below")


def test_a_directory_where_a_file_should_be_is_unreadable(opened: Opened) -> None:
    assert refused(opened({"a/": ""}), "a") == "is a directory"


def test_a_link_is_not_followed_to_a_file(opened: Opened) -> None:
    assert refused(opened({"secret": "x\n", "a": Link("secret")}), "a") == LOOP


@pytest.mark.parametrize(("path", "read"), [("a/file", "text"), ("a", "names"), ("a/b", "link")])
def test_a_loop_of_links_is_unreadable(opened: Opened, path: str, read: str) -> None:
    assert refused(opened({"a": Link("b"), "b": Link("a")}), path, read) == LOOP


def test_an_attribute_longer_than_a_page_is_unreadable(opened: Opened) -> None:
    tree = opened({"page": "x" * 4096, "more": "x" * 4097})
    assert tree.text("page") == "x" * 4096
    assert tree.file("more") == "x" * 4097
    assert refused(tree, "more") == "is longer than 4096 bytes"


def test_a_file_of_proc_may_be_long_but_not_endless(opened: Opened) -> None:
    tree = opened({"a": "x" * FILE_LIMIT, "b": "x" * (FILE_LIMIT + 1)})
    assert tree.file("a") == "x" * FILE_LIMIT
    assert refused(tree, "b", "file") == f"is longer than {FILE_LIMIT} bytes"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a\0b", b"\0\0a"])
def test_what_is_not_text_is_unreadable(opened: Opened, content: bytes) -> None:
    assert refused(opened({"a": content}), "a") == "is not text"


def test_a_page_of_nuls_is_empty(opened: Opened) -> None:
    with opened({"a": b"\0" * 4096, "b": b"up\n" + b"\0" * 100}) as tree:
        assert tree.text("a") == ""
        assert tree.text("b") == "up"


@pytest.mark.parametrize("path", ["file", "no", "dangling"])
def test_only_a_directory_can_be_gone_into(opened: Opened, path: str) -> None:
    assert refused(opened({"file": "x", "dangling": Link("nowhere")}), path, "below")


def test_a_fifo_blocks_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    with Directory(tmp_path) as tree:
        assert tree.text("a") == ""


def test_a_name_too_long_for_the_system_is_unreadable(tmp_path: Path) -> None:
    assert refused(Directory(tmp_path), "x" * 300) == "file name too long"


def test_a_long_file_is_read_in_small_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel allocates what a reader of /proc/sys asks for, and answers ENOMEM to megabytes."""
    asked: list[int] = []
    really = os.read

    def recording(fd: int, size: int) -> bytes:
        asked.append(size)
        return really(fd, size)

    text = "x" * 300_000
    (tmp_path / "mountinfo").write_text(text)
    (tmp_path / "attribute").write_text("1\n")
    monkeypatch.setattr(os, "read", recording)
    with Directory(tmp_path) as tree:
        assert tree.file("mountinfo") == text
        assert tree.text("attribute") == "1"
    assert max(asked) <= 1 << 16


def test_a_file_that_comes_in_dribs_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read of /proc may give less than there is."""
    really = os.read
    (tmp_path / "route").write_text("a line\n" * 100)
    monkeypatch.setattr(os, "read", lambda fd, size: really(fd, min(size, 7)))
    with Directory(tmp_path) as tree:
        assert tree.file("route") == ("a line\n" * 100).strip()
