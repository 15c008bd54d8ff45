# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The agent is killed before and after every journal write, every verb and every write to the kernel.

Whatever it was at, and however often: after the next start and one more try the machine, the journal and the answer
are the same as if nothing had happened.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from unit.prepare.fake_machine import FakeMachine, Kernel, Plans, build, request
from unit.prepare.traps import Killed, Trap, TrappedJournal, kill_for_good, raise_killed

from devagent.model.preparation import Preparation, Refusal
from devagent.prepare.executor import Executor
from devagent.prepare.recovery import recover
from devagent.prepare.runs import REBOOTED, Patience

CONSUMER: Final = "4b20d080-1b54-4048-85b3-a6a62d165c01"


@dataclass
class Life:
    """One agent process: its executor, on the machine and the journal in a directory."""

    scenario: Scenario
    directory: Path
    trap: Trap = field(default_factory=Trap)
    boot_id: str = "boot 1"

    def __post_init__(self) -> None:
        self.kernel = Kernel(self.directory / "machine.json")
        self.journal = TrappedJournal(self.directory / "journal.db", self.boot_id)
        self.machine = FakeMachine(self.kernel)
        self.machine.failing = set(self.scenario.failing)
        patience = Patience(undo=60.0, look_again=0.01, tombstone=0.0)
        self.executor = Executor(self.journal, self.machine, patience)
        self.kernel.trap = self.journal.trap = self.trap

    def prepare(self) -> Preparation | Refusal:
        asked = request(CONSUMER, *self.scenario.classes)
        return self.executor.prepare(asked, Plans(self.kernel, asked), 60.0)

    def release(self) -> Refusal | None:
        return self.executor.release(CONSUMER, Plans(self.kernel).release, 60.0)

    def recover(self) -> None:
        left = recover(self.journal, self.executor)
        # A release that a boot has interrupted goes on when it is asked for anew, with what is there then.
        assert set(left.values()) <= ({REBOOTED} if self.boot_id != "boot 1" else set())

    def seen(self) -> tuple[object, ...]:
        """Gives all that the next user of the host, of the API or of the journal could see."""
        entry = self.journal.get(CONSUMER)
        shown = entry and (entry.preparation.state, entry.preparation.handles, entry.release)
        return self.kernel.state(), shown, self.journal.holdings().consumers


@contextmanager
def living(*arguments: Any, **named: Any) -> Iterator[Life]:
    life = Life(*arguments, **named)
    try:
        yield life
    finally:
        life.journal.close()


@dataclass(frozen=True)
class Scenario:
    """What is done while somebody is killed, and tried again after each restart."""

    name: str
    act: Callable[[Life], object]
    classes: tuple[str, ...]
    ready: bool = False
    failing: frozenset[tuple[str, str]] = frozenset()


def scenarios(classes: tuple[str, ...], last: tuple[str, str]) -> tuple[Scenario, ...]:
    """Gives the three of them for some classes, of which the `last` step can fail."""
    return (
        Scenario("prepare", Life.prepare, classes),
        Scenario("prepare that fails", Life.prepare, classes, failing=frozenset({last})),
        Scenario("release", Life.release, classes, ready=True),
    )


FULL: Final = scenarios(("VF", "MDEV", "FPGA", "VGPU"), ("set_vgpu_type", "0000:10:1e.0"))
SMALL: Final = scenarios(("VF",), ("bind", "0000:10:01.0"))
boots = pytest.mark.parametrize("boot_id", ["boot 1", "boot 2"], ids=["same boot", "after a reboot"])


def name(scenario: Scenario) -> str:
    return scenario.name


def start(scenario: Scenario, directory: Path) -> Path:
    """Makes a machine and a journal in a directory, as they are before the scenario's act."""
    directory.mkdir()
    build(Kernel(directory / "machine.json"), cards=1, vfs=1)
    with living(scenario, directory) as life:
        if scenario.ready:
            prepared = life.prepare()
            assert isinstance(prepared, Preparation)
            for handle in prepared.handles:
                life.kernel.used(handle)
    return directory


def expected(scenario: Scenario, begun: Path, scratch: Path) -> tuple[object, ...]:
    """Gives what is seen where nobody is killed."""
    with living(scenario, copied(begun, scratch)) as life:
        at_rest = life.kernel.state()
        scenario.act(life)
        assert (life.kernel.state() == at_rest) == bool(scenario.failing)
        return life.seen()


def copied(source: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    return Path(shutil.copytree(source, to))


@pytest.fixture
def top(tmp_path: Path) -> Iterator[Path]:
    """Gives a directory in memory: thousands of commits are not the disk's affair here."""
    memory = Path("/dev/shm")
    made = memory / f"devagent-{os.getpid()}-{tmp_path.name}" if memory.is_dir() else tmp_path / "top"
    made.mkdir()
    yield made
    shutil.rmtree(made)


def run(scenario: Scenario, directory: Path, trap: Trap, *, recovering: bool) -> None:
    """Acts until the trap kills, if it does."""
    with living(scenario, directory, trap) as life:
        if recovering:
            life.recover()
        else:
            scenario.act(life)


def killed_here(scenario: Scenario, directory: Path, at: int, *, recovering: bool) -> bool:
    """Runs in this process; tells whether it came as far as the point `at`."""
    try:
        run(scenario, directory, Trap(at, raise_killed), recovering=recovering)
    except Killed:
        return True
    return False


def killed_for_good(scenario: Scenario, directory: Path, at: int, *, recovering: bool) -> bool:
    """Runs in a process that gets a real SIGKILL; tells whether it came as far as the point `at`."""
    child = os.fork()
    if not child:
        try:
            run(scenario, directory, Trap(at, kill_for_good), recovering=recovering)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


def settled(scenario: Scenario, directory: Path, boot_id: str = "boot 1") -> tuple[object, ...]:
    """Starts anew, recovers, tries once more, and gives what is seen then."""
    with living(scenario, directory, boot_id=boot_id) as life:
        life.recover()
        scenario.act(life)
        return life.seen()


@boots
@pytest.mark.parametrize("scenario", FULL, ids=name)
def test_sigkill_at_every_point_leaves_the_same_end(scenario: Scenario, boot_id: str, top: Path) -> None:
    begun = start(scenario, top / "begun")
    wanted = expected(scenario, begun, top / "scratch")
    for point in range(10_000):
        once = copied(begun, top / "once")
        killed = killed_for_good(scenario, once, point, recovering=False)
        if boot_id != "boot 1":
            Kernel(once / "machine.json").reboot()
        assert settled(scenario, once, boot_id) == wanted, point
        if not killed:
            break
    assert point > 50
    print(f"{scenario.name}: SIGKILL at {point} points")  # noqa: T201 - the figure


@pytest.mark.parametrize("scenario", FULL, ids=name)
def test_sigkill_at_every_point_of_the_recovery_leaves_the_same_end(scenario: Scenario, top: Path) -> None:
    begun = start(scenario, top / "begun")
    wanted = expected(scenario, begun, top / "scratch")
    halfway = copied(begun, top / "halfway")
    assert killed_for_good(scenario, halfway, 40, recovering=False)
    for point in range(10_000):
        once = copied(halfway, top / "once")
        killed = killed_for_good(scenario, once, point, recovering=True)
        assert settled(scenario, once) == wanted, point
        if not killed:
            break
    assert point > 10
    print(f"{scenario.name}: SIGKILL at {point} points of the recovery")  # noqa: T201 - the figure


@pytest.mark.parametrize("scenario", SMALL, ids=name)
def test_a_kill_at_every_point_and_again_in_the_recovery_leaves_the_same_end(scenario: Scenario, top: Path) -> None:
    begun = start(scenario, top / "begun")
    wanted = expected(scenario, begun, top / "scratch")
    pairs = 0
    for first in range(10_000):
        once = copied(begun, top / "once")
        if not killed_here(scenario, once, first, recovering=False):
            break
        for second in range(10_000):
            twice = copied(once, top / "twice")
            if not killed_here(scenario, twice, second, recovering=True):
                break
            pairs += 1
            assert settled(scenario, twice) == wanted, (first, second)
    assert pairs > 100
    print(f"{scenario.name}: {pairs} pairs of points")  # noqa: T201 - the figure


def test_sigkill_at_any_moment_leaves_the_same_end(top: Path) -> None:
    """Also within a commit, which the points above are never in."""
    scenario = FULL[0]
    begun = start(scenario, top / "begun")
    wanted = expected(scenario, begun, top / "scratch")
    moments = random.Random(7)
    for _ in range(40):
        child = os.fork()
        if not child:
            with living(scenario, begun) as life:
                while True:
                    life.prepare()
                    life.release()
        time.sleep(moments.uniform(0.0, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert settled(scenario, begun) == wanted
        with living(scenario, begun) as life:
            assert life.release() is None
