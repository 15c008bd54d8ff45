# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What an operator has put into the directory, and what is no image there."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from devagent.images.directory import Directory
from devagent.images.offer import LARGEST
from devagent.model.preparation import RefusalKind

from ..model.images import FUNCTION, INTERFACE, gbs, xclbin
from .conftest import RAW, Room, put


@pytest.mark.parametrize("data", [gbs(), xclbin()])
def test_an_image_with_its_checksum_is_cached_under_its_sha256_and_read(room: Room, data: bytes) -> None:
    digest = put(room, "loopback", data)
    (image,) = room.get("loopback")
    assert (image.digest, image.header.interface_id, image.header.function_id) == (digest, INTERFACE, FUNCTION)
    path = room.cache.path(digest)
    assert path.read_bytes() == data
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o644, 0o755)
    assert room.cached() == {digest}


@pytest.mark.parametrize("command", [["sha256sum", "a.rbf"], ["sha256sum", "-b", "a.rbf"], ["sha256sum", "./a.rbf"]])
def test_the_checksum_is_taken_as_sha256sum_writes_it(room: Room, command: list[str]) -> None:
    (room.directory / "a.rbf").write_bytes(RAW)
    said = subprocess.run(command, cwd=room.directory, capture_output=True, check=True).stdout
    (room.directory / "a.rbf.sha256").write_bytes(said)
    assert room.get("a.rbf")[0].digest == hashlib.sha256(RAW).hexdigest()


@pytest.mark.parametrize(
    "text", ["", "5f70\n", "0" * 64 + "  other\n", "0" * 64 + "\n", "G" * 64 + "  a\n", "\xff" * 99, "0" * 64 + " a\n"]
)
def test_without_its_checksum_an_image_is_refused_with_what_makes_one(room: Room, text: str) -> None:
    put(room, "a", RAW)
    (room.directory / "a.sha256").write_text(text)
    refusal = room.refused("a")
    assert (refusal.kind, "sha256sum a > a.sha256" in refusal.reason) == (RefusalKind.PERMANENT, True)
    (room.directory / "a.sha256").unlink()
    assert room.refused("a") == refusal


def test_what_does_not_match_its_checksum_is_refused_and_does_not_stay(room: Room) -> None:
    put(room, "a", RAW, "0" * 64)
    refusal = room.refused("a")
    assert (refusal.kind, "is damaged: its sha256 is" in refusal.reason) == (RefusalKind.PERMANENT, True)
    assert room.cached() == set()


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "..", ".", "", ".hidden", "a/b", "a\0b", "a\n", "a.sha256", "a.sig", "x" * 300]
)
def test_a_name_that_is_none_leads_to_no_file(room: Room, name: str, tmp_path: Path) -> None:
    put(room, "a", RAW)
    (tmp_path / "secret").write_bytes(RAW)
    refusal = room.refused(name)
    assert (refusal.kind, "no image is called" in refusal.reason) == (RefusalKind.INVALID, True)


def test_no_link_is_followed_and_no_pipe_waited_for(room: Room, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(RAW)
    digest = hashlib.sha256(RAW).hexdigest()
    (room.directory / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(room.directory / "pipe")
    (room.directory / "folder").mkdir()
    for name in ("link", "pipe", "folder"):
        (room.directory / f"{name}.sha256").write_text(f"{digest}  {name}\n")
        assert room.refused(name).kind is RefusalKind.PERMANENT
    assert room.cached() == set()


def test_what_is_too_big_is_refused_before_it_is_read(room: Room) -> None:
    put(room, "a", b"")
    with (room.directory / "a").open("r+b") as file:
        file.truncate(LARGEST + 1)
    assert "an image has" in room.refused("a").reason
    with (room.directory / "a").open("r+b") as file:
        file.truncate(LARGEST)
    assert "[images] cache_size" in room.refused("a").reason


def test_a_damaged_header_is_the_image_s_mistake(room: Room) -> None:
    put(room, "a", gbs()[:25])
    refusal = room.refused("a")
    assert (refusal.kind, refusal.reason) == (
        RefusalKind.INVALID,
        "bitstream: 'a': it is a GBS that ends before its data begins",
    )


def test_an_image_that_changed_is_another_one(room: Room) -> None:
    first = put(room, "a", RAW)
    assert room.get("a")[0].digest == first
    second = put(room, "a", RAW + b"x")
    assert room.get("a")[0].digest == second
    assert room.cached() == {first, second}


def test_a_directory_that_is_not_there_has_no_images(tmp_path: Path) -> None:
    nowhere = Directory(tmp_path / "nowhere")
    assert (nowhere.find("a"), nowhere.by_digest("0" * 64)) == (None, None)
