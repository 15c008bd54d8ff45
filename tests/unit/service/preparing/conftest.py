# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Hosts of four VFs and of one, and threads for those who ask at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .one_host import Agent, started


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    yield from started(tmp_path, vfs=4)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Agent]:
    """An agent with one VF to give."""
    yield from started(tmp_path, vfs=1)


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool
