# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Runs as a program: asks NVML as the scan does, with the library that its loader finds; see library.py.

asked.py look LIMIT ROOT ADDRESS...    pickles the outcome, and the files for a capture
asked.py discover ROOT                 pickles what is discovered on the host below ROOT
"""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace

from devagent.discovery import Discovery, discover
from devagent.inventory.default_policy import DEFAULT
from devagent.registry import load
from devagent.sources import nvml
from devagent.sources.apart import Outcome, look_apart
from devagent.sources.host import Directory


class Machine(Directory):
    """A directory that is taken for this machine, of which a capture is made."""

    def __init__(self, path: str) -> None:
        super().__init__(path, machine=True)
        self.kept: dict[str, str] = {}

    def keep(self, path: str, text: str) -> None:
        self.kept[path] = text

    def taken(self) -> dict[str, str]:
        kept, self.kept = self.kept, {}
        return kept

    def take(self, taken: object) -> None:
        assert isinstance(taken, dict)
        self.kept |= taken


def looked(limit: str, root: str, *addresses: str) -> tuple[Outcome, dict[str, str]]:
    with Machine(root) as tree:
        outcome = look_apart(tree, [replace(nvml.look(addresses), limit=float(limit))])[nvml.SOURCE]
        return outcome, tree.kept


def discovered(root: str) -> Discovery:
    with Directory(root, machine=True) as tree:
        return discover(tree, load(), DEFAULT)


if __name__ == "__main__":
    answer = looked(*sys.argv[2:]) if sys.argv[1] == "look" else discovered(sys.argv[2])
    assert "pynvml" not in sys.modules, "NVML is asked in a process of its own"
    sys.stdout.buffer.write(pickle.dumps(answer))
