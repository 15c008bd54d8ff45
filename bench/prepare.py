# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the journal, the locks and the read-backs add to the verbs themselves, and how long a recovery takes.

    .venv/bin/python -m bench.prepare [--directory DIR]
    .venv/bin/python -m bench.prepare --load [CYCLES]

The machine is one in memory, so that everything but the verbs is measured; the journal is on the disk of DIR. With
--load the agent itself is asked, by many clients at once: see prepare_load.py.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from unit.prepare.fake_machine import FakeMachine, Kernel, Plans, build, request

from bench import prepare_load
from devagent.model.plan import Step
from devagent.model.preparation import Preparation, State
from devagent.prepare.database import Database
from devagent.prepare.entry import Entry
from devagent.prepare.executor import Executor
from devagent.prepare.journal import Journal
from devagent.prepare.recovery import recover

T = TypeVar("T")

ROUNDS: Final = 200
PREPARE, VERBS = "prepare", "the verbs alone"
PREPARATIONS: Final = 1000
CLIENTS: Final = 64
VERB: Final = 0.005
"""Seconds that a verb takes where the throughput is measured: about what binding a driver takes."""


class SlowMachine(FakeMachine):
    """A machine whose verbs take their time."""

    def do(self, step: Step, seconds: float) -> None:
        """Does the step after a while."""
        time.sleep(VERB)
        super().do(step, seconds)


def main() -> int:
    """Measures and prints; gives 1 if an answer of the agent was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--directory", type=Path, help="where the journal is to be (a temporary directory)")
    parser.add_argument("--load", type=int, nargs="?", const=10_000, metavar="CYCLES", help="ask the agent (10000)")
    args = parser.parse_args()
    if args.load is not None:
        return 0 if prepare_load.measure(args.load) else 1
    with tempfile.TemporaryDirectory(dir=args.directory) as top:
        print_overhead(overhead(Path(top)))
        throughput(Path(top))
        recovery(Path(top))
    return 0


def overhead(top: Path, rounds: int = ROUNDS) -> dict[str, float]:
    """One VF, made ready and released: median ms of each phase, the repeated request, and the verbs alone."""
    whole, released, repeated, raw, commits, phases = [], [], [], [], [], dict[str, list[float]]()
    database = Database(top / "alone.db", ("CREATE TABLE alone (key TEXT PRIMARY KEY, value TEXT, sum INTEGER)",))
    with executor(top / "overhead.db", cards=1, vfs=1) as (kernel, machine, served, _):
        asked = request("A", "VF")
        plans = Plans(kernel, asked)
        for _ in range(rounds):
            spent, answer = timed(lambda: served.prepare(asked, plans, 60.0))
            assert isinstance(answer, Preparation)
            whole.append(spent)
            repeated.append(timed(lambda: served.prepare(asked, plans, 60.0))[0])
            for name, seconds in answer.timings.items():
                phases.setdefault(name, []).append(seconds)
            released.append(timed(lambda: served.release("A", plans.release, 60.0))[0])
            steps = answer.plan.steps
            raw.append(timed(lambda: alone(machine, steps))[0])  # noqa: B023 - called at once
            commits.append(timed(lambda: commit(database))[0])
            alone(machine, plans.release(answer).steps)
    database.close()
    every = {
        PREPARE: whole,
        **{f"  {name}": values for name, values in phases.items()},
        VERBS: raw,
        "one commit alone": commits,
        "prepare again, as it is": repeated,
        "release": released,
    }
    return {name: 1000 * statistics.median(values) for name, values in every.items()}


def print_overhead(medians: Mapping[str, float]) -> None:
    """Prints what `overhead` measured."""
    say(f"one VF of two steps, {ROUNDS} rounds, median ms")
    for name, median in medians.items():
        say(f"| {name} | {median:.2f} |")
    say(f"| overhead of prepare | {medians[PREPARE] - medians[VERBS]:.2f} |")


def alone(machine: FakeMachine, steps: Sequence[Step]) -> None:
    """Does the verbs and nothing else."""
    for step in steps:
        machine.do(step, 60.0)


def commit(database: Database) -> None:
    """Writes one row, durably."""
    with database.transaction() as transaction:
        transaction.put("alone", "key", "x" * 300)


def throughput(top: Path) -> None:
    """So many clients at once, on more and more PFs."""
    say(f"\n{CLIENTS} clients at once, verbs of {1000 * VERB:.0f} ms")
    say("| PFs | preparations per second |")
    say("|---|---|")
    for cards in (1, 4, 16):
        with executor(top / f"throughput-{cards}.db", cards, CLIENTS // cards, SlowMachine) as (kernel, _, served, _):
            spent, _ = timed(lambda: together(kernel, served))
        say(f"| {cards} | {CLIENTS / spent:.0f} |")


def together(kernel: Kernel, served: Executor) -> None:
    """Prepares a VF for each of the clients, each in a thread of its own."""

    def prepare(number: int) -> None:
        asked = request(f"client {number}", "VF")
        assert isinstance(served.prepare(asked, Plans(kernel, asked), 60.0), Preparation)

    threads = [threading.Thread(target=prepare, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def recovery(top: Path) -> None:
    """The start with so many preparations: all of them ready, and all of them interrupted half way."""
    path = top / "recovery.db"
    with executor(path, cards=16, vfs=64) as (kernel, machine, served, journal):
        for number in range(PREPARATIONS):
            asked = request(f"consumer {number:04}", "VF")
            assert isinstance(served.prepare(asked, Plans(kernel, asked), 60.0), Preparation)
        journal.close()
        say(f"\n{PREPARATIONS} preparations, seconds until all are settled")
        spent, again = timed(lambda: started(path, machine))
        say(f"| all are ready | {spent:.2f} |")
        for entry in again.entries():
            interrupt(again, entry)
        again.close()
        spent, again = timed(lambda: started(path, machine))
        left = len(again.unfinished())
        again.close()
    say(f"| all were interrupted, and are undone, two steps each | {spent:.2f} |")
    assert not left


def interrupt(journal: Journal, entry: Entry) -> None:
    """Makes a preparation one whose steps are done, but which was not finished in time."""
    interrupted = replace(entry.preparation, state=State.PREPARING, handles=(), deadline=0.0)
    with journal._database.transaction() as transaction:
        journal._write(transaction, replace(entry, preparation=interrupted))


def started(path: Path, machine: FakeMachine) -> Journal:
    """Opens a journal and recovers what is in it."""
    journal = Journal(path, "boot 1")
    assert recover(journal, Executor(journal, machine)) == {}
    return journal


@contextmanager
def executor(
    path: Path, cards: int, vfs: int, machine: type[FakeMachine] = FakeMachine
) -> Iterator[tuple[Kernel, FakeMachine, Executor, Journal]]:
    """Gives a machine with so many NICs of so many VFs, and what serves it."""
    kernel = Kernel()
    build(kernel, cards, vfs)
    made = machine(kernel)
    journal = Journal(path, "boot 1")
    try:
        yield kernel, made, Executor(journal, made), journal
    finally:
        journal.close()


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """Gives how many seconds a call took, and its result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def say(text: str) -> None:
    """Prints a line."""
    print(text, flush=True)  # noqa: T201 - the result


if __name__ == "__main__":
    sys.exit(main())
