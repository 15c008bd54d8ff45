# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A host in memory that goes wrong in one place: damaged, denied, replaced, or vanishing while it is looked at."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from devagent.errors import Unreadable
from devagent.sources.captures.archive import Archive, Entry, Folder, Link

Change = Callable[[Entry | None], Entry | None]


class BadFile(bytes):
    """A file that cannot be read."""

    reason: str


class BadFolder(dict[str, Entry]):
    """A directory that cannot be listed or opened, though a path may lead through it."""

    reason: str


@dataclass(frozen=True)
class BadLink(Link):
    """A link that cannot be read."""

    reason: str


def bad(entry: Entry | None, reason: str) -> Entry | None:
    """Gives what stands there such that it cannot be read."""
    if entry is None:
        return None
    if isinstance(entry, Link):
        return BadLink(entry.target, reason)
    found = BadFolder(entry) if isinstance(entry, dict) else BadFile(entry)
    found.reason = reason
    return found


CHANGES: dict[str, Change] = {
    "missing": lambda _: None,
    "empty": lambda _: b"",
    "blank": lambda _: b"\n",
    "zeros": lambda _: bytes(64),
    "binary": lambda _: bytes(range(256)),
    "negative": lambda _: b"-1\n",
    "number": lambda _: b"99999999999\n",
    "text": lambda _: b"0xzz:\x1b[2J ../.. %s{}\n",
    "many lines": lambda _: b"a b c d e f g h i j\n" * 30,
    "a page": lambda _: b"x" * 4096,
    "huge": lambda _: b"1" * (1 << 17),
    "denied": lambda entry: bad(entry, "permission denied"),
    "broken": lambda entry: bad(entry, "input/output error"),
    "timed out": lambda entry: bad(entry, "connection timed out"),
    "directory": lambda _: {"inside": b"x\n"},
    "empty directory": lambda _: {},
    "dangling link": lambda _: Link("../nowhere/at/all"),
    "link to itself": lambda _: Link("."),
    "link to root": lambda _: Link("/"),
    "strange link": lambda _: Link("../../x/-1"),
}


@dataclass
class Watch:
    """What happens while a damaged host is looked at: errors that were raised, and when it changes."""

    raised: list[tuple[str, str]] = field(default_factory=list)
    calls: int = 0
    at: int = -1
    then: Callable[[], None] = lambda: None

    def call(self) -> None:
        """Counts one question, and lets the change happen when its time has come."""
        if self.calls == self.at:
            self.then()
        self.calls += 1

    def fail(self, path: str, reason: str) -> Unreadable:
        """Notes an error and gives it."""
        self.raised.append((path, reason))
        return Unreadable(path, reason)


class Damaged(Archive):
    """A host in memory, in which some entries are bad."""

    def __init__(self, parents: list[Folder], watch: Watch) -> None:
        super().__init__(parents)
        self.watch = watch

    def below(self, path: str) -> Damaged:
        self.watch.call()
        parents = self._resolve(path)[0]
        if not parents:
            raise self.watch.fail(path, "is not a directory")
        if isinstance(parents[-1], BadFolder):
            raise self.watch.fail(path, parents[-1].reason)
        return Damaged(parents, self.watch)

    def link(self, path: str) -> str | None:
        self.watch.call()
        entry = self._resolve(path, follow=False)[1]
        if isinstance(entry, BadLink):
            raise self.watch.fail(path, entry.reason)
        return entry.target if isinstance(entry, Link) else None

    def has(self, path: str) -> bool:
        self.watch.call()
        return super().has(path)

    def _list(self, path: str) -> list[str]:
        self.watch.call()
        entry = self._resolve(path)[1]
        if isinstance(entry, BadFolder):
            raise self.watch.fail(path, entry.reason)
        return list(entry) if isinstance(entry, dict) else []

    def _read(self, path: str, limit: int, *, whole: bool = False, offset: int = 0) -> bytes | None:
        self.watch.call()
        entry = self._resolve(path, follow=False)[1]
        if isinstance(entry, BadFile):
            raise self.watch.fail(path, entry.reason)
        try:
            return super()._read(path, limit, whole=whole, offset=offset)
        except Unreadable as error:
            raise self.watch.fail(path, error.reason) from None


def load(path: Path) -> Folder:
    """Reads a directory into memory."""
    folder: Folder = {}
    for entry in os.scandir(path):
        if entry.is_symlink():
            folder[entry.name] = Link(str(Path(entry.path).readlink()))
        elif entry.is_dir():
            folder[entry.name] = load(Path(entry.path))
        else:
            folder[entry.name] = Path(entry.path).read_bytes()
    return folder


def paths(folder: Folder, start: str = "") -> Iterator[str]:
    """Gives all that stands in a directory, and below."""
    for name, entry in sorted(folder.items()):
        yield start + name
        if isinstance(entry, dict):
            yield from paths(entry, f"{start}{name}/")


def changed(top: Folder, path: str, change: Change) -> Folder:
    """Gives a copy of `top` in which the entry at `path` is another; what is not on the way is shared."""
    name, _, rest = path.partition("/")
    new = copied(top)
    entry = top.get(name)
    if rest:
        if isinstance(entry, dict):
            new[name] = changed(entry, rest, change)
        return new
    made = change(entry)
    if made is None:
        new.pop(name, None)
    else:
        new[name] = made
    return new


def copied(folder: Folder) -> Folder:
    """Copies a directory, not what is in it."""
    if isinstance(folder, BadFolder):
        new = BadFolder(folder)
        new.reason = folder.reason
        return new
    return dict(folder)
