# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Opens the journal of preparations, now or as soon as that works, and tells what is in the way meanwhile.

Without a journal nothing is prepared or released: every call here raises NotPrepared, in words. Nothing else of the
agent needs it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devagent.errors import JournalError, NotPrepared
from devagent.model.plan import Arguments
from devagent.model.preparation import Overview, Preparation, Refusal, RefusalKind, State
from devagent.prepare import recovery
from devagent.prepare.entry import Entry
from devagent.prepare.executor import Executor
from devagent.prepare.journal import Journal
from devagent.prepare.journal_reader import boottime
from devagent.service.facts import Refused
from devagent.service.preparing.noting import NotingMachine
from devagent.service.preparing.preparation import not_prepared
from devagent.service.preparing.preparer import Preparer

LOG = logging.getLogger(__name__)

FILE: Final = "preparations.db"
_DAMAGED: Final = (
    "the journal of preparations was damaged: devices that are not provably free are refused; "
    "docs/prepare.md says what to do"
)


@dataclass(frozen=True, slots=True)
class _Open:
    journal: Journal
    executor: Executor
    preparer: Preparer


class JournalKeeper:
    """Keeps one journal; `prepare` makes what prepares around the executor that writes in it."""

    def __init__(
        self,
        state_path: Path,
        boot_id: str,
        machine: NotingMachine,
        prepare: Callable[[Executor], Preparer],
        *,
        boottime: Callable[[], float] = boottime,
    ) -> None:
        self._path, self.boot_id, self._machine = state_path / FILE, boot_id, machine
        self._prepare, self._boottime = prepare, boottime
        self._lock = threading.Lock()
        self._open: _Open | None = None
        self._held: frozenset[str] | None = None
        self._failure = "the journal was not opened yet"

    @property
    def trouble(self) -> str | None:
        """What is amiss with the journal, None if nothing is."""
        if self._open is None:
            return f"nothing is prepared or released: {self._failure}"
        return None if self._open.journal.trusted else _DAMAGED

    def open(self) -> bool:
        """Opens the journal if that is not done yet; tells whether it is open."""
        with self._lock:
            if self._open is None:
                try:
                    journal = Journal(self._path, self.boot_id, self._boottime)
                except JournalError as error:
                    if self._failure != str(error):
                        LOG.error("nothing is prepared or released: %s", error)
                    self._failure = str(error)
                    return False
                executor = Executor(journal, self._machine, looks_first=True)
                self._open = _Open(journal, executor, self._prepare(executor))
            return True

    def recover(self) -> None:
        """Finishes or undoes what an earlier process left."""
        if self._open is not None:
            try:
                recovery.recover(self._open.journal, self._open.executor)
            except JournalError as error:
                LOG.error("what was under way when the agent ended is not finished: %s", error)

    @property
    def preparer(self) -> Preparer:
        """What prepares and releases. Raises NotPrepared."""
        return self._opened().preparer

    @property
    def executor(self) -> Executor:
        """What carries out. Raises NotPrepared."""
        return self._opened().executor

    def held(self) -> frozenset[str] | None:
        """Gives the addresses of functions that consumers have or are getting; None if that was never known."""
        if self._open is not None:
            try:
                holdings = self._open.journal.holdings()
                self._held = frozenset(holdings.parents.get(key, key) for key in holdings.consumers)
            except JournalError as error:
                LOG.warning("who has devices stays as it was last known: %s", error)
        return self._held

    def get(self, consumer: str) -> Entry | None:
        """Gives what is known of a consumer. Raises NotPrepared."""
        with _told():
            return self._opened().journal.get(consumer)

    def begun(self, verb: str, target: str) -> tuple[Arguments, ...]:
        """Gives what steps begun at a function have found: see Journal. Raises JournalError."""
        return self._open.journal.begun(verb, target) if self._open is not None else ()

    def entries(self) -> tuple[Entry, ...]:
        """Gives everything, in the order of the consumers. Raises NotPrepared."""
        with _told():
            return self._opened().journal.entries()

    def owed(self) -> tuple[Refused, ...]:
        """Gives the releases that do not go on before somebody does something, none while they cannot be read.

        A process that has a device open may end at any moment: that is none of them.
        """
        try:
            entries = self.entries()
        except NotPrepared:
            return ()
        found = [each.preparation for each in entries if each.preparation.state is State.RELEASING]
        return tuple(
            Refused(each.error.address, f"what consumer {each.consumer} had is not given back", each.error.reason)
            for each in found
            if each.error is not None and each.error.address is not None and not each.error.holders
        )

    def overview(self) -> Overview | None:
        """Gives all of it in a few numbers; None while it cannot be read."""
        try:
            return self._open.journal.overview() if self._open is not None else None
        except JournalError as error:
            LOG.warning("how many preparations there are cannot be told: %s", error)
            return None

    def has_expired(self, preparation: Preparation) -> bool:
        """Tells whether nobody waits any longer for a virtual machine to use it. Raises NotPrepared."""
        return self._opened().journal.has_expired(preparation)

    def lasts(self, consumer: str) -> None:
        """Notes that a virtual machine has used the devices, so that they do not expire. Raises NotPrepared."""
        with _told():
            self._opened().journal.lasts(consumer)

    def leaving(self, consumer: str, why: Refusal) -> None:
        """Notes that a consumer is to be released as soon as that is possible. Raises NotPrepared."""
        with _told():
            self._opened().journal.leaving(consumer, why)

    def close(self) -> None:
        """Closes the journal."""
        if self._open is not None:
            self._open.journal.close()

    def _opened(self) -> _Open:
        found = self._open
        if found is None:
            raise NotPrepared(RefusalKind.RETRY.value, str(self.trouble))
        return found


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except JournalError as error:
        raise not_prepared(Refusal(RefusalKind.RETRY, str(error))) from error
