# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads the attributes whose reading runs driver code, wakes the device or waits for its lock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from devagent.errors import Unreadable
from devagent.sources.apart import Ask, Look
from devagent.sources.attributes import attributes
from devagent.sources.host import Tree
from devagent.sources.pci import DEVICES

SOURCE: Final = "device"
# A GPU that sleeps deeply takes some hundred milliseconds to wake.
_LIMIT: Final = 2.0

# What the kernel answers where the device has no such thing: a link that is no PCIe link, a switch id of a NIC
# that switches nothing, the accelerator function of a port that is disabled.
_NONE: Final = ("invalid argument", "operation not supported", "no such device", "device or resource busy")


@dataclass(slots=True)
class Answer:
    """What one device said; `failures` are files that could not be read, `denied` those that need more rights."""

    attributes: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    denied: list[str] = field(default_factory=list)


def look(asks: Mapping[str, frozenset[str]]) -> Look:
    """Asks each address for the files that fit its patterns; the answers are of type Answer."""

    @contextmanager
    def opened(tree: Tree) -> Iterator[Ask]:
        yield lambda address: _ask(tree, address, asks[address])

    return Look(SOURCE, tuple(asks), opened, _LIMIT)


def _ask(tree: Tree, address: str, patterns: frozenset[str]) -> Answer:
    answer = Answer()

    def failed(name: str, error: Unreadable) -> None:
        if error.denied:
            answer.denied.append(name)
        elif error.reason not in _NONE:
            answer.failures[name] = error.reason

    answer.attributes = attributes(tree, f"{DEVICES}/{address}", patterns, failed)
    return answer
