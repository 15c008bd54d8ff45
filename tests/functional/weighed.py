# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What running processes hold and cost, as the kernel counts it: proc(5) below /proc/PID."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Held:
    """What one process holds; `pss` and `rss` in KiB, `children` are those that it has now."""

    descriptors: int
    threads: int
    children: int
    pss: int
    rss: int


def held(pid: int) -> Held:
    """Weighs a process. Raises OSError if it has ended."""
    rollup = _fields(Path(f"/proc/{pid}/smaps_rollup"))
    return Held(
        descriptors=len(list(Path(f"/proc/{pid}/fd").iterdir())),
        threads=len(threads(pid)),
        children=len(children(pid)),
        pss=int(rollup["Pss"].split()[0]),
        rss=int(rollup["Rss"].split()[0]),
    )


def opened(pid: int) -> list[str]:
    """Gives what a process has open, without the numbers of sockets and pipes."""
    names = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            names.append(str(entry.readlink()).partition("[")[0])
    return sorted(names)


def children(pid: int) -> list[int]:
    """Gives the processes that any thread of a process has started and not buried."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, path.read_text().split())
    return found


def cpu_ms(pid: int) -> float:
    """Gives the CPU time of a process's living threads, and of its children that it has buried.

    Of the threads it is exact (schedstat is in ns), of the children to a clock tick.
    """
    # After the name in parentheses: state is field 3, cutime and cstime are 16 and 17.
    after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(thread_cpu_ms(pid).values()) + 1000 * (int(after[13]) + int(after[14])) / _TICKS


def thread_cpu_ms(pid: int) -> Mapping[int, float]:
    """Gives the CPU time of each thread, in the order in which they were started."""
    return {tid: int(_task(pid, tid, "schedstat").split()[0]) / 1e6 for tid in threads(pid)}


def wakeups(pid: int) -> Mapping[int, int]:
    """Gives how often each thread waited for something and went on, in the order in which they were started."""
    return {
        tid: int(_fields(Path(f"/proc/{pid}/task/{tid}/status"))["voluntary_ctxt_switches"]) for tid in threads(pid)
    }


def threads(pid: int) -> list[int]:
    """Gives a process's threads in the order in which they were started."""
    return sorted(int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir())


def _task(pid: int, tid: int, name: str) -> str:
    return Path(f"/proc/{pid}/task/{tid}/{name}").read_text()


def _fields(path: Path) -> dict[str, str]:
    """Reads lines like `Pss:   1234 kB`."""
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return {name: value.strip() for name, colon, value in lines if colon}
