# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The described hosts as trees, each generated once per run and only if a test asks for it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from hosts.generate import generate

from devagent.discovery import Discovery, discover
from devagent.inventory.default_policy import DEFAULT
from devagent.registry import load
from devagent.sources import roots

DESCRIPTIONS = Path(__file__).parent / "hosts"
MEMORY = Path("/dev/shm")
ROOM = 1 << 30


@pytest.fixture(scope="session")
def host_tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Gives the tree of a described host by name: `host_tree("gpu8")`. Nobody may write to it."""
    # `big` has 111,000 files: up to a minute on a disk, three seconds in memory.
    in_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ROOM
    top = Path(tempfile.mkdtemp(dir=MEMORY)) if in_memory else tmp_path_factory.mktemp("hosts")

    @cache
    def tree(name: str) -> Path:
        return generate(DESCRIPTIONS / f"{name}.yaml", top / name)

    yield tree
    shutil.rmtree(top)


@pytest.fixture(scope="session")
def discovery(host_tree: Callable[[str], Path]) -> Callable[[str], Discovery]:
    """Gives what is discovered on a described host with the built-in policy: `discovery("gpu8")`."""

    @cache
    def found(name: str) -> Discovery:
        with roots.open_root(host_tree(name)) as tree:
            return discover(tree, load(), DEFAULT)

    return found
