# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Sixty-four clients at once through the agent's API: how long they wait, how many get through, and what grows.

    .venv/bin/python -m bench.prepare --load [CYCLES]

The host is a tree of files that binds drivers; the agent, its processes and its journal are real. Nobody allocates in
Placement, so nobody asks it.
"""

from __future__ import annotations

import statistics
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from functional import weighed
from functional.cloud import Cloud
from functional.load import Load, load

from bench.placement import placement
from bench.scan import MEMORY, say, table

CLIENTS: Final = 64
PFS: Final = (1, 2, 4, 8, 16)
EACH: Final = 512
"""Cycles for each number of PFs."""
_SAMPLES: Final = 10
_COUNTS: Final = ("descriptors", "threads", "children", "rss")


def measure(cycles: int) -> bool:
    """Prints throughput by number of PFs, then what so many cycles leave; tells whether nothing was wrong."""
    say(f"{CLIENTS} clients at once on {CLIENTS} VFs, {EACH} preparations and releases; ms, median (99th percentile)")
    table(["PFs", "cycles per second", "prepare", "release", "CPU ms: agent", "privileged", "looks", "refused"], [])
    wrong = [problem for pfs in PFS for problem in _throughput(pfs)] + _soak(cycles)
    for problem in wrong[:5]:
        say(f"wrong: {problem}")
    return not wrong


def _throughput(pfs: int) -> list[str]:
    with _life(pfs) as life:
        life.run(CLIENTS, CLIENTS)  # so that each thread is there
        life.tally.prepare.clear()
        life.tally.release.clear()
        before = _cpu(life)
        spent = life.run(CLIENTS, EACH)
        cpu = {name: (ms - before.get(name, 0.0)) / EACH for name, ms in _cpu(life).items()}
        row = [str(pfs), f"{EACH / spent:.1f}", _shown(life.tally.prepare), _shown(life.tally.release)]
        row += [f"{cpu[name]:.1f}" for name in ("agent", "privileged", "look-prepare")]
        say(f"| {' | '.join([*row, str(sum(life.tally.refused.values()))])} |")
        return life.tally.wrong + life.left()


def _soak(cycles: int) -> list[str]:
    """Has the clients go on and on, and weighs the agent now and then."""
    say(f"\n{cycles} cycles on 4 PFs: descriptors, threads, children and resident KiB of each process")
    with _life(4) as life:
        for number in range(1, _SAMPLES + 1):
            life.run(CLIENTS, cycles // _SAMPLES)
            held = {name: " ".join(str(getattr(each, what)) for what in _COUNTS) for name, each in life.weigh().items()}
            if number == 1:
                table(["cycles", *held, "state, bytes"], [])
            say(f"| {number * (cycles // _SAMPLES)} | {' | '.join(held.values())} | {life.state()} |")
        tally = life.tally
        for name, values in {"prepare": tally.prepare, "release": tally.release, **tally.phases}.items():
            say(f"| {name} | {_shown(values)} |")
        say(f"refused: {dict(tally.refused)}")
        return tally.wrong + life.left()


@contextmanager
def _life(pfs: int) -> Iterator[Load]:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as top, placement() as url:
        cloud = Cloud(url, str(uuid.uuid4()), f"load-{uuid.uuid4().hex[:12]}")
        cloud.create(cloud.name, None, cloud.root)
        # Each client may hold a thread of the API for as long as it waits.
        wide = {"api": {"threads": str(2 * CLIENTS)}, "prepare": {"workers": str(CLIENTS)}}
        with load(Path(top), cloud, pfs, CLIENTS // pfs, **wide) as life:
            yield life


def _cpu(life: Load) -> dict[str, float]:
    return {each["name"]: weighed.cpu_ms(each["pid"]) for each in life.agent.status()["processes"]}


def _shown(seconds: Sequence[float]) -> str:
    last = statistics.quantiles(seconds, n=100)[-1] if len(seconds) > 1 else seconds[0]
    return f"{1000 * statistics.median(seconds):.0f} ({1000 * last:.0f})"
