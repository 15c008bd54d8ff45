# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The reporting agent as a process that dies by SIGKILL at a request of one's choice.

It forks each agent from one process that has imported everything, so that hundreds of deaths are cheap.
"""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import requests

from devagent.model.provider import ProviderTree
from devagent.placement.client import PlacementClient
from devagent.placement.reporter import Reporter
from devagent.placement.state import StateFile

from .cloud import Wire

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Life:
    """One report by a fresh agent with the state file below `state`.

    It ends before request `last` is sent, or with `answered` after Placement's answer to it; without
    `last` it lives.
    """

    url: str
    state: Path
    desired: ProviderTree
    last: int = 0
    answered: bool = False


class MortalWire(Wire):
    """Kills its own process at a request, with whatever else is under way in other threads."""

    def __init__(self, life: Life) -> None:
        super().__init__(life.url)
        self._life, self._numbers, self._lock = life, itertools.count(1), threading.Lock()

    def request(self, url: str, method: str, **kwargs: Any) -> requests.Response:
        """Sends it, if it lives so long."""
        with self._lock:
            here = next(self._numbers) == self._life.last
        if here and not self._life.answered:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = super().request(url, method, **kwargs)
        if here:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer


class Agents:
    """Runs agents, one after the other."""

    def __init__(self, orders: IO[bytes], results: IO[bytes]) -> None:
        self._orders, self._results = orders, results

    def live(self, life: Life) -> bool:
        """Runs one and tells whether it lived to the end of its report; fails if it ended in any third way."""
        pickle.dump(life, self._orders)
        self._orders.flush()
        status = int(self._results.readline())
        assert status in (0, -signal.SIGKILL), f"the agent ended with {status}"
        return status == 0


@contextmanager
def running() -> Iterator[Agents]:
    """Starts the process that forks the agents."""
    module = f"{__package__}.{Path(__file__).stem}"
    with subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=TESTS.parent,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Agents(process.stdin, process.stdout)
        process.stdin.close()


def main() -> None:
    """Forks an agent for each order and tells how it ended."""
    while True:
        try:
            life: Life = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        child = os.fork()
        if child == 0:
            status = 1
            try:
                _report(life)
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201 - the answer to the order


def _report(life: Life) -> None:
    """Reports as `devagent report` does."""
    state = StateFile(life.state)
    with state.locked():
        reporter = Reporter(PlacementClient(MortalWire(life)), state.load(), sleep=lambda _: None)
        try:
            reporter.report(life.desired)
        finally:
            state.save(reporter.memory)


if __name__ == "__main__":
    # Pickled orders name the classes of the module, of which this file, run, is another copy.
    from functional import agent_process

    agent_process.main()
