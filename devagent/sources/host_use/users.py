# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Finds what the host itself uses: the default route's NICs, ports of bonds and bridges, disks in use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from devagent.errors import Unreadable
from devagent.model.snapshot import Problem
from devagent.sources.host import Tree
from devagent.sources.host_use import disks, mounts, nics

Uses = Iterator[tuple[str, str]]
"""The addresses of functions, each with what it is used for; Unreadable may end it."""

Search = Callable[[Tree], Iterator[Uses]]
"""Gives the uses one by one, so that one that cannot be followed hides no other."""

_SEARCHES: Final[tuple[Search, ...]] = (
    nics.default_ipv4,
    nics.default_ipv6,
    nics.bonds,
    nics.ports,
    mounts.mounts,
    mounts.swaps,
    disks.btrfs,
    disks.holders,
)


def host_use(host: Tree, problems: list[Problem]) -> tuple[dict[str, str], bool]:
    """Gives, by PCI address, what the host uses a function for, in words for an operator; and whether that is all.

    It is not all if something that would tell could not be read.
    """
    uses: dict[str, str] = {}
    known = _is_whole(host, problems)
    for search in _SEARCHES:
        for found in _patiently(search, host):
            try:
                if isinstance(found, Unreadable):
                    raise found
                for address, use in found:
                    uses.setdefault(address, use)
            except Unreadable as error:
                problems.append(Problem("users", None, str(error)))
                known = False
    return uses, known


def _is_whole(host: Tree, problems: list[Problem]) -> bool:
    """Tells whether what the routes and mounts name can be looked up: sysfs without any interface or disk is torn."""
    count = len(problems)
    for place, is_used in ((nics.NET, nics.has_default_route), (disks.BLOCK, mounts.has_disk)):
        try:
            empty = not host.names(place)
        except Unreadable as error:
            problems.append(Problem("users", None, str(error)))
            continue
        if empty and _is(is_used, host):
            problems.append(Problem("users", None, f"{place} is empty, though the host uses what should be there"))
    return len(problems) == count


def _is(is_used: Callable[[Tree], bool], host: Tree) -> bool:
    """Tells whether it is used, as far as can be read: the search that follows names what cannot."""
    try:
        return is_used(host)
    except Unreadable:
        return False


def _patiently(search: Search, host: Tree) -> Iterator[Uses | Unreadable]:
    """Gives what is found, and in the end the error that ended the search, if one did."""
    try:
        yield from search(host)
    except Unreadable as error:
        yield error
