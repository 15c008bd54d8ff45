# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Notes all that is read of a tree, so that it can be packed into a capture; see `packing`.

A note is a question and its answer: a file's bytes, a link's target, the names in a directory, or why
there was no answer. What nobody asked for is in no capture.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, TypeVar, cast

from devagent.errors import Unreadable
from devagent.sources.host import Excerpt, Tree

_Answer = TypeVar("_Answer")


class Kind(Enum):
    """What was asked."""

    FILE = "file"
    """A file's bytes at the offset that is the detail; None if it is absent."""
    LINK = "link"
    """A link's target; None if there is no link."""
    NAMES = "names"
    """The names in a directory that fit the pattern that is the detail."""
    HAS = "has"
    """Whether it exists."""
    FOLDER = "folder"
    """A directory was opened; the answer is None."""
    KEPT = "kept"
    """The bytes of a file that is none of the host."""


class Question(NamedTuple):
    """What was asked; `path` is one from the top of the tree that is recorded."""

    kind: Kind
    path: str
    detail: str | int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """The answer was that it cannot be read."""

    reason: str


Notes = dict[Question, Any]


class Recorder(Tree):
    """A tree that gives what another gives, and notes it; those that it opens `below` share its notes.

    A child process takes its notes with `taken`, and the process that makes the capture adds them with `take`.
    """

    def __init__(self, tree: Tree, prefix: str = "", notes: Notes | None = None) -> None:
        self.machine = tree.machine
        self.notes: Notes = {} if notes is None else notes
        self._tree, self._prefix = tree, prefix

    @property
    def unrecorded(self) -> Tree:
        """The tree itself, for searching where most of what is read is nobody's business."""
        return self._tree

    def close(self) -> None:
        """Gives back what the tree holds; the notes stay."""
        self._tree.close()

    def below(self, path: str) -> Recorder:
        """Opens the directory `path`. Raises Unreadable if it is none."""
        question = self._question(Kind.FOLDER, path)
        try:
            tree = self._tree.below(path)
        except Unreadable as error:
            self.notes[question] = Failure(error.reason)
            raise
        self.notes[question] = None
        return Recorder(tree, f"{question.path}/", self.notes)

    def link(self, path: str) -> str | None:
        """Gives a symbolic link's target as it is written; None if it is absent or no link. Raises Unreadable."""
        question = self._question(Kind.LINK, path)
        try:
            return self._note(question, self._tree.link(path))
        except Unreadable as error:
            self.notes[question] = Failure(error.reason)
            raise

    def has(self, path: str) -> bool:
        """Tells whether `path` exists, a dangling link included."""
        return self._note(self._question(Kind.HAS, path), self._tree.has(path))

    def names(self, path: str = ".", pattern: str = "*") -> list[str]:
        """Gives the sorted names in the directory `path` that fit a shell pattern; none if it is no directory.

        Raises Unreadable.
        """
        question = self._question(Kind.NAMES, path, pattern)
        try:
            return self._note(question, self._tree.names(path, pattern))
        except Unreadable as error:
            self.notes[question] = Failure(error.reason)
            raise

    def file(self, path: str, excerpt: Excerpt | None = None) -> str | None:
        """Reads a file that may be longer than a page; only what `excerpt` leaves of it is noted. Raises Unreadable."""
        if excerpt is None:
            return super().file(path)
        question = self._question(Kind.FILE, path)
        try:
            text = self._tree.file(path, excerpt)
        except Unreadable as error:
            self.notes[question] = Failure(error.reason)
            raise
        self.notes[question] = None if text is None else text.encode()
        return text

    def stamp(self, path: str) -> int | None:
        """Gives a number that another file at `path` would not have; nothing of it is noted."""
        return self._tree.stamp(path)

    def forget(self, path: str) -> None:
        """Drops the notes of what was read below the directory `path`."""
        top = f"{plain(self._prefix + path)}/"
        for question in [each for each in self.notes if f"{each.path}/".startswith(top)]:
            del self.notes[question]

    def keep(self, path: str, text: str) -> None:
        """Puts a file into the capture that is no file of the host; its path is one from the top of the capture."""
        self.notes[Question(Kind.KEPT, path)] = text.encode()

    def taken(self) -> object:
        """Gives what was noted since the last call."""
        notes = self.notes.copy()
        self.notes.clear()
        return notes

    def take(self, taken: object) -> None:
        """Adds what a child process noted."""
        self.notes.update(cast("Notes", taken))

    def _list(self, path: str) -> list[str]:
        return self.names(path)

    def _read(self, path: str, limit: int, *, whole: bool = False, offset: int = 0) -> bytes | None:
        question = self._question(Kind.FILE, path, offset)
        try:
            data = self._tree._read(path, limit, whole=whole, offset=offset)
        except Unreadable as error:
            self.notes[question] = Failure(error.reason)
            raise
        before = self.notes.get(question)
        if not (data and isinstance(before, bytes) and len(before) > len(data)):
            self.notes[question] = data
        return data

    def _note(self, question: Question, answer: _Answer) -> _Answer:
        self.notes[question] = answer
        return answer

    def _question(self, kind: Kind, path: str, detail: str | int = 0) -> Question:
        return Question(kind, plain(self._prefix + path), detail)


def plain(path: str) -> str:
    """Gives a path without steps that lead nowhere: `a//./b` is `a/b`, the top is empty."""
    if "//" not in path and "./" not in path and path[-1:] not in ("/", "."):
        return path
    return "/".join(step for step in path.split("/") if step not in ("", "."))
