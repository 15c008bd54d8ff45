# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What was promised to whom and how far it is: written before anything is done, and read after a crash.

    begin ── intend ── did, intend ── did, finish ── (leaving) ── releasing ── released ── forget
               └── undone ──┘ failed                                     a tombstone, for a while ──┘

Each of these is durable when it returns. A step that is intended and not done may or may not have happened.

`trusted` is False after a damaged journal was set aside, until an operator removes a file (see database.py). Then there
may be consumers with devices, and changes of the machine, that nothing in here tells of. So the agent gives only what
is provably free (proof.py), and leaves alone whatever it cannot explain: it neither releases nor removes it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from devagent.errors import DevagentError
from devagent.model.handle import MdevHandle
from devagent.model.plan import Arguments, Plan
from devagent.model.preparation import Preparation, Refusal, State
from devagent.prepare.database import Database, Taken, Transaction
from devagent.prepare.encoding import encode, text
from devagent.prepare.entry import Entry, leaving
from devagent.prepare.journal_reader import JournalReader, boottime
from devagent.prepare.journal_tables import MIGRATIONS, SETTLED

LOG = logging.getLogger(__name__)

_FAILURES_KEPT_S: Final = 86400.0
"""For how many seconds a preparation that failed and left nothing behind can be looked at."""
_FAILURES_KEPT: Final = 256
"""No more than so many of them: there are callers that never release what they were refused."""

Found = Mapping[int, Arguments]
"""By the number of a step what it found."""
_NOTHING: Final[Found] = {}


class Held(DevagentError):
    """Another consumer has the device; `key` is its address or UUID."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key}: another consumer has it")
        self.key = key


class Journal(JournalReader):
    """The journal at `path`, written during the boot `boot_id`. Every call may raise JournalError."""

    def __init__(self, path: Path, boot_id: str, boottime: Callable[[], float] = boottime) -> None:
        super().__init__(Database(path, MIGRATIONS), boot_id, boottime)

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def begin(self, preparation: Preparation) -> None:
        """Promises a plan's devices to a consumer who has none. Raises Held if another one has one of them."""
        with self._database.transaction() as transaction:
            self._drop_tombstones(transaction)
            old = preparation.created - _FAILURES_KEPT_S
            transaction.delete(
                "preparations", f"(consumer = ? OR created < ?) AND {SETTLED}", preparation.consumer, old
            )
            self._drop_failures(transaction)
            self._write(transaction, Entry(preparation), new=True)
            for handle in preparation.plan.handles:
                parent = handle.parent if isinstance(handle, MdevHandle) else None
                try:
                    transaction.add("holdings", handle.key, preparation.consumer, parent)
                except Taken:
                    raise Held(handle.key) from None

    def intend(self, consumer: str, number: int, found: Arguments, done: Found = _NOTHING) -> None:
        """Says that a step is about to be done, and what it finds: what there is to bring back.

        `done` are steps that were done and verified meanwhile, by number, with what each found: one commit for all.
        """
        with self._database.transaction() as transaction:
            self._did(transaction, consumer, done)
            transaction.put("steps", consumer, 0, number, 0, text(dict(found)))

    def undone(self, consumer: str, number: int) -> None:
        """Says that what the step found is back."""
        with self._database.transaction() as transaction:
            transaction.delete("steps", "consumer = ? AND releasing = 0 AND number = ?", consumer, number)

    def finish(self, consumer: str, timings: Mapping[str, float], done: Found = _NOTHING) -> None:
        """Says that the plan's handles are true; `timings` are seconds by phase, `done` the last steps: see intend."""
        with self._database.transaction() as transaction:
            self._did(transaction, consumer, done)
            entry = self._known(transaction, consumer)
            preparation = entry.preparation
            changed = replace(
                preparation, state=State.PREPARED, handles=preparation.plan.handles, timings=timings, error=None
            )
            self._write(transaction, replace(entry, preparation=changed))

    def failed(self, consumer: str, error: Refusal) -> None:
        """Says that a preparation has failed; one with steps to take back, or once given, holds its devices on."""
        with self._database.transaction() as transaction:
            entry = self._known(transaction, consumer)
            preparation = replace(entry.preparation, state=State.FAILED, error=error)
            self._write(transaction, replace(entry, preparation=preparation))
            if not entry.given and not preparation.found:
                transaction.delete("holdings", "consumer = ?", consumer)

    def again(self, consumer: str, deadline: float, kept: frozenset[int]) -> None:
        """Starts a preparation that was given once anew, with the same plan; only the steps of `kept` count as done."""
        with self._database.transaction() as transaction:
            entry = self._known(transaction, consumer)
            self._forget_steps(transaction, entry, kept)
            changed = replace(
                entry.preparation, state=State.PREPARING, boot_id=self.boot_id, deadline=deadline, timings={}
            )
            if changed.term is not None:
                seconds = changed.term.seconds
                changed = replace(changed, term=self.term(seconds), expires=time.time() + seconds)
            self._write(transaction, Entry(changed))

    def rebooted(self, consumer: str, kept: frozenset[int]) -> None:
        """Forgets the steps of an earlier boot but those of `kept`, whose effect a boot does not end."""
        with self._database.transaction() as transaction:
            entry = self._known(transaction, consumer)
            self._forget_steps(transaction, entry, kept)
            self._write(transaction, replace(entry, preparation=replace(entry.preparation, boot_id=self.boot_id)))

    def releasing(self, consumer: str, plan: Plan) -> None:
        """Begins to bring the devices back by a plan; from now on the handles are not true."""
        with self._database.transaction() as transaction:
            entry = self._known(transaction, consumer)
            transaction.delete("steps", "consumer = ? AND releasing = 1", consumer)
            since = entry.preparation.ended or time.time()
            preparation = replace(
                entry.preparation, state=State.RELEASING, boot_id=self.boot_id, error=None, ended=since
            )
            self._write(transaction, Entry(preparation, plan))

    def released(self, consumer: str, number: int) -> None:
        """Says that a step of the release was done and verified."""
        with self._database.transaction() as transaction:
            transaction.put("steps", consumer, 1, number, 1, "{}")

    def blocked(self, consumer: str, error: Refusal) -> None:
        """Says why a release does not go on."""
        with self._database.transaction() as transaction:
            entry = self._known(transaction, consumer)
            self._write(transaction, replace(entry, preparation=replace(entry.preparation, error=error)))

    def held_up(self, consumer: str, error: Refusal) -> None:
        """Says why a release cannot be planned: what was given is leaving, what was leaving is blocked."""
        with self._database.transaction() as transaction:
            entry = self._known(transaction, consumer)
            changed = leaving(entry, error) or replace(entry, preparation=replace(entry.preparation, error=error))
            if changed != entry:
                self._write(transaction, changed)

    def displaced(self, consumer: str, keys: Collection[str]) -> None:
        """Says that other devices have these addresses now, and are anybody's; what is owed for its own stays."""
        with self._database.transaction() as transaction:
            for each in keys:
                transaction.delete("holdings", "consumer = ? AND key = ?", consumer, each)

    def leaving(self, consumer: str, error: Refusal) -> None:
        """Says that what was given is to be released, and what keeps that from beginning; the handles count no more.

        What is to be undone first stays as it is.
        """
        with self._database.transaction() as transaction:
            for entry in self._entries("consumer = ?", consumer, within=transaction):
                changed = leaving(entry, error)
                if changed is not None:
                    self._write(transaction, changed)

    def lasts(self, consumer: str) -> None:
        """Says that a virtual machine has used the devices: they do not expire any more."""
        with self._database.transaction() as transaction:
            if transaction.rows("SELECT 1 FROM preparations WHERE consumer = ?", consumer):
                entry = self._known(transaction, consumer)
                self._write(
                    transaction, replace(entry, preparation=replace(entry.preparation, expires=None, term=None))
                )

    def forget(self, consumer: str, now: float, tombstone: float) -> None:
        """Ends it: the devices are free, since `now` (epoch seconds).

        For `tombstone` seconds a late retry cannot begin it again.
        """
        with self._database.transaction() as transaction:
            for (address,) in transaction.rows(
                "SELECT coalesce(parent, key) FROM holdings WHERE consumer = ?", consumer
            ):
                transaction.put("released", address, float(now))
            for table in ("preparations", "steps", "holdings"):
                transaction.delete(table, "consumer = ?", consumer)
            self._drop_tombstones(transaction)
            if tombstone > 0:
                ends = self.term(tombstone).ends
                transaction.put("tombstones", consumer, self.boot_id, float(ends), float(tombstone))

    @staticmethod
    def _drop_failures(transaction: Transaction) -> None:
        # In the order in which they were written last, whatever the clock was then.
        query = f"SELECT consumer FROM preparations WHERE {SETTLED} ORDER BY rowid DESC LIMIT -1 OFFSET ?"  # noqa: S608
        for (consumer,) in transaction.rows(query, _FAILURES_KEPT):
            LOG.info("%s had failed and nobody released it: more than %d have failed since", consumer, _FAILURES_KEPT)
            transaction.delete("preparations", "consumer = ?", consumer)

    def _drop_tombstones(self, transaction: Transaction) -> None:
        now = self._boottime()
        transaction.delete("tombstones", "boot_id = ? AND ends <= ?", self.boot_id, now)
        transaction.delete("tombstones", "boot_id != ? AND seconds <= ?", self.boot_id, now)

    def _known(self, transaction: Transaction, consumer: str) -> Entry:
        (entry,) = self._entries("consumer = ?", consumer, within=transaction)
        return entry

    @staticmethod
    def _did(transaction: Transaction, consumer: str, done: Found) -> None:
        for number, found in done.items():
            transaction.put("steps", consumer, 0, number, 1, text(dict(found)))

    @staticmethod
    def _forget_steps(transaction: Transaction, entry: Entry, kept: frozenset[int]) -> None:
        consumer = entry.preparation.consumer
        for number in entry.preparation.found.keys() - kept:
            transaction.delete("steps", "consumer = ? AND releasing = 0 AND number = ?", consumer, number)

    @staticmethod
    def _write(transaction: Transaction, entry: Entry, *, new: bool = False) -> None:
        preparation = entry.preparation
        write = transaction.add if new else transaction.put
        write(
            "preparations", preparation.consumer, preparation.state.value, preparation.boot_id,
            float(preparation.created), encode(preparation, entry.release),
        )  # fmt: skip
