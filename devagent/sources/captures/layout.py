# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Lays out what a Recorder noted as the directories, files and links that give the same answers again.

A path leads through links: /sys/bus/pci/devices/ADDRESS is one, and so may be /proc/net or /lib. What was
read through them is laid where they lead, so that a file that was read by two paths stands there once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from devagent.errors import Unreadable
from devagent.sources.captures.archive import MAX_LINKS, Folder, Link
from devagent.sources.captures.recorder import Failure, Kind, Notes, Question
from devagent.sources.captures.replay import UNREADABLE, at
from devagent.sources.host import Tree

# This process's own number is nothing that a capture should depend on.
_NO_LINKS: Final = frozenset({"proc/self", "proc/thread-self"})


def lay_out(notes: Notes, tree: Tree) -> Folder:
    """Gives the top directory of a capture; `tree` is asked for the links on the way only."""
    layout = _Layout(notes, tree)
    answers = {question: answer for question, answer in notes.items() if not isinstance(answer, Failure)}
    for question, target in sorted(_of(answers, Kind.LINK)):
        if target is not None:
            layout.put(question.path, Link(target))
    for path, data in _files(answers).items():
        layout.put(path, data)
    for question, _ in _of(answers, Kind.FOLDER):
        layout.folder(question.path)
    layout.list_names(answers)
    for question, data in _of(answers, Kind.KEPT):
        layout.put(question.path, data)
    reasons = _reasons(notes, layout)
    if reasons:
        layout.put(UNREADABLE, (json.dumps(reasons, indent=1, sort_keys=True) + "\n").encode())
    return layout.top


def _of(answers: Notes, *kinds: Kind) -> Iterator[tuple[Question, Any]]:
    return ((question, answer) for question, answer in answers.items() if question.kind in kinds)


def _files(answers: Notes) -> dict[str, bytes]:
    """Puts the pieces of each file together, zeros where none was read."""
    files: dict[str, bytearray] = {}
    for question, data in _of(answers, Kind.FILE):
        if data is not None:
            file, offset = files.setdefault(question.path, bytearray()), int(question.detail)
            if data and len(file) < offset:
                file.extend(bytes(offset - len(file)))
            file[offset : offset + len(data)] = data
    return {path: bytes(file) for path, file in files.items()}


def _reasons(notes: Notes, layout: _Layout) -> dict[str, dict[str, str | None]]:
    reasons: dict[str, dict[str, str | None]] = {}
    for question, answer in notes.items():
        offset = int(question.detail) if question.kind is Kind.FILE else 0
        if isinstance(answer, Failure):
            reasons.setdefault(question.kind.value, {})[at(question.path, offset)] = answer.reason
        elif question.kind is Kind.FILE and answer is None and layout.has(question.path):
            # Some attributes exist and answer ENOENT when read.
            reasons.setdefault(question.kind.value, {})[at(question.path, offset)] = None
    return reasons


class _Layout:
    """The directories so far."""

    def __init__(self, notes: Notes, tree: Tree) -> None:
        self.top: Folder = {}
        self._tree = tree
        self._links = {
            question.path: answer
            for question, answer in notes.items()
            if question.kind is Kind.LINK and not isinstance(answer, Failure)
        }
        self._found: dict[str, Folder] = {}

    def put(self, path: str, entry: bytes | Link) -> None:
        """Puts a file or link where `path` leads, unless something stands there."""
        parent, _, name = path.rpartition("/")
        folder = self.folder(parent)
        if folder is not None and name:
            folder.setdefault(name, entry)

    def has(self, path: str) -> bool:
        """Tells whether something stands at `path`."""
        parent, _, name = path.rpartition("/")
        folder = self.folder(parent, make=False)
        return folder is not None and name in folder

    def list_names(self, answers: Notes) -> None:
        """Lets what was seen and never read exist; last of all, when it is known what else is no empty file."""
        listed = [(self.folder(question.path), names) for question, names in _of(answers, Kind.NAMES) if names]
        for question, there in _of(answers, Kind.HAS):
            parent, _, name = question.path.rpartition("/")
            if there and name:
                listed.append((self.folder(parent), [name]))
        for folder, names in listed:
            if folder is not None:
                folder.update({name: folder.get(name, b"") for name in names})

    def folder(self, path: str, *, make: bool = True) -> Folder | None:
        """Finds or makes the directory to which `path` leads; None if there is none or can be none."""
        found = self._found.get(path)
        if found is None:
            found = self._walk(path, make)
            if found is not None:
                self._found[path] = found
        return found

    def _walk(self, path: str, make: bool) -> Folder | None:
        names: list[str] = []
        folders, steps, links = [self.top], path.split("/")[::-1], 0
        while steps:
            step = steps.pop()
            if step == "..":
                del names[-1:]
                del folders[len(names) + 1 :]
            if step in ("", ".", ".."):
                continue
            if step not in folders[-1]:
                if not make:
                    return None
                folders[-1][step] = self._new([*names, step])
            entry = folders[-1][step]
            if isinstance(entry, Link):
                links += 1
                if links > MAX_LINKS:
                    return None
                if entry.target.startswith("/"):
                    names, folders = [], folders[:1]
                steps += entry.target.split("/")[::-1]
            elif isinstance(entry, dict):
                names.append(step)
                folders.append(entry)
            else:
                return None
        return folders[-1]

    def _new(self, names: list[str]) -> Folder | Link:
        """Gives what stands on the way: a link if it is one, else an empty directory."""
        path = "/".join(names)
        if path in _NO_LINKS:
            return {}
        target = self._links.get(path)
        if path not in self._links:
            with suppress(Unreadable):
                target = self._tree.link(path)
            if target is not None and target.startswith("/"):
                # So that it stays in the capture where that is unpacked, too.
                target = "../" * (len(names) - 1) + target.lstrip("/")
        return {} if target is None else Link(target)
