# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The agents of the simulated cloud: real reporters, many in each of a few processes."""

import contextlib
import enum
import multiprocessing
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import requests
from keystoneauth1 import adapter, session, token_endpoint

from bench.cloud_hosts import remembered, tree
from devagent.placement.client import PlacementClient
from devagent.placement.reporter import Reporter
from devagent.placement.state import Memory, StateFile

CHANGED: Final = 100  # one host in so many has a changed device
WIDTH: Final = 16  # cycles at once in one agents' process


class Life(enum.StrEnum):
    """What an agent remembers when its cycle begins."""

    KEPT = "kept"
    LOADED = "from its state file"
    LOST = "nothing"


@dataclass(frozen=True)
class Phase:
    """One cycle of each of `hosts`, begun at random within `over` seconds, `width` at once in each process."""

    name: str
    hosts: Sequence[int]
    over: float = 0.0
    width: int = WIDTH
    life: Life = Life.KEPT
    changes: bool = False


@dataclass
class Tally:
    """What agents saw: seconds per request, what was tried again, what went wrong, and the CPU that they took."""

    latencies: list[float] = field(default_factory=list)
    retried: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    cpu: float = 0.0
    ended: float = 0.0


class Wire(adapter.Adapter):
    """keystoneauth's adapter with a connection of its own, which notes how long each answer took and which failed."""

    def __init__(self, url: str, tally: Tally) -> None:
        self._tally, self.connection = tally, requests.Session()
        auth = token_endpoint.Token(url, "bench")
        roles = {"X-Roles": "admin,service"}
        own = session.Session(auth=auth, session=self.connection, timeout=60, additional_headers=roles)
        super().__init__(own, service_type="placement")

    def request(self, url: str, method: str, **kwargs: Any) -> requests.Response:
        """Sends it, and notes what the reporter will try again."""
        began = time.monotonic()
        try:
            answer: requests.Response = super().request(url, method, **kwargs)
        except Exception as error:
            self._tally.retried.append(f"{method} {url}: {error}")
            raise
        self._tally.latencies.append(time.monotonic() - began)
        if not answer.ok:
            self._tally.retried.append(f"{method} {url}: {answer.status_code} {answer.text[:200]}")
        return answer


class Fleet:
    """The agents of some hosts, in one process."""

    def __init__(self, devices: int, generations: Sequence[int], cloned: int) -> None:
        self._devices, self._generations, self._cloned = devices, generations, cloned
        self._memories: dict[int, Memory] = {}
        self._changed: set[int] = set()

    def prepare(self, phase: Phase) -> None:
        """Puts the agents in the state in which the phase finds them."""
        if phase.changes:
            self._changed ^= set(phase.hosts[::CHANGED])
        for host in phase.hosts:
            self._before(host, phase)

    def run(self, phase: Phase, urls: Sequence[str], begin: float) -> Tally:
        """Makes the phase's cycles, the first not before the monotonic time `begin`."""
        tally = Tally()
        chance = random.Random(phase.name)  # noqa: S311 - the same every time
        starts = sorted((begin + chance.uniform(0, phase.over), host) for host in phase.hosts)
        cpu = time.process_time()
        with ThreadPoolExecutor(phase.width) as pool:
            for start, host in starts:
                pool.submit(self._cycle, host, urls[host % len(urls)], start, tally)
        tally.cpu, tally.ended = time.process_time() - cpu, time.monotonic()
        return tally

    def _before(self, host: int, phase: Phase) -> None:
        known = host in self._memories or host < self._cloned
        if phase.life is Life.LOST or not known:
            self._memories[host] = Memory("")
        elif host not in self._memories:
            self._memories[host] = remembered(host, self._devices, self._generations)
        if phase.life is Life.LOADED:
            self._memories[host] = _reloaded(self._memories[host])

    def _cycle(self, host: int, url: str, start: float, tally: Tally) -> None:
        time.sleep(max(0.0, start - time.monotonic()))
        wire = Wire(url, tally)
        try:
            reporter = Reporter(PlacementClient(wire), self._memories[host])
            report = reporter.report(tree(host, self._devices, changed=host in self._changed))
            self._memories[host] = reporter.memory
            tally.errors += [f"{name}: {error}" for name, error in report.failures.items()]
        except Exception as error:  # whatever it is, it is one host's and is counted
            tally.errors.append(f"compute-{host}: {error!r}")
        finally:
            wire.connection.close()


def _reloaded(memory: Memory) -> Memory:
    """Gives the memory as it comes back from the state file of an agent that was stopped."""
    with tempfile.TemporaryDirectory() as folder:
        state = StateFile(Path(folder))
        state.save(memory)
        loaded = state.load()
    assert loaded is not None
    return loaded


def work(pipe: Connection) -> None:
    """Is one agents' process: gets its fleet, then one phase after the other."""
    fleet = Fleet(*pipe.recv())
    while (order := pipe.recv()) is not None:
        method, *arguments = order
        pipe.send(getattr(fleet, method)(*arguments))


@contextlib.contextmanager
def agents(number: int, *fleet: object) -> Iterator[list[Connection]]:
    """Starts the agents' processes and gives the pipes to them."""
    spawn = multiprocessing.get_context("spawn")
    pipes, started = [], []
    for _ in range(number):
        here, there = spawn.Pipe()
        process = spawn.Process(target=work, args=(there,), daemon=True)
        process.start()
        here.send(fleet)
        pipes.append(here)
        started.append(process)
    try:
        yield pipes
    finally:
        for pipe, process in zip(pipes, started, strict=True):
            pipe.send(None)
            process.join(10)
