# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Brings one consumer's preparation to one of its ends: ready, undone, or released.

The caller holds the consumer's lock; those of the PFs and IOMMU groups are taken here. What hangs keeps none: its
consumer keeps the device in the journal, so that nobody gets it, and the caller is told to try another host.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Final

from devagent.errors import DevagentError, JournalError
from devagent.model.plan import Plan
from devagent.model.preparation import Preparation, Refusal, RefusalKind
from devagent.prepare.entry import Entry
from devagent.prepare.journal import Journal
from devagent.prepare.locking import Busy, Locks
from devagent.prepare.machine import Machine, StepFailed, StepStuck
from devagent.prepare.steps import Phases, Walk, after_reboot, lasting

TOO_LATE: Final = Refusal(RefusalKind.RETRY, "the agent was restarted meanwhile, and no time was left")
REBOOTED: Final = Refusal(RefusalKind.RETRY, "the host was rebooted meanwhile")
_NOT_UNDONE: Final = "; then it could not be undone: "
RELEASED: Final = Refusal(RefusalKind.RETRY, "it was released while it was being prepared")


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: for undoing what failed, between two looks at a busy device, and of a tombstone after a crash."""

    undo: float = 60.0
    look_again: float = 1.0
    tombstone: float = 30.0


Strangers = Callable[[Preparation], frozenset[str] | Refusal]
"""Gives the functions of a plan at whose addresses other devices stand now; a Refusal while that cannot be told."""


def nobody(_: Preparation) -> frozenset[str]:
    """Says that all devices are where they were."""
    return frozenset()


class Cancelled(DevagentError):
    """The consumer is being released while it is being prepared."""


class Changes:
    """Counts what was given back, so that who waits for a device can wait for the next such moment."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.count = 0

    def tell(self) -> None:
        """Wakes everybody who waits."""
        with self._condition:
            self.count += 1
            self._condition.notify_all()

    def wait(self, count: int, seconds: float) -> None:
        """Waits until more than `count` were told, and no longer than `seconds`."""
        with self._condition:
            self._condition.wait_for(lambda: self.count != count, max(0.0, seconds))


class Runs:
    """Walks plans under their locks. Every call may raise JournalError."""

    def __init__(self, journal: Journal, machine: Machine, locks: Locks, changes: Changes, patience: Patience) -> None:
        self._journal, self._machine, self._locks = journal, machine, locks
        self._changes, self._patience = changes, patience
        self._unsaid: dict[str, Refusal] = {}

    def given_up(self, consumer: str) -> Refusal | None:
        """Gives why a preparation has failed of which the journal could not be told that yet."""
        return self._unsaid.get(consumer)

    def forward(
        self, preparation: Preparation, until: float, phases: Phases, go_on: Callable[[], None]
    ) -> Preparation | Refusal:
        """Does what is left of a preparation; gives it when it is ready, or undoes it and says why."""
        consumer = preparation.consumer
        try:
            with self._locked(preparation.plan, until, phases):
                try:
                    Walk(self._journal, self._machine, until, phases, go_on).prepare(preparation)
                    return self.known(consumer).preparation
                except StepStuck as error:
                    return self._give_up(consumer, error.refusal)
                except (StepFailed, Cancelled, JournalError) as error:
                    return self._undo(self.known(consumer), refusal(error)) or refusal(error)
        except Busy as error:
            return self._give_up(consumer, refusal(error))

    def back(self, entry: Entry, why: Refusal, strangers: Strangers) -> Refusal | None:
        """Undoes what is left of a preparation that was given up; None when all is back. Raises Busy."""
        preparation = entry.preparation
        if not self.is_of_this_boot(preparation):
            kept = lasting(preparation.plan)
            if kept & preparation.found.keys():
                strange = strangers(preparation)
                if isinstance(strange, Refusal):
                    return strange
                kept = frozenset(number for number in kept if preparation.plan.steps[number].target not in strange)
            self._journal.rebooted(preparation.consumer, kept)
            entry = self.known(preparation.consumer)
        with self._locked(preparation.plan, time.monotonic() + self._patience.undo, Phases()):
            return self._undo(entry, why)

    def release(self, entry: Entry, plan: Plan, until: float, tombstone: float) -> Refusal | None:
        """Walks a release to its end, of which the journal may have a part already; None when the devices are free."""
        consumer = entry.preparation.consumer
        if not self.is_of_this_boot(entry.preparation):
            plan = after_reboot(plan)
        if plan != entry.release:
            self._journal.releasing(consumer, plan)
        phases = Phases()
        try:
            with self._locked(plan, until, phases):
                Walk(self._journal, self._machine, until, phases).release(self.known(consumer))
        except (StepFailed, StepStuck, Busy) as error:
            self._journal.blocked(consumer, refusal(error))
            return refusal(error)
        self.forget(consumer, tombstone)
        return None

    def is_true(self, preparation: Preparation, until: float) -> bool:
        """Tells whether the devices are still as they were made. Raises StepStuck."""
        return Walk(self._journal, self._machine, until).holds(preparation)

    def again(self, entry: Entry, until: float) -> Preparation:
        """Gives a preparation that was given once, but is not so any more, to be done once more."""
        preparation = entry.preparation
        kept = frozenset(preparation.found)
        if not self.is_of_this_boot(preparation):
            kept &= lasting(preparation.plan)
        self._journal.again(preparation.consumer, time.time() + until - time.monotonic(), kept)
        return self.known(preparation.consumer).preparation

    def forget(self, consumer: str, tombstone: float) -> None:
        """Frees the devices, of which nothing is left to bring back; for `tombstone` seconds no retry begins again."""
        self._journal.forget(consumer, time.time(), tombstone)
        self._unsaid.pop(consumer, None)
        self._changes.tell()

    def is_of_this_boot(self, preparation: Preparation) -> bool:
        """Tells whether the host has not been booted since."""
        return preparation.boot_id == self._journal.boot_id

    def known(self, consumer: str) -> Entry:
        """Gives what the journal has of a consumer that it has."""
        entry = self._journal.get(consumer)
        assert entry is not None, "whoever holds the consumer's lock is the only one to forget it"
        return entry

    def _undo(self, entry: Entry, why: Refusal) -> Refusal | None:
        left: Refusal | None = None
        try:
            Walk(self._journal, self._machine, time.monotonic() + self._patience.undo).undo(entry.preparation)
        except (StepFailed, StepStuck) as error:
            again = refusal(error)
            first = why.reason.partition(_NOT_UNDONE)[0]
            left = replace(again, reason=f"{first}{_NOT_UNDONE}{again.reason}")
        self._failed(entry.preparation.consumer, left or why)
        self._changes.tell()
        return left

    def _give_up(self, consumer: str, why: Refusal) -> Refusal:
        """Leaves the machine alone: what was begun is kept for a later time, and the devices with it."""
        self._failed(consumer, why)
        return why

    def _failed(self, consumer: str, why: Refusal) -> None:
        # With the disk full the journal goes on to say that it is on its way; nobody shall take it up again.
        self._unsaid[consumer] = why
        self._journal.failed(consumer, why)
        del self._unsaid[consumer]

    @contextmanager
    def _locked(self, plan: Plan, until: float, phases: Phases) -> Iterator[None]:
        with ExitStack() as stack:
            with phases("locks"):
                stack.enter_context(self._locks.holding(plan.locks, until))
            yield


def refusal(error: DevagentError) -> Refusal:
    """Gives what a caller is told of an error."""
    if isinstance(error, (StepFailed, StepStuck)):
        return error.refusal
    if isinstance(error, Cancelled):
        return RELEASED
    return Refusal(RefusalKind.RETRY, str(error))
