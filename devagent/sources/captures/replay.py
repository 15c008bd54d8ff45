# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Gives again what could not be read when a capture was made, for the same reasons.

devagent/unreadable.json holds the reasons by what was asked; null: the file was there and read as absent.

    {"file": {"sys/bus/pci/devices/0000:3b:00.0/vpd": "connection timed out"}, "names": {...}, ...}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from devagent.errors import Unreadable
from devagent.sources.captures.recorder import Kind, plain
from devagent.sources.host import Tree

UNREADABLE: Final = "devagent/unreadable.json"
_KINDS: Final = frozenset(kind.value for kind in (Kind.FILE, Kind.LINK, Kind.NAMES, Kind.FOLDER))

Reasons = Mapping[str, Mapping[str, str | None]]


def replayed(tree: Tree) -> Tree:
    """Gives the tree of a capture with the failures that it recorded; any other tree as it is.

    Raises Unreadable if they are damaged.
    """
    text = tree.file(UNREADABLE)
    return tree if text is None else Replay(tree, _reasons(text))


def at(path: str, offset: int) -> str:
    """Names the place in a file where something was read."""
    return f"{path}@{offset}" if offset else path


class Replay(Tree):
    """A tree of a capture, in which some things cannot be read."""

    def __init__(self, tree: Tree, reasons: Reasons, prefix: str = "") -> None:
        self._tree, self._reasons, self._prefix = tree, reasons, prefix

    def close(self) -> None:
        """Gives back what the tree holds."""
        self._tree.close()

    def below(self, path: str) -> Replay:
        """Opens the directory `path`. Raises Unreadable if it is none."""
        self._check(Kind.FOLDER, path)
        return Replay(self._tree.below(path), self._reasons, f"{plain(self._prefix + path)}/")

    def link(self, path: str) -> str | None:
        """Gives a symbolic link's target as it is written; None if it is absent or no link. Raises Unreadable."""
        self._check(Kind.LINK, path)
        return self._tree.link(path)

    def has(self, path: str) -> bool:
        """Tells whether `path` exists, a dangling link included."""
        return self._tree.has(path)

    def _list(self, path: str) -> list[str]:
        self._check(Kind.NAMES, path)
        return self._tree._list(path)

    def _read(self, path: str, limit: int, *, whole: bool = False, offset: int = 0) -> bytes | None:
        if self._check(Kind.FILE, path, offset):
            return None
        return self._tree._read(path, limit, whole=whole, offset=offset)

    def _check(self, kind: Kind, path: str, offset: int = 0) -> bool:
        """Tells whether it is to read as absent. Raises Unreadable for the recorded reason."""
        reasons = self._reasons.get(kind.value, {})
        where = at(plain(self._prefix + path), offset)
        if where not in reasons:
            return False
        reason = reasons[where]
        if reason is not None:
            raise Unreadable(path, reason)
        return True


def _reasons(text: str) -> Reasons:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict) and body.keys() <= _KINDS and all(map(_is_table, body.values())):
        return body
    raise Unreadable(UNREADABLE, "is damaged")


def _is_table(table: object) -> bool:
    return isinstance(table, dict) and all(reason is None or isinstance(reason, str) for reason in table.values())
