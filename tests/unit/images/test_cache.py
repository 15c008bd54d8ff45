# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What stays in the cache, what goes, and what a full or failing disk does."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from typing import Any

import pytest

from devagent.images.refused import NoImage
from devagent.model.preparation import RefusalKind

from .conftest import RAW, Room, put

MIB = 1 << 20


def image(letter: str) -> bytes:
    return letter.encode() * MIB


def fill(room: Room, *letters: str) -> dict[str, str]:
    """Uses one image after the other; gives their digests."""
    return {letter: _used(room, letter) for letter in letters}


def _used(room: Room, letter: str) -> str:
    digest = put(room, letter, image(letter))
    assert room.get(letter)[0].digest == digest
    time.sleep(0.01)  # for another time of use, on a file system that counts jiffies
    return digest


def test_what_was_used_longest_ago_goes_first(room: Room) -> None:
    room.mib = 3
    digests = fill(room, "a", "b", "c", "a", "d")
    assert room.cached() == {digests[each] for each in "acd"}


def test_what_is_no_file_of_ours_is_in_nobodys_way(room: Room) -> None:
    """A link to nowhere made the whole folder unusable."""
    fill(room, "a")
    (room.top / "images" / ("a" * 64)).symlink_to("/nowhere")
    (room.top / "images" / ("b" * 64)).mkdir()
    room.mib = 1
    assert {*fill(room, "b").values()} <= room.cached()


def test_what_is_needed_stays_whoever_else_comes(room: Room) -> None:
    room.mib = 2
    digests = fill(room, "a", "b")
    room.needed = frozenset({digests["a"]})
    digests |= fill(room, "c", "d")
    assert room.cached() == {digests["a"], digests["d"]}
    room.needed = frozenset({digests["a"], digests["d"]})
    put(room, "e", image("e"))
    refusal = room.refused("e")
    assert (refusal.kind, "raise [images] cache_size" in refusal.reason) == (RefusalKind.RETRY, True)
    assert room.cached() == {digests["a"], digests["d"]}


def test_while_nobody_can_tell_what_is_needed_nothing_goes(room: Room) -> None:
    room.mib = 1
    digests = fill(room, "a")
    room.needed = None
    put(room, "b", image("b"))
    assert room.refused("b").kind is RefusalKind.RETRY
    assert room.cached() == set(digests.values())


def test_what_a_request_holds_stays_until_it_is_in_the_journal(room: Room) -> None:
    room.mib = 1
    for letter in "ab":
        put(room, letter, image(letter))
    with room.library.holding(["a"], time.monotonic() + 30, threading.Event(), lambda _: None):
        assert room.refused("b").kind is RefusalKind.RETRY
    assert room.get("b")


def test_what_comes_into_the_journal_just_now_stays(room: Room) -> None:
    """Whoever asked the journal before does not know it, and nobody holds it any more a moment later."""
    room.mib = 1
    digests = fill(room, "a")
    put(room, "b", image("b"))
    held = room.library.holding(["a"], time.monotonic() + 30, threading.Event(), lambda _: None)
    held.__enter__()
    letting_go = threading.Thread(target=held.__exit__, args=(None, None, None))

    def asked() -> frozenset[str]:
        letting_go.start()
        letting_go.join(0.1)
        return frozenset()

    room.cache._needed = asked
    assert room.refused("b").kind is RefusalKind.RETRY
    letting_go.join()
    assert room.cached() == set(digests.values())


def test_what_is_damaged_in_the_cache_is_fetched_again(room: Room) -> None:
    digest = put(room, "a", RAW)
    room.get("a")
    room.cache.path(digest).write_bytes(b"y" + RAW[1:])
    assert not room.cache.has_whole(digest)
    assert room.get("a")[0].digest == digest
    assert room.cache.path(digest).read_bytes() == RAW


def test_an_image_on_its_way_when_the_agent_died_is_removed_at_the_next_start(room: Room) -> None:
    digest = put(room, "a", RAW)
    room.get("a")
    (room.top / "images" / ".new-0badcafe").write_bytes(b"half")
    room.start()
    assert room.cached() == {digest}
    assert room.cache.has_whole(digest)


@pytest.mark.parametrize("failing", ["fsync", "replace", "write"])
def test_a_full_disk_is_said_and_leaves_nothing(room: Room, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    put(room, "a", RAW)
    with monkeypatch.context() as patch:
        if failing == "fsync":
            patch.setattr(os, "fsync", full)
        elif failing == "replace":
            patch.setattr("pathlib.Path.replace", full)
        else:
            patch.setattr("devagent.images.download.Download._copy", full)
        refusal = room.refused("a")
    assert refusal.kind is RefusalKind.RETRY
    assert refusal.reason.endswith("no space left on device: free some space")
    assert room.cached() == set()
    assert room.get("a")


def test_a_folder_that_cannot_be_made_is_said(room: Room) -> None:
    (room.top / "images").write_text("a file")
    put(room, "a", RAW)
    refusal = room.refused("a")
    assert (refusal.kind, str(room.top / "images") in refusal.reason) == (RefusalKind.RETRY, True)


def test_what_the_policy_names_by_its_digest_is_found_under_any_name(room: Room) -> None:
    digest = put(room, "wipe-v3.gbs", RAW)
    room.library.keep(digest, time.monotonic() + 30)
    assert room.cached() == {digest}
    (room.directory / "wipe-v3.gbs").unlink()
    room.library.keep(digest, time.monotonic() + 30)
    absent = hashlib.sha256(b"another").hexdigest()
    with pytest.raises(NoImage, match=f"no image in .*bitstreams has the sha256 {absent}"):
        room.library.keep(absent, time.monotonic() + 30)
