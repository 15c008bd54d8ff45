# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A Glance, a directory of images, and a library that takes from both."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from devagent.images import download
from devagent.images.cache import Cache
from devagent.images.directory import Directory
from devagent.images.index import Index
from devagent.images.library import Image, Library, Sources
from devagent.images.refused import NoImage
from devagent.images.signature import SigningKey
from devagent.model.preparation import Progress, Refusal

from .glances import PATIENCE_S, FakeGlance, serving


@dataclass
class Room:
    """A library in a folder, as one start of the agent has it."""

    top: Path
    glance: FakeGlance | None = None
    key: SigningKey | None = None
    mib: int = 64
    needed: frozenset[str] | None = frozenset()
    told: list[Progress | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Begins anew, with what is on the disk."""
        self.cache = Cache(self.top / "images", lambda: self.needed, lambda: self.mib)
        self.library = Library(self.cache, Index(self.top / "images.json"), self._sources)

    @property
    def directory(self) -> Path:
        """Where the operator puts images."""
        path = self.top / "bitstreams"
        path.mkdir(exist_ok=True)
        return path

    def _sources(self) -> Sources:
        return Sources(Directory(self.directory), self.glance.client() if self.glance else None, self.key)

    def get(self, *names: str, seconds: float = PATIENCE_S, cancelled: threading.Event | None = None) -> list[Image]:
        """Gives images by name."""
        until = time.monotonic() + seconds
        with self.library.holding(names, until, cancelled or threading.Event(), self.told.append) as images:
            return [images[name] for name in names]

    def refused(self, name: str, seconds: float = PATIENCE_S) -> Refusal:
        """Gives why there is no such image."""
        with pytest.raises(NoImage) as caught:
            self.get(name, seconds=seconds)
        assert "\n" not in caught.value.refusal.reason
        return caught.value.refusal

    def cached(self) -> set[str]:
        """Gives the names of all files in the cache, also those that should not be there."""
        folder = self.top / "images"
        return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_PAUSE_S", 0.0)


@pytest.fixture
def glance() -> Iterator[FakeGlance]:
    with ExitStack() as stack:
        yield stack.enter_context(serving())


@pytest.fixture
def room(tmp_path: Path) -> Room:
    """Gives a library without Glance."""
    return Room(tmp_path)


@pytest.fixture
def cloud(tmp_path: Path, glance: FakeGlance) -> Room:
    """Gives a library with Glance."""
    return Room(tmp_path, glance)


RAW = b"\x5a" * 3000


def put(room: Room, name: str, data: bytes, checksum: str | None = None) -> str:
    """Puts an image there with its checksum, or another one; gives its sha256."""
    (room.directory / name).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    (room.directory / f"{name}.sha256").write_text(f"{checksum or digest}  {name}\n")
    return digest
