# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""One host's turn of bench.agent: runs the daemon on it as on the machine itself, and prints what that took.

    python -m bench.agent_turn --url http://127.0.0.1:8778 --seconds 60 --starts 3

The host's /sys is this process's /sys (see bench.agent), and so that of the agents that it starts.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import socket
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from devagent import conf

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from functional import weighed
from functional.cloud import Cloud
from functional.running_agent import FAST, RunningAgent, running, write_configuration
from functional.running_daemon import folder

SETTLED_S: Final = 5.0
TIMES: Final = 10
_QUIET_S: Final = 0.2
_PARTIAL: Final = 'devagent_look_seconds_count{kind="partial"}'


@dataclass(frozen=True, slots=True)
class Cost:
    """What something took: seconds of wall-clock time, milliseconds of CPU by process, requests to Placement."""

    seconds: float
    cpu: Mapping[str, float]
    requests: float = 0.0


@dataclass(frozen=True, slots=True)
class Thread:
    """What a thread of the agent did in a minute of rest."""

    name: str
    wakeups: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured on one host; memory in KiB by process, `took` in ms as the agent's status has it."""

    devices: int
    ready: Cost
    first_requests: int
    restart_requests: int
    stop: Cost
    pss: Mapping[str, int]
    rss: Mapping[str, int]
    rest: Cost
    threads: tuple[Thread, ...]
    full: Cost
    full_took: float
    partial: Cost
    partial_took: float
    partial_of: str
    reload: Cost


class Measured:
    """A running agent, and what its processes cost."""

    def __init__(self, agent: RunningAgent) -> None:
        self.agent = agent
        self.pids = {"agent": agent.process.pid}

    def know_all(self) -> None:
        """Asks it for its processes."""
        self.pids = {each["name"]: each["pid"] for each in self.agent.status()["processes"]}

    def cpu(self) -> dict[str, float]:
        """Gives the CPU time of each process until now, with that of the children which it had, in ms."""
        return {name: weighed.cpu_ms(pid) for name, pid in self.pids.items()}

    def cost(self, work: Callable[[], object], times: int = 1) -> Cost:
        """Gives what it takes to do something once, from doing it so many times."""
        requests = self.counted("devagent_placement_requests_total")
        time.sleep(_QUIET_S)  # until the thread that answered that has come to rest
        cpu, begun = self.cpu(), time.perf_counter()
        for _ in range(times):
            work()
        seconds = time.perf_counter() - begun
        spent = {name: (after - cpu[name]) / times for name, after in self.cpu().items()}
        requests = self.counted("devagent_placement_requests_total") - requests
        return Cost(seconds / times, spent, requests / times)

    def counted(self, series: str) -> float:
        """Gives one series of its metrics, 0 if it has none."""
        connection = http.client.HTTPConnection("agent")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.agent.folder / "api.sock"))
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        found = re.search(rf"^{re.escape(series)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0


class Turn:
    """The measurements of one host, for one compute node."""

    def __init__(self, place: Path, cloud: Cloud) -> None:
        self._place, self._cloud = place, cloud

    def figures(self, seconds: float, starts: int) -> Figures:
        """Measures everything: `starts` times the start and the stop, all else with the last agent."""
        first, *others = [self._once() for _ in range(starts)]
        with self._started() as (measured, _):
            agent = measured.agent
            time.sleep(SETTLED_S)
            held = {name: weighed.held(pid) for name, pid in measured.pids.items()}
            rest, threads = self._rest(measured, seconds)
            full = measured.cost(lambda: agent.api.post("/v1/rescan", wait=60), TIMES)
            scan = agent.status()["scan"]
            partial, took, of = self._partial(measured)
            reload = measured.cost(agent.reload, TIMES)
        return Figures(
            devices=scan["devices"],
            ready=_middle([ready for ready, _, _ in (first, *others)]),
            first_requests=first[1],
            restart_requests=others[0][1],
            stop=_middle([stop for _, _, stop in (first, *others)]),
            pss={name: each.pss for name, each in held.items()},
            rss={name: each.rss for name, each in held.items()},
            rest=rest,
            threads=threads,
            full=full,
            full_took=scan["took_ms"],
            partial=partial,
            partial_took=took,
            partial_of=of,
            reload=reload,
        )

    @contextmanager
    def _started(self) -> Iterator[tuple[Measured, Cost]]:
        """Starts an agent, waits until Placement is up to date, and gives what it took to be ready."""
        configuration = self._configure()
        begun = time.perf_counter()
        with running("/", configuration) as agent:
            measured = Measured(agent.ready())
            ready = time.perf_counter() - begun
            measured.know_all()
            cost = Cost(ready, measured.cpu())
            agent.reported()
            yield measured, cost

    def _once(self) -> tuple[Cost, int, Cost]:
        """Starts an agent and stops it; gives what either took, and the requests of its report."""
        with self._started() as (measured, ready):
            requests = measured.agent.status()["report"]["requests"]
            begun = time.perf_counter()
            measured.agent.stop()
            return ready, requests, Cost(time.perf_counter() - begun, {})

    def _rest(self, measured: Measured, seconds: float) -> tuple[Cost, tuple[Thread, ...]]:
        """Leaves it alone for so many seconds, and gives what that cost in a minute."""
        pid, minutes = measured.pids["agent"], seconds / 60
        before: list[Mapping[int, float]] = []
        after: list[Mapping[int, float]] = []

        def watch() -> None:
            before[:] = weighed.wakeups(pid), weighed.thread_cpu_ms(pid)
            time.sleep(seconds)
            after[:] = weighed.wakeups(pid), weighed.thread_cpu_ms(pid)

        cost = measured.cost(watch)
        names = _names(measured.agent, len(after[0]))
        slept, spent = (
            {tid: (now[tid] - then[tid]) / minutes for tid in then} for then, now in zip(before, after, strict=True)
        )
        threads = tuple(Thread(name, slept[tid], spent[tid]) for name, tid in zip(names, slept, strict=True))
        minute = {name: ms / minutes for name, ms in cost.cpu.items()}
        return Cost(60.0, minute, cost.requests / minutes), threads

    def _partial(self, measured: Measured) -> tuple[Cost, float, str]:
        """Has the health of what is monitored checked each second; where that is nothing, of one PF."""
        agent, what = measured.agent, "all that is monitored"
        devices = agent.api.get("/v1/devices")["devices"]
        if all(each["health"]["state"] == "unmonitored" for each in devices):
            pf = next(each for each in devices if each["sriov"] and each["sriov"]["num_vfs"])
            agent.api.put(f"/v1/health/{pf['address']}", {"state": "suspect", "reason": "to have it looked at"})
            what = f"a PF with {pf['sriov']['num_vfs']} VFs"
        self._configure(health={"interval": "1"})
        agent.reload()
        before = measured.counted(_PARTIAL)
        measured.agent.until(lambda: measured.counted(_PARTIAL) > before)
        before = measured.counted(_PARTIAL)
        cost = measured.cost(lambda: time.sleep(TIMES))
        number = measured.counted(_PARTIAL) - before
        scan = agent.status()["scan"]
        assert scan["kind"] == "partial", scan
        each = {name: ms / number for name, ms in cost.cpu.items()}
        return Cost(cost.seconds / number, each, cost.requests / number), scan["took_ms"], what

    def _configure(self, **sections: dict[str, str]) -> Path:
        """Writes a configuration with the intervals that devagent has by default, but for these."""
        options = {"inventory": conf.INVENTORY_OPTS, "health": conf.HEALTH_OPTS}
        defaults = {
            name: {each.dest: str(each.default) for each in options[name] if each.dest in FAST[name]} for name in FAST
        }
        merged = {name: {**defaults[name], **sections.get(name, {})} for name in defaults}
        return write_configuration(self._place, self._cloud.name, self._cloud.url, **merged)


def _names(agent: RunningAgent, number: int) -> list[str]:
    """Names so many threads of the agent in the order in which they start: a thread has no name in /proc."""
    loops = [each["name"] for each in agent.status()["loops"] if each["name"] != "api"]
    workers = [f"api-{position}" for position in range(_workers())]
    names = ["main", *loops, *workers, "api", "api-refusals"]
    return [*names, *(f"other-{position}" for position in range(number))][:number]


def _workers() -> int:
    """Gives how many threads answer calls by default."""
    return int(next(each.default for each in conf.API_OPTS if each.dest == "threads"))


def _middle(costs: list[Cost]) -> Cost:
    names = costs[0].cpu
    return Cost(
        statistics.median(each.seconds for each in costs),
        {name: statistics.median(each.cpu[name] for each in costs) for name in names},
    )


def main() -> None:
    """Measures what the arguments say, and prints it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="of a Placement")
    parser.add_argument("--seconds", type=float, required=True, help="how long it is watched at rest")
    parser.add_argument("--starts", type=int, required=True, help="two at least: the first report, and a restart")
    args = parser.parse_args()
    with folder() as place:
        cloud = Cloud(args.url, str(uuid.uuid4()), f"bench-{uuid.uuid4().hex[:12]}")
        cloud.create(cloud.name, None, cloud.root)
        figures = Turn(place, cloud).figures(args.seconds, args.starts)
    print(json.dumps(asdict(figures)))  # noqa: T201 - its output


if __name__ == "__main__":
    main()
