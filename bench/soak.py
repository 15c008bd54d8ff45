# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Changes a host thousands of times under the daemon's eyes, and says whether what its processes hold grows.

    python -m bench.soak [N] [--every 500]

Devices are unplugged and plugged, VFs made and removed, drivers changed, health set and cleared, the configuration
reloaded, with a look at everything after each change and other calls meanwhile. Every so many changes the host is put
back as it was; Placement must then have what it had, and the processes are weighed.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from functional.cloud import Cloud
from functional.commotion import Commotion, Sample, commotion

from bench.placement import placement
from bench.scan import MEMORY, say, table

GROWS_KIB: Final = 256
"""Of memory per 1,000 changes: beyond, it would be a MiB a week where a device changes every other minute."""
_MEMORY: Final = ("pss", "rss")
_COUNTS: Final = ("descriptors", "threads", "children")


def soak(changes: int, every: int) -> list[Sample]:
    """Makes the changes and gives a sample after each `every` of them, the first after as many to get warm."""
    samples = []
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as top, placement() as url:
        cloud = Cloud(url, str(uuid.uuid4()), f"soak-{uuid.uuid4().hex[:12]}")
        cloud.create(cloud.name, None, cloud.root)
        with commotion(Path(top), cloud) as life:
            for _ in range(0, changes, every):
                samples.append(sample(life, every))
                if len(samples) == 1:
                    table(heads(samples[0]), [])
                say(f"| {' | '.join(row(samples[-1]))} |")
            trouble = [line for line in life.agent.log.splitlines() if " CRITICAL " in line or "Traceback" in line]
    for line in trouble[:5]:
        say(f"in the log: {line}")
    return samples


def sample(life: Commotion, every: int) -> Sample:
    """Makes changes, lets the host come to rest, and weighs."""
    life.change(every)
    life.settle()
    return life.weigh()


def heads(first: Sample) -> list[str]:
    """Gives the headings of the table."""
    return ["changes", *(f"{name}: fds, threads, children, PSS, RSS KiB" for name in first.held), "state, bytes"]


def row(sample: Sample) -> list[str]:
    """Gives a row of the table."""
    cells = (" ".join(str(getattr(each, name)) for name in _COUNTS + _MEMORY) for each in sample.held.values())
    return [str(sample.changes), *cells, str(sample.state)]


def slopes(samples: Sequence[Sample]) -> Iterator[tuple[str, str, float]]:
    """Gives by process and quantity how much it grew per 1,000 changes in the second half: least squares."""
    second = samples[len(samples) // 2 :]
    for name in second[0].held:
        for what in _COUNTS + _MEMORY:
            yield name, what, slope(second, [getattr(each.held[name], what) for each in second])
    yield "all", "state", slope(second, [each.state for each in second])


def slope(samples: Sequence[Sample], values: Sequence[float]) -> float:
    """Gives the slope of one quantity per 1,000 changes."""
    return 1000 * statistics.linear_regression([each.changes for each in samples], values).slope


def grown(found: Mapping[tuple[str, str], float]) -> list[str]:
    """Says what grew: a descriptor, thread or child more in 1,000 changes, or more resident memory than GROWS_KIB."""
    # Not the proportional memory, which grows also when a process that shared it ends, whosever it was.
    bounds = {"rss": GROWS_KIB, "state": 1024, **dict.fromkeys(_COUNTS, 1)}
    return [f"{name}: {what}" for (name, what), value in found.items() if value >= bounds.get(what, math.inf)]


def main() -> int:
    """Runs the command; gives 1 if anything grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("changes", type=int, nargs="?", default=10_000)
    parser.add_argument("--every", type=int, default=500)
    args = parser.parse_args()
    begun = time.monotonic()
    samples = soak(args.changes, args.every)
    found = {(name, what): value for name, what, value in slopes(samples)}
    say("\nper 1,000 changes of the second half")
    table(["", *_COUNTS, *_MEMORY], (
        [name, *(f"{found[name, what]:+.1f}" for what in _COUNTS + _MEMORY)] for name in samples[0].held
    ))  # fmt: skip
    grew = grown(found)
    say(f"\n{samples[-1].changes} changes in {time.monotonic() - begun:.0f} s; grew: {', '.join(grew) or 'nothing'}")
    return 1 if grew else 0


if __name__ == "__main__":
    sys.exit(main())
