# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Takes a plan's steps forward and back, each under the journal and read back from the machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Final

from devagent.errors import JournalError
from devagent.model.plan import Arguments, Plan, Step
from devagent.model.preparation import Preparation, RefusalKind
from devagent.prepare.entry import Entry
from devagent.prepare.journal import Journal
from devagent.prepare.machine import Gone, Machine, StepFailed
from devagent.prepare.verbs import VERBS, WIPING, inverse

_LASTING: Final = ("program_fpga", "set_mig_mode")
"""What a boot may leave as it was: an FPGA keeps its image over a warm boot, some GPUs their MIG mode."""


@dataclass(slots=True)
class Phases:
    """Adds up the seconds spent in each phase."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Counts the time within to the phase `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@dataclass(frozen=True, slots=True)
class Walk:
    """One walk over the steps of a plan, which must end by `until` (seconds of time.monotonic).

    `go_on` is asked before each step of a preparation, and raises if it shall not be done.
    """

    journal: Journal
    machine: Machine
    until: float
    phases: Phases = field(default_factory=Phases)
    go_on: Callable[[], None] = lambda: None

    def prepare(self, preparation: Preparation) -> None:
        """Does what is not done of a plan, and has the journal say that it is ready.

        Raises StepFailed, StepStuck, JournalError or what `go_on` raises.
        """
        consumer = preparation.consumer
        # Told with the next thing that is: until then the step counts as begun, and would be done or undone once more.
        unsaid: dict[int, Arguments] = {}
        for number, step in enumerate(preparation.plan.steps):
            self.go_on()
            found = preparation.found.get(number)
            # Somebody may have been at the machine while nobody walked here.
            done = number in preparation.done and (_has_no_inverse(step) or self._holds(_from(step, found)))
            if done:
                continue
            if found is None:
                found = self._before(step)
                with self.phases("journal"):
                    self.journal.intend(consumer, number, found, unsaid)
                unsaid.clear()
            self._do(_from(step, found))
            unsaid[number] = found
        with self.phases("journal"):
            self.journal.finish(consumer, self.phases.seconds, unsaid)

    def _before(self, step: Step) -> Arguments:
        with self.phases("looking"):
            return self.machine.before(step, self._left(step)) if _comes_back(step) else {}

    def holds(self, preparation: Preparation) -> bool:
        """Tells whether the machine is as all steps made it. Raises StepStuck."""
        try:
            return all(_has_no_inverse(step) or self._holds(step) for step in preparation.plan.steps)
        except StepFailed:
            return False

    def undo(self, preparation: Preparation) -> None:
        """Brings back what the steps begun have found, last first. Raises StepFailed, StepStuck or JournalError.

        It stops at the first that fails: what came before may stand on it.
        """
        for number in sorted(preparation.found, reverse=True):
            back = inverse(_from(preparation.plan.steps[number], preparation.found[number]))
            if back is not None:
                self._bring_back(back)
            # Unmarked it would be brought back once more, which changes nothing: better than to stop here.
            with self.phases("journal"), suppress(JournalError):
                self.journal.undone(preparation.consumer, number)

    def _bring_back(self, step: Step) -> None:
        try:
            self._do(step)
        except Gone:
            pass
        except StepFailed:
            # What never was changed cannot be in the way, even if it refuses to be written. Of an FPGA nobody knows:
            # what it says that it is does not tell what its consumer left in it.
            if step.verb == "program_fpga" or not self._holds(step):
                raise

    def release(self, entry: Entry) -> None:
        """Does what is not done of the plan that releases; the last step is for the caller to tell, with the end.

        Raises StepFailed, StepStuck or JournalError.
        """
        walk, steps = self, entry.release.steps if entry.release else ()
        for number, step in enumerate(steps):
            if number not in entry.released:
                begun = time.monotonic()
                walk._give_back(step)
                if step.verb == "scrub":
                    # It takes as long as the device needs, and what comes after it has its time all the same.
                    walk = replace(walk, until=walk.until + time.monotonic() - begun)
                if number + 1 < len(steps):
                    with self.phases("journal"):
                        self.journal.released(entry.preparation.consumer, number)

    def _give_back(self, step: Step) -> None:
        try:
            self._do(step)
        except Gone as gone:
            # It may come back, and then with everything that its last tenant left.
            if step.verb in WIPING:
                way_out = "put it back, or say `devagent preparations forget`"
                reason = f"{step.target} is not there, so it cannot be wiped: {way_out}"
                raise StepFailed(RefusalKind.RETRY, reason, step.target) from gone

    def _do(self, step: Step) -> None:
        with self.phases("doing"):
            self.machine.do(step, self._left(step))
        if not _has_no_inverse(step) and not self._holds(step):
            wanted = ", ".join(f"{name}={value}" for name, value in sorted(step.arguments.items()))
            reason = f"{step.target}: {step.verb} ({wanted}) reported success, but the device is not so"
            raise StepFailed(RefusalKind.RETRY, reason, step.target)

    def _holds(self, step: Step) -> bool:
        with self.phases("looking"):
            return self.machine.check(step, self._left(step))

    def _left(self, step: Step) -> float:
        left = self.until - time.monotonic()
        if left <= 0:
            raise StepFailed(RefusalKind.RETRY, f"{step.target}: no time was left for {step.verb}", step.target)
        return left


def lasting(plan: Plan) -> frozenset[int]:
    """Gives the numbers of the steps whose effect a boot may leave as it was."""
    return frozenset(number for number, step in enumerate(plan.steps) if step.verb in _LASTING)


def after_reboot(release: Plan) -> Plan:
    """Gives what is left of a release once the host has booted: what lasts, and what wipes or resets."""
    left = tuple(step for step in release.steps if step.verb in _LASTING or _has_no_inverse(step))
    return replace(release, steps=left)


def _from(step: Step, found: Arguments | None) -> Step:
    """Gives a step with what it has really found, which counts more than what the plan expected."""
    return step if found is None or step.undo is None else replace(step, undo=found)


def _comes_back(step: Step) -> bool:
    """Tells whether something takes the step back: an FPGA that the policy has no blank image for keeps what it has."""
    return not _has_no_inverse(step) and step.undo is not None


def _has_no_inverse(step: Step) -> bool:
    return VERBS[step.verb].inverse is None
