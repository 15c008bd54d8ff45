# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Thousands of hosts' reporters against one real Placement on a real database: what a host costs there.

    python -m bench.cloud --hosts 10000 --devices 8 --database postgresql --processes 2

Most hosts are cloned in the database from one that was really reported; first reports are measured on a
sample. The agents are real `Reporter`s, each with its own memory and, as at an interval of minutes, a new
connection per cycle. Counts hold everywhere; CPU is this machine's (`GET /` tells how fast it is), and wall times
hold nowhere else, with agents, Placement and database on the same cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, TypeVar

import requests

from devagent.model.provider import Provider
from devagent.placement.client import PlacementClient
from devagent.placement.reporter import Reporter

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from functional import databases, placement_process

from bench.cloud_agents import Life, Phase, Tally, Wire, agents
from bench.cloud_fill import clone
from bench.cloud_hosts import NUMA_NODES, identity, tree

INTERVALS: Final = (60, 300)
BUSY: Final = 0.6  # of a core: beyond, waiting grows faster than work
AGENTS: Final = 2  # processes in which the agents live
_BARE: Final = 200  # compute nodes whose agents have reported nothing yet, for each of two phases
_TICKS: Final = os.sysconf("SC_CLK_TCK")

Started = TypeVar("Started")


@dataclass(frozen=True)
class Row:
    """One phase, measured; milliseconds are CPU, of all processes of a kind together, but for p50 and p99."""

    name: str
    hosts: int
    requests: int
    seconds: float
    requests_per_second: float
    requests_per_cycle: float
    placement_ms_per_request: float
    placement_ms_per_cycle: float
    database_ms_per_cycle: float
    agent_ms_per_cycle: float
    p50_ms: float
    p99_ms: float
    retried: int
    errors: int


def children(pid: int) -> set[int]:
    """Gives the processes that a process started, and those that these did."""
    found = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _read(path).split():
            found |= {int(child), *children(int(child))}
    return found


def cpu(roots: set[int]) -> float:
    """Gives the CPU seconds of processes and of all that they started, those that ended among them."""
    pids = roots | {child for root in roots for child in children(root)}
    # After the name in parentheses: state is field 3, utime, stime, cutime and cstime are 14 to 17.
    lines = (_read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split() for pid in pids)
    return sum(int(number) for line in lines for number in line[11:15]) / _TICKS


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended
        return ""


@dataclass
class Cloud:
    """The servers and the agents, and how to measure one phase of theirs."""

    urls: list[str]
    placement: set[int]
    database: set[int]
    pipes: list[Connection]

    def measure(self, phase: Phase) -> Row:
        """Lets the agents make the phase's cycles and weighs what that took."""
        shares = [_share(phase, number, len(self.pipes)) for number in range(len(self.pipes))]
        self._ask("prepare", [(share,) for share in shares])
        before = cpu(self.placement), cpu(self.database)
        begin = time.monotonic() + 0.1
        tallies: list[Tally] = self._ask("run", [(share, self.urls, begin) for share in shares])
        spent = cpu(self.placement) - before[0], cpu(self.database) - before[1]
        for text in [text for tally in tallies for text in (*tally.errors, *tally.retried)][:3]:
            print(f"{phase.name}: {text}", file=sys.stderr)  # noqa: T201 - what went wrong, at once
        return _row(phase, tallies, max(tally.ended for tally in tallies) - begin, *spent)

    def unit(self) -> float:
        """Gives the milliseconds of CPU for `GET /`, which touches no database: how fast this machine is today."""
        before, number = cpu(self.placement), 300
        with requests.Session() as connection:
            for _ in range(number):
                connection.get(self.urls[0], timeout=60)
        return 1000 * (cpu(self.placement) - before) / number

    def _ask(self, method: str, arguments: Sequence[tuple[object, ...]]) -> list[Any]:
        for pipe, values in zip(self.pipes, arguments, strict=True):
            pipe.send((method, *values))
        return [pipe.recv() for pipe in self.pipes]


def _share(phase: Phase, number: int, of: int) -> Phase:
    """Gives the part of a phase that one of the agents' processes makes: a host is always in the same one."""
    return replace(phase, hosts=tuple(host for host in phase.hosts if host % of == number))


def _row(phase: Phase, tallies: Sequence[Tally], seconds: float, placement: float, database: float) -> Row:
    latencies = [1000 * latency for tally in tallies for latency in tally.latencies]
    number, cycles = len(latencies), len(phase.hosts)
    percentiles = statistics.quantiles(latencies, n=100)
    return Row(
        phase.name,
        hosts=cycles,
        requests=number,
        seconds=round(seconds, 1),
        requests_per_second=round(number / seconds, 1),
        requests_per_cycle=round(number / cycles, 2),
        placement_ms_per_request=round(1000 * placement / number, 2),
        placement_ms_per_cycle=round(1000 * placement / cycles, 1),
        database_ms_per_cycle=round(1000 * database / cycles, 1),
        agent_ms_per_cycle=round(1000 * sum(tally.cpu for tally in tallies) / cycles, 1),
        p50_ms=round(percentiles[49], 1),
        p99_ms=round(percentiles[98], 1),
        retried=sum(len(tally.retried) for tally in tallies),
        errors=sum(len(tally.errors) for tally in tallies),
    )


@dataclass(frozen=True)
class Options:
    """What is simulated, and about how many seconds a phase may take: so many hosts as fit have a part in it."""

    hosts: int
    devices: int
    database: str
    processes: int
    seconds: float


def simulate(options: Options) -> tuple[list[Row], float]:
    """Starts everything, measures all phases, and ends everything; gives the cost of `GET /` too."""
    with contextlib.ExitStack() as stack:
        server, database = _started(lambda: databases._STARTS[options.database]())
        stack.callback(server.stop)
        connection = server.database()
        placement = partial(placement_process.processes, connection, options.processes)
        with contextlib.ExitStack() as first:
            urls, pids = _started(lambda: first.enter_context(placement()))
            generations = _fill(urls[0], connection, options)
            pipes = stack.enter_context(agents(AGENTS, options.devices, generations, options.hosts))
            cloud = Cloud(urls, pids, database, pipes)
            rows = _phases(cloud, options)
            unit = cloud.unit()
        urls, pids = _started(lambda: stack.enter_context(placement()))
        few = range(rows[0].hosts)
        rows.append(Cloud(urls, pids, database, pipes).measure(Phase("Placement restarted", few)))
    return rows, unit


def _started(start: Callable[[], Started]) -> tuple[Started, set[int]]:
    """Calls `start` and gives the processes that this left behind too."""
    before = children(os.getpid())
    result = start()
    return result, children(os.getpid()) - before


def _fill(url: str, connection: str, options: Options) -> list[int]:
    """Reports one host as an agent does and lets the database have the others."""
    root = Provider(identity(0, 0), "compute-0", None)
    wire = Wire(url, Tally())
    client = PlacementClient(wire)
    client.create(root)
    failures = Reporter(client).report(tree(0, options.devices)).failures
    assert not failures, failures
    wire.connection.close()
    return clone(connection, options.hosts, 2 * _BARE)


def _phases(cloud: Cloud, options: Options) -> list[Row]:
    """Measures what happens while one Placement runs; the second phase says how fast the others may go."""
    first = cloud.measure(Phase("Placement's first", range(min(options.hosts, 64)), width=4))
    some = _some(options, options.seconds * first.requests_per_second)
    full = cloud.measure(Phase("as fast as it goes", some, width=4))
    second = BUSY * full.requests_per_second if options.seconds else math.inf
    few, end = int(options.seconds * BUSY * full.requests_per_second), options.hosts
    reads, writes = (number + 2 * (NUMA_NODES + options.devices) for number in (2, 4))
    lost, bare = (max(8, min(_BARE, few // cost)) for cost in (reads, writes))
    steady, some = _some(options, 4 * few), _some(options, few)
    phases = (
        Phase("at rest", steady, len(steady) / second),
        Phase("1 in 100 changed", some, len(some) / second, changes=True),
        Phase("agents restarted", some, len(some) / second, life=Life.LOADED),
        Phase("all read anew", _some(options, lost, 8), lost * reads / second, life=Life.LOST),
        Phase("first reports, spread", range(end, end + bare), bare * writes / second),
        Phase("first reports, at once", range(end + _BARE, end + _BARE + bare), width=bare),
    )
    return [first, full, *map(cloud.measure, phases)]


def _some(options: Options, number: float, least: int = 32) -> range:
    """Gives about so many of the hosts, from the first to the last, odd and even ones alike."""
    return range(0, options.hosts, math.ceil(options.hosts / max(least, number)) | 1)


def plan(rows: Sequence[Row], hosts: int) -> list[str]:
    """Says how many Placement processes so many hosts need, none of them busier than BUSY."""
    by_name = {row.name: row for row in rows}
    lines = []
    for interval in INTERVALS:
        for name in ("at rest", "1 in 100 changed", "all read anew", "first reports, spread"):
            cores = hosts / interval * by_name[name].placement_ms_per_cycle / 1000
            rate = hosts / interval * by_name[name].requests_per_cycle
            lines.append(
                f"{hosts} hosts every {interval} s, {name}: {rate:.0f} requests/s, {cores:.2f} cores of Placement, "
                f"{math.ceil(cores / BUSY)} processes"
            )
    return lines


_HEADS: Final = (
    "hosts",
    "requests",
    "seconds",
    "req/s",
    "req/cycle",
    "P ms/req",
    "P ms/cycle",
    "DB ms/cycle",
    "agent ms/cycle",
    "p50 ms",
    "p99 ms",
    "retried",
    "errors",
)


def show(rows: Sequence[Row]) -> str:
    """Gives the table; P is Placement."""
    lines = [("", *_HEADS), *(tuple(asdict(row).values()) for row in rows)]
    widths = [max(len(str(line[column])) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(f"{cell!s:{'<' if not column else '>'}{widths[column]}}" for column, cell in enumerate(line))
        for line in lines
    )


def main() -> int:
    """Runs the command and gives its exit status: 1 if there was any error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--devices", type=int, default=8, help="of each host, besides its two NUMA nodes")
    parser.add_argument("--database", choices=("postgresql", "mariadb"), default="postgresql")
    parser.add_argument("--processes", type=int, default=2, help="of Placement")
    parser.add_argument("--seconds", type=float, default=25, help="for each phase; the one at rest has four times that")
    parser.add_argument("--quick", action="store_true", help="300 hosts: whether it works, not what it costs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the numbers too")
    args = parser.parse_args()
    hosts, seconds = (300, 0.0) if args.quick else (args.hosts, args.seconds)
    options = Options(hosts, args.devices, args.database, args.processes, seconds)
    began = time.monotonic()
    rows, unit = simulate(options)
    advice = plan(rows, hosts=10_000)
    if args.json:
        numbers = {
            "options": asdict(options),
            "get_root_ms": round(unit, 2),
            "rows": [asdict(row) for row in rows],
            "plan": advice,
        }
        args.json.write_text(json.dumps(numbers, indent=2) + "\n")
    advice.append(f"(where GET / takes {unit:.2f} ms of CPU; scale by what it takes on yours)")
    where = f"{hosts} hosts of {args.devices} devices, {args.database}, {args.processes} processes of Placement"
    print(f"{where}; {time.monotonic() - began:.0f} s\n{show(rows)}\n", *advice, sep="\n")  # noqa: T201
    return 1 if any(row.errors for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
