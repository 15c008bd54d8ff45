# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""More clients than VFs, all at once and again and again: each answer is true, and nothing is left behind.

The agent, its privileged process and its journal are real; the kernel is a tree of files that binds drivers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from .cloud import Cloud
from .load import Load, load

PFS, VFS, CLIENTS = 2, 5, 16
POOLS = 2 * 16
"""Threads that prepare and release: as many as were needed at once so far, at most."""
WARM, CYCLES = 48, 192


@pytest.fixture
def life(tmp_path: Path, cloud: Cloud) -> Iterator[Load]:
    """Runs an agent with ten VFs."""
    with load(tmp_path, cloud, PFS, VFS) as made:
        yield made


Counts = dict[str, tuple[int, int]]
"""Descriptors and children by process."""


def counts(life: Load) -> Counts:
    return {name: (held.descriptors, held.children) for name, held in life.weigh().items()}


def grown(before: Counts, after: Counts) -> bool:
    """Tells of a leak: 240 cycles would show many times the few connections to Placement that come and go."""
    return any(now[0] > before[name][0] + 4 or now[1] > before[name][1] for name, now in after.items())


def threads(life: Load) -> int:
    return life.weigh()["agent"].threads


def rows(life: Load) -> dict[str, int]:
    """Gives how many rows each table of the journal has, once the agent has ended."""
    with closing(sqlite3.connect(life.agent.folder / "state" / "preparations.db")) as journal:
        tables = [name for (name,) in journal.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {name: journal.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}


def test_many_clients_at_once_get_true_answers_and_nothing_is_left(life: Load) -> None:
    life.run(CLIENTS, WARM)
    before, fewest = counts(life), threads(life)
    life.run(CLIENTS, CYCLES)
    tally = life.tally
    assert tally.wrong == []
    assert len(tally.prepare) == len(tally.release) == WARM + CYCLES - sum(tally.refused.values())
    assert len(tally.prepare) > (WARM + CYCLES) // 2
    assert life.left() == []
    life.agent.until(lambda: not grown(before, counts(life)))
    assert threads(life) <= fewest + POOLS
    assert life.agent.stop() == 0
    assert rows(life) == {
        "preparations": 0, "steps": 0, "holdings": 0, "released": len(life.drivers()), "tombstones": 0,
    }  # fmt: skip
