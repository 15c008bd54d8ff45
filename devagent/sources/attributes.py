# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads the attributes that a list of patterns names, such as `net/*/address`, below one directory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from devagent.errors import Unreadable
from devagent.sources.host import Tree

Failed = Callable[[str, Unreadable], None]
"""Is told the name (a path or pattern below the directory) of what could not be read, and why."""

# More files than this for one pattern is no device but a broken tree. A GPU with 64 VFs of 40 vGPU types has 2,560.
MAX_MATCHES: Final = 4096


def attributes(tree: Tree, folder: str, patterns: Iterable[str], failed: Failed) -> dict[str, str]:
    """Gives the texts of what is there by its path below `folder`; what cannot be read is told to `failed`."""
    found: dict[str, str] = {}
    for pattern in sorted(patterns):
        for count, path in enumerate(_expand(tree, folder, "", pattern.split("/"), failed)):
            if count == MAX_MATCHES:
                failed(pattern, Unreadable(pattern, f"matches more than {MAX_MATCHES} files; the rest left out"))
                break
            try:
                text = tree.text(f"{folder}/{path}")
            except Unreadable as error:
                failed(path, error)
                continue
            if text is not None:
                found[path] = text
    return found


def _expand(tree: Tree, folder: str, start: str, parts: list[str], failed: Failed) -> Iterator[str]:
    head, rest = parts[0], parts[1:]
    names = [head]
    if "*" in head:
        try:
            names = tree.names(f"{folder}/{start}" if start else folder, head)
        except Unreadable as error:
            failed(start or head, error)
            return
    for name in names:
        path = f"{start}/{name}" if start else name
        if rest:
            yield from _expand(tree, folder, path, rest, failed)
        else:
            yield path
