# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The daemon on a host that does not come to rest: what it takes it gives back."""

from __future__ import annotations

from pathlib import Path

from . import weighed
from .cloud import Cloud
from .commotion import Commotion, commotion

WARM, CHANGES = 50, 150
# Of resident memory, as the proportional one depends on what else runs. It still grows by 3 %, in every run alike;
# by 8 % if the agent keeps each look, which is 20 KiB.
GROWTH = 1.06
CALM = 10

Kept = dict[str, tuple[int, list[str], int, int]]


def test_descriptors_threads_children_and_memory_are_given_back(tmp_path: Path, cloud: Cloud) -> None:
    with commotion(tmp_path, cloud) as life:
        life.change(WARM)
        life.settle()
        before, early = at_rest(life), life.weigh()
        life.change(CHANGES)
        life.settle()
        after, late = at_rest(life), life.weigh()
        assert set(before) == {"agent", "privileged", "look"}
        assert after == before
        growth = {name: late.held[name].rss / early.held[name].rss for name in before}
        assert max(growth.values()) < GROWTH, growth
        assert late.state < GROWTH * early.state


def at_rest(life: Commotion) -> Kept:
    """Gives by name which process it is, what it has open, and how many threads and children, once nothing moves."""
    processes = life.processes()
    read: list[Kept] = []

    def calm() -> bool:
        # A connection whose call was answered is closed a moment later, and a report may still be under way.
        read.append({name: kept(pid) for name, pid in processes.items()})
        return len(read) >= CALM and all(each == read[-1] for each in read[-CALM:])

    life.agent.until(calm)
    return read[-1]


def kept(pid: int) -> tuple[int, list[str], int, int]:
    return pid, weighed.opened(pid), len(weighed.threads(pid)), len(weighed.children(pid))
