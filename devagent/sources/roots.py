# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Opens what `--root` names: the machine, a directory, or an archive of a captured sysfs tree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from devagent.cause import system_words
from devagent.errors import RootError, Unreadable
from devagent.sources import pci
from devagent.sources.host import Directory, Tree

MACHINE: Final = Path("/")
NAME: Final = "devagent/name"
"""The file of a capture that says what the host was called in Placement."""
_SEARCH_DEPTH: Final = 3


@contextmanager
def open_root(root: Path) -> Iterator[Tree]:
    """Opens the tree of `root` for the time of a `with`.

    Raises RootError if there is none: no such path, no archive, no sysfs inside, or a damaged capture.
    """
    if root == MACHINE:
        with Directory(MACHINE, machine=True) as tree:
            if not tree.has("sys/devices"):
                raise RootError("/sys is not mounted: nothing can be discovered (mount -t sysfs sysfs /sys)")
            yield tree
    else:
        with _top(root) as top, top.below(_find(top, root)) as tree:
            yield _replayed(tree, root)


def kept_name(tree: Tree) -> str | None:
    """Gives what the host was called when it was captured by devagent; None for any other tree."""
    try:
        return tree.file(NAME) or None
    except Unreadable:
        return None


def name_of(root: Path) -> str:
    """Gives a name for a host that does not say its own: the archive's or directory's, without suffix."""
    from devagent.sources.captures.archive import SUFFIXES

    name = root.resolve().name
    suffix = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")
    return name.removesuffix(suffix)


def _replayed(tree: Tree, root: Path) -> Tree:
    from devagent.sources.captures.replay import replayed

    try:
        return replayed(tree)
    except Unreadable as error:
        raise RootError(f"{root}: {error}") from None


def _top(root: Path) -> Tree:
    try:
        if root.is_dir():
            return Directory(root)
        if root.is_file():
            from devagent.sources.captures.archive import read_archive

            return read_archive(root)
    except Unreadable as error:
        raise RootError(str(error)) from None
    except OSError as error:
        raise RootError(f"{root}: {system_words(error)}") from None
    raise RootError(f"{root}: no such directory or archive")


def _find(top: Tree, root: Path) -> str:
    """Finds the directory that holds sys/bus/pci/devices, whatever the folders above it are called."""
    candidates = ["."]
    for _ in range(_SEARCH_DEPTH + 1):
        for candidate in candidates:
            if top.has(f"{candidate}/{pci.DEVICES}"):
                return candidate
        candidates = [child for candidate in candidates for child in _folders(top, candidate)]
    raise RootError(f"{root}: not a sysfs tree: no {pci.DEVICES} in it or in up to {_SEARCH_DEPTH} folders below")


def _folders(top: Tree, path: str) -> list[str]:
    try:
        children = [f"{path}/{name}" for name in top.names(path)]
    except Unreadable:
        return []
    return [child for child in children if top.link(child) is None]
