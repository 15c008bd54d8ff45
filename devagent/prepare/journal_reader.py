# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the journal tells: of one consumer and of all, who has what, and for how long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from devagent.errors import JournalError
from devagent.model.plan import Arguments
from devagent.model.preparation import Holdings, Overview, Preparation, State
from devagent.model.term import Term
from devagent.prepare.database import Database, Transaction
from devagent.prepare.entry import Entry, decoded, stuck
from devagent.prepare.journal_tables import ENTRIES, STEPS


def boottime() -> float:
    """Gives the seconds since the host was booted, those included in which it was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class JournalReader:
    """Reads in `database` as of the boot `boot_id`. Every call may raise JournalError.

    How long something lasts is counted by `boottime`: a clock that is set changes nothing.
    """

    def __init__(self, database: Database, boot_id: str, boottime: Callable[[], float]) -> None:
        self._database, self.boot_id, self._boottime = database, boot_id, boottime

    @property
    def trusted(self) -> bool:
        """Whether it tells of everybody who has a device."""
        return self._database.trusted

    def get(self, consumer: str) -> Entry | None:
        """Gives what is known of a consumer."""
        return next(iter(self._entries("consumer = ?", consumer)), None)

    def entries(self) -> tuple[Entry, ...]:
        """Gives everything, in the order of the consumers."""
        return self._entries("TRUE")

    def unfinished(self) -> tuple[str, ...]:
        """Gives the consumers whose devices are neither ready nor free."""
        rows = self._database.rows(
            "SELECT consumer FROM preparations WHERE state IN ('preparing', 'releasing') "
            "OR (state = 'failed' AND consumer IN (SELECT consumer FROM steps)) ORDER BY consumer"
        )
        return tuple(consumer for (consumer,) in rows)

    def begun(self, verb: str, target: str) -> tuple[Arguments, ...]:
        """Gives what steps of this boot have found that were begun at a function and are neither done nor undone."""
        entries = (each.preparation for each in self._entries("state IN ('preparing', 'failed')"))
        return tuple(
            found
            for each in entries
            if each.boot_id == self.boot_id
            for number, found in each.found.items()
            if number not in each.done
            and (each.plan.steps[number].verb, each.plan.steps[number].target) == (verb, target)
        )

    def overview(self) -> Overview:
        """Gives how many there are of each state, and how the worst of them stand."""
        counts = self._database.rows("SELECT state, count(*) FROM preparations GROUP BY state")
        leaving = self._without_steps("state = 'releasing'")
        begun = [since for each in leaving if (since := each.preparation.ended) is not None]
        return Overview(
            states={State(state): count for state, count in counts},
            stuck=len(self.holdings().stuck),
            releasing_since=min(begun, default=None),
            mistrusted_since=self._database.mistrusted_since,
        )

    def holdings(self) -> Holdings:
        """Gives who has what."""
        rows = self._database.rows("SELECT key, consumer, parent FROM holdings ORDER BY key")
        consumers = {key: consumer for key, consumer, _ in rows}
        # Who has what is leaving open may end at any moment: it is held, and not stuck.
        errors = [stuck(each, consumers) for each in self._with_errors() if not each.leaving]
        return Holdings(
            consumers=consumers,
            parents={key: parent for key, _, parent in rows if parent is not None},
            released=dict(self._database.rows("SELECT address, at FROM released ORDER BY address")),
            stuck={error.address: error.reason for error in errors if error is not None and error.address},
            unwiped=self._unwiped(),
        )

    def term(self, seconds: float) -> Term:
        """Gives a term that begins now."""
        return Term(self.boot_id, self._boottime() + seconds, seconds)

    def has_expired(self, preparation: Preparation) -> bool:
        """Tells whether nobody waits any longer for a virtual machine to use it."""
        if preparation.term is None:  # of an earlier version, which believed the clock
            return preparation.expires is not None and time.time() >= preparation.expires
        return preparation.term.left(self.boot_id, self._boottime()) <= 0

    def tombstone(self, consumer: str) -> float | None:
        """Gives for how many seconds a consumer cannot begin, None if it can."""
        rows = self._database.rows("SELECT boot_id, ends, seconds FROM tombstones WHERE consumer = ?", consumer)
        left = [Term(*row).left(self.boot_id, self._boottime()) for row in rows]
        return next((seconds for seconds in left if seconds > 0), None)

    def _unwiped(self) -> dict[str, dict[str, str]]:
        # Each plan asks for this, and most consumers have nothing that is to be wiped.
        found: dict[str, dict[str, str]] = {}
        for preparation in (each.preparation for each in self._without_steps('document LIKE \'%"wipes":{"%\'')):
            plan = preparation.plan
            for handle in preparation.handles:
                if handle.provider in plan.wipes and handle.provider in plan.devices:
                    found.setdefault(plan.devices[handle.provider], {})[handle.function] = preparation.consumer
        return found

    def _with_errors(self) -> Iterator[Entry]:
        """Gives what holds devices and says what is amiss with them: each plan asks for this."""
        return self._without_steps(
            """state IN ('failed', 'releasing') AND document LIKE '%"error":{%' """
            "AND consumer IN (SELECT consumer FROM holdings)"
        )

    def _without_steps(self, condition: str) -> Iterator[Entry]:
        return (self._entry(row, []) for row in self._database.rows(ENTRIES.format(condition)))

    def _entries(
        self, condition: str, *parameters: str, within: Database | Transaction | None = None
    ) -> tuple[Entry, ...]:
        tables = within or self._database
        rows = tables.rows(ENTRIES.format(condition), *parameters)
        return tuple(self._entry(row, tables.rows(STEPS, row[0])) for row in rows)

    def _entry(self, row: tuple[Any, ...], steps: list[tuple[Any, ...]]) -> Entry:
        try:
            return decoded(row, steps)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            problem = f"what it has of consumer {row[0]} is of another form ({type(error).__name__}: {error})"
            raise JournalError(self._database.path, f"{problem}: start the devagent that wrote it") from error
