# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Prepares and releases: each call brings a consumer from wherever the journal has it to where the caller wants it.

    consumer's lock ── plan and begin (one at a time: nothing but thinking and one commit)
                    └─ locks of the PFs and IOMMU groups ── the steps ── finish, or undo and fail

Nobody waits for a busy device while holding the lock of one, and nobody at all for one that is stuck.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from devagent.errors import JournalError, PreparedOtherwise
from devagent.model.plan import Group, Plan
from devagent.model.preparation import Holder, Holdings, Preparation, Refusal, RefusalKind, State
from devagent.prepare.entry import Entry
from devagent.prepare.journal import Held, Journal
from devagent.prepare.locking import Busy, Locks
from devagent.prepare.machine import Machine, StepStuck
from devagent.prepare.proof import unproven
from devagent.prepare.runs import (
    REBOOTED,
    RELEASED,
    TOO_LATE,
    Cancelled,
    Changes,
    Patience,
    Runs,
    Strangers,
    nobody,
    refusal,
)
from devagent.prepare.steps import Phases

Planner = Callable[[Holdings], Plan | Refusal]
Releaser = Callable[[Preparation], Plan | Refusal]
Veto = Callable[[Preparation], Refusal | None]

_PATIENCE: Final = Patience()


@dataclass(frozen=True, slots=True)
class Request:
    """What a consumer asks for; it is released if no virtual machine has used it after `expires_in` seconds."""

    consumer: str
    groups: tuple[Group, ...]
    project_id: str | None = None
    expires_in: float | None = None


class Executor:
    """Serves any number of consumers at once. Its calls block; whatever does not work is a Refusal.

    With `looks_first` a release that was interrupted and has still to wipe goes on by release() alone, whose planner
    sees whether another device stands there by now.
    """

    def __init__(
        self, journal: Journal, machine: Machine, patience: Patience = _PATIENCE, *, looks_first: bool = False
    ) -> None:
        self._journal, self._patience, self._looks_first = journal, patience, looks_first
        self._locks, self._changes = Locks(), Changes()
        self._runs = Runs(journal, machine, self._locks, self._changes, patience)
        self._planning = threading.Lock()
        self._released: set[str] = set()

    def prepare(
        self,
        request: Request,
        plan: Planner,
        seconds: float,
        *,
        wait: float = 0.0,
        phases: Phases | None = None,
        strangers: Strangers = nobody,
        veto: Veto = lambda _: None,
    ) -> Preparation | Refusal:
        """Makes the devices of a request ready within `seconds`; the same request again gives the same answer.

        `plan` is given what others hold, must not wait itself, and is asked again for `wait` seconds while a device
        is busy. `phases` has what the caller took before. `strangers` and `veto` are asked before what was given
        once is made again, as after a boot: whose devices those are, and what else speaks against it.

        Raises PreparedOtherwise.
        """
        now = time.monotonic()
        try:
            with self._locks.holding((_lock(request.consumer),), now + seconds):
                earlier = self._earlier(request, now + seconds, strangers, veto)
                if earlier is not None:
                    return earlier
                return self._new(request, plan, now + seconds, now + min(wait, seconds), phases or Phases())
        except (Busy, JournalError, StepStuck) as error:
            return refusal(error)

    def release(
        self,
        consumer: str,
        plan: Releaser,
        seconds: float,
        *,
        tombstone: float = 0.0,
        strangers: Strangers = nobody,
    ) -> Refusal | None:
        """Makes sure within `seconds` that a consumer has nothing; None when that is so.

        `plan` must see the machine as it is after this call has begun; it is asked again while a device is busy.
        For `tombstone` seconds afterwards no retry of an earlier call can prepare the consumer again.
        """
        until = time.monotonic() + seconds
        try:
            with self._cancelling(consumer), self._locks.holding((_lock(consumer),), until):
                entry = self._journal.get(consumer)
                if entry is not None and entry.preparation.state in (State.PREPARED, State.RELEASING):
                    return self._release(entry, plan, until, tombstone)
                left = self._runs.back(entry, RELEASED, strangers) if entry is not None else None
                if left is not None:
                    return left
                if entry is not None and entry.given:
                    return self._release(self._runs.known(consumer), plan, until, tombstone)
                self._runs.forget(consumer, tombstone)
                return None
        except (Busy, JournalError) as error:
            return refusal(error)

    def forget(
        self, consumer: str, first: Callable[[Preparation], None], seconds: float, *, tombstone: float = 0.0
    ) -> Refusal | None:
        """Ends what cannot be brought back, and leaves the machine as it is; None when nothing is known of it any more.

        What is ready is refused, as is after `seconds` what is being done. `first` is called before devices go.
        """
        try:
            with self._locks.holding((_lock(consumer),), time.monotonic() + seconds):
                entry = self._journal.get(consumer)
                if entry is None:
                    return None
                state = entry.preparation.state
                if state in (State.PREPARED, State.PREPARING):
                    return Refusal(RefusalKind.INVALID, f"{consumer} is {state}: release it first")
                if entry.unfinished or entry.given:
                    first(entry.preparation)
                self._runs.forget(consumer, tombstone)
                return None
        except Busy:
            return Refusal(RefusalKind.RETRY, f"{consumer} is being released just now: let that end, then ask again")
        except JournalError as error:
            return refusal(error)

    def displaced(self, consumer: str, addresses: Collection[str]) -> None:
        """Frees addresses at which other devices stand now: see Journal. Raises JournalError."""
        self._journal.displaced(consumer, addresses)

    def given_up(self, consumer: str) -> Refusal | None:
        """Gives why a preparation has failed of which the journal, full as it is, says still that it is on its way."""
        return self._runs.given_up(consumer)

    def is_at_work(self, consumer: str) -> bool:
        """Tells whether a call for this consumer is under way."""
        return _lock(consumer) in self._locks

    def recover(self, consumer: str, strangers: Strangers = nobody) -> Refusal | None:
        """Finishes or undoes what an earlier process left of a consumer; None when nothing of it is left to do."""
        until = time.monotonic() + self._patience.undo
        try:
            with self._locks.holding((_lock(consumer),), until):
                entry = self._journal.get(consumer)
                return self._recover(entry, until, strangers) if entry is not None and entry.unfinished else None
        except (Busy, JournalError) as error:
            return refusal(error)

    def _recover(self, entry: Entry, until: float, strangers: Strangers) -> Refusal | None:
        preparation = entry.preparation
        if entry.leaving:  # how it is released is planned on a look, which nobody has here
            return _leaving(preparation)
        if entry.release is not None:
            return self._go_on_releasing(entry, entry.release, until)
        # No longer than it had at first, however far back the clock was set since.
        left = min(preparation.deadline - time.time(), preparation.deadline - preparation.created)
        given_up = self._runs.given_up(preparation.consumer)
        if given_up is not None:
            return self._runs.back(entry, given_up, strangers)
        in_time = preparation.state is State.PREPARING and left > 0 and self._runs.is_of_this_boot(preparation)
        if not in_time:
            return self._runs.back(entry, preparation.error or TOO_LATE, strangers)
        answer = self._forward(preparation, time.monotonic() + left)
        return answer if isinstance(answer, Refusal) and self._runs.known(preparation.consumer).unfinished else None

    def _earlier(
        self, request: Request, until: float, strangers: Strangers, veto: Veto
    ) -> Preparation | Refusal | None:
        """Gives the answer that follows from what the journal has of the consumer; None if that is nothing."""
        entry = self._journal.get(request.consumer)
        given_up = self._runs.given_up(request.consumer)
        if entry is not None and given_up is not None:
            left = self._runs.back(entry, given_up, strangers)
            if left is not None:
                return left
            entry = self._runs.known(request.consumer)
        if entry is None:
            return self._buried(request.consumer)
        if entry.release is not None:
            left = self._go_on_releasing(entry, entry.release, until)
            return left or self._buried(request.consumer)
        preparation = entry.preparation
        if entry.leaving:
            return _leaving(preparation)
        if preparation.state is State.FAILED and not entry.given:
            return self._runs.back(entry, preparation.error or TOO_LATE, strangers)
        if (preparation.groups, preparation.project_id) != (request.groups, request.project_id):
            raise PreparedOtherwise(request.consumer)
        if self._runs.is_of_this_boot(preparation):
            if preparation.state is State.PREPARING:
                return self._forward(preparation, until)
            if preparation.state is State.PREPARED and self._runs.is_true(preparation, until):
                return preparation
        if not entry.given:
            return self._runs.back(entry, REBOOTED, strangers)
        left = self._runs.back(entry, TOO_LATE, strangers) if preparation.state is State.FAILED else None
        left = left or _replaced(strangers(preparation)) or veto(preparation)
        return left or self._forward(self._runs.again(self._runs.known(preparation.consumer), until), until)

    def _go_on_releasing(self, entry: Entry, plan: Plan, until: float) -> Refusal | None:
        """Goes on with a plan of this boot: after another one its addresses may be those of other devices."""
        if not self._runs.is_of_this_boot(entry.preparation):
            return REBOOTED
        if self._looks_first and entry.wipes:
            return _leaving(entry.preparation)
        return self._runs.release(entry, plan, until, self._patience.tombstone)

    def _buried(self, consumer: str) -> Refusal | None:
        left = self._journal.tombstone(consumer)
        if left is None:
            return None
        return Refusal(RefusalKind.RETRY, f"{consumer} was released a moment ago: ask again in {left:.0f} s")

    def _new(
        self, request: Request, plan: Planner, until: float, wait_until: float, phases: Phases
    ) -> Preparation | Refusal:
        while True:
            changes = self._changes.count
            with phases("planning"):
                begun = self._begin(request, plan, until)
            if isinstance(begun, Preparation):
                return self._forward(begun, until, phases)
            if request.consumer in self._released:
                return RELEASED
            if begun.kind is not RefusalKind.RETRY or time.monotonic() >= wait_until:
                return begun
            with phases("waiting"):
                self._await_change(changes, wait_until)

    def _begin(self, request: Request, plan: Planner, until: float) -> Preparation | Refusal:
        # What one planner chooses the next must see as held. The journal takes one at a time anyway.
        with self._planning:
            planned = plan(self._journal.holdings())
            if isinstance(planned, Refusal):
                return planned
            doubtful = None if self._journal.trusted else unproven(planned)
            if doubtful is not None:
                reason = (
                    f"{doubtful.key}: the journal was damaged, so it cannot be told whether somebody has this device"
                )
                return Refusal(RefusalKind.RETRY, reason, doubtful.function)
            now, seconds = time.time(), request.expires_in
            preparation = Preparation(
                request.consumer, request.groups, planned, State.PREPARING, now, self._journal.boot_id,
                now + until - time.monotonic(), project_id=request.project_id,
                expires=now + seconds if seconds else None, term=self._journal.term(seconds) if seconds else None,
            )  # fmt: skip
            try:
                self._journal.begin(preparation)
            except Held as held:
                holder = self._journal.holdings().consumers.get(held.key)
                return Refusal(RefusalKind.RETRY, str(held), held.key, (Holder(consumer=holder),))
            return preparation

    def _forward(self, preparation: Preparation, until: float, phases: Phases | None = None) -> Preparation | Refusal:
        def go_on() -> None:
            if preparation.consumer in self._released:
                raise Cancelled

        return self._runs.forward(preparation, until, phases or Phases(), go_on)

    def _release(self, entry: Entry, plan: Releaser, until: float, tombstone: float) -> Refusal | None:
        while True:
            changes = self._changes.count
            planned = plan(entry.preparation)
            if isinstance(planned, Plan):
                return self._runs.release(entry, planned, until, tombstone)
            if _is_away(planned):
                self._journal.held_up(entry.preparation.consumer, planned)
                return planned
            if planned.kind is not RefusalKind.RETRY or time.monotonic() >= until:
                return planned
            self._await_change(changes, until)

    def _await_change(self, changes: int, until: float) -> None:
        """Waits until something is given back, or until it is worth another look: a process ends unheard."""
        self._changes.wait(changes, min(self._patience.look_again, until - time.monotonic()))

    @contextmanager
    def _cancelling(self, consumer: str) -> Iterator[None]:
        self._released.add(consumer)
        self._changes.tell()
        try:
            yield
        finally:
            self._released.discard(consumer)


def _replaced(strangers: frozenset[str] | Refusal) -> Refusal | None:
    """Refuses to make again, on other devices, what was given."""
    if isinstance(strangers, Refusal):
        return strangers
    for place in sorted(strangers)[:1]:
        reason = f"{place} is another device than the one that was given: release the consumer, then ask again"
        return Refusal(RefusalKind.PERMANENT, reason, place)
    return None


def _is_away(refusal: Refusal) -> bool:
    """Tells whether a device is not there: who has one open may end at any moment, but for that nobody waits."""
    return refusal.kind is RefusalKind.RETRY and refusal.address is not None and not refusal.holders


def _leaving(preparation: Preparation) -> Refusal:
    why = preparation.error
    reason = f"{preparation.consumer} is being released, which waits" + (f": {why.reason}" if why else "")
    return Refusal(RefusalKind.RETRY, reason, why.address if why else None, why.holders if why else ())


def _lock(consumer: str) -> str:
    return f"consumer:{consumer}"
