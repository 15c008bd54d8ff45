# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A tree of resource providers, with inventories and traits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from devagent.cli.render import words
from devagent.cli.render.printable import printable
from devagent.model.provider import Provider


def render(root: str, providers: Mapping[str, Provider]) -> str:
    """Gives the tree below the provider `root`; `providers` are all of the tree by UUID."""
    return "\n".join(map(printable, [providers[root].name, *_below(root, providers, "")]))


def _below(parent: str, providers: Mapping[str, Provider], indent: str) -> Iterator[str]:
    children = sorted((p for p in providers.values() if p.parent == parent), key=lambda provider: provider.name)
    for child, start, below in words.branches(children):
        has = [f"{name} {inventory.total}" for name, inventory in sorted(child.inventories.items())]
        yield f"{indent}{start}{'  '.join([child.name, *has])}"
        grandchildren = any(provider.parent == child.uuid for provider in providers.values())
        gap = "│ " if grandchildren else "  "
        yield from (f"{indent}{below}{gap}{line}" for line in _wrapped(sorted(child.traits), 100))
        yield from _below(child.uuid, providers, indent + below)


def _wrapped(names: list[str], width: int) -> Iterator[str]:
    line = ""
    for name in names:
        if line and len(line) + len(name) >= width:
            yield line
            line = ""
        line = f"{line} {name}" if line else name
    if line:
        yield line
