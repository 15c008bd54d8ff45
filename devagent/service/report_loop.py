# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Keeps Placement equal to what was seen: after every change at once, and every now and then in any case."""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections.abc import Callable
from typing import ClassVar, Final

from devagent.errors import PlacementError, PlacementUnreachable, RootProviderMissing
from devagent.inventory.diff import Action
from devagent.inventory.reconcile import Holding
from devagent.placement.client import PlacementClient
from devagent.placement.patience import TRIES
from devagent.placement.reporter import Report, Reporter, Survey
from devagent.placement.state import Memory, StateFile
from devagent.service.beats import Beats
from devagent.service.facts import Facts, Reported, Seen
from devagent.service.loop import Loop
from devagent.service.metrics import Metrics
from devagent.service.settings import Settings
from devagent.sources import known

LOG = logging.getLogger(__name__)

_DONE: Final = {
    Action.CREATE: "created",
    Action.UPDATE: "changed",
    Action.RETIRE: "emptied",
    Action.REPLACE: "took over",
}
_TICK: Final = 5.0
_RETRY: Final = 2.0
_LONGEST_RETRY: Final = 60.0
_LONGEST_WAIT: Final = 600.0
"""Whatever Retry-After says: a proxy's mistake must not end reporting."""
_WAIT_FOR_ROOT: Final = 10.0


class ReportLoop(Loop):
    """Reports what was last seen; `connect` makes a client from the settings in force."""

    name: ClassVar[str] = "report"
    # The longest request times out after 60 s, and there is a beat before and after each.
    limit = 180.0

    def __init__(
        self,
        beats: Beats,
        facts: Facts,
        state: StateFile,
        connect: Callable[[Settings], PlacementClient],
        settings: Callable[[], Settings],
        metrics: Metrics,
    ) -> None:
        super().__init__(beats)
        self._facts, self._state, self._connect, self._settings = facts, state, connect, settings
        self._metrics = metrics
        self._wake = threading.Event()
        self._changed = False
        self._failures = 0
        self._next = 0.0
        self._memory: Memory | None = state.load()
        self._in_force: Settings | None = None
        self._reporter: Reporter | None = None
        self._hostname: str | None = None

    def kick(self) -> None:
        """Asks for a report soon: something changed."""
        self._changed = True
        self._wake.set()

    def holding(self, uuid: str) -> tuple[int, Holding]:
        """Asks Placement who holds a provider, and counts the request. Raises PlacementError."""
        reporter = self._reporter
        if reporter is None:
            raise PlacementUnreachable("nothing was reported yet")
        self._metrics.asked(1)
        return reporter.client.holding(uuid)

    def wake(self) -> None:
        """Ends the wait of a turn."""
        self._wake.set()

    def reset(self) -> None:
        """Reports with the new settings at once."""
        self._failures, self._next = 0, 0.0
        self.kick()

    def turn(self) -> None:
        """Waits until a report is due, some seconds at most, and reports."""
        now = time.monotonic()
        # After a failure a change waits for the next try: nobody is helped by more of them.
        due = self._next - now if self._failures or not self._changed else 0.0
        if due > 0:
            self._wake.wait(min(due, _TICK))
        self._wake.clear()
        self.beat(self._facts.reported.error)
        if self.stopping.is_set():
            return
        if self._facts.seen is None:
            self._wake.wait(_TICK)
            return
        if time.monotonic() >= self._next or (self._changed and not self._failures):
            # In this order: what is seen from now on asks for another report.
            self._changed = False
            try:
                self._report(self._facts.seen)
            except Exception:
                self._changed = True
                raise

    def _report(self, seen: Seen) -> None:
        began, settings = time.monotonic(), self._settings()
        reporter = self._connected(settings)
        requests = reporter.client.requests
        try:
            survey, report = self._cycle(reporter, seen, settings)
        except PlacementError as error:
            self._failed(error)
            self._metrics.reported("failed", time.monotonic() - began, reporter.client.requests - requests)
            return
        finally:
            self._memory = reporter.memory
        self._failures = self._failures + 1 if report.failures else 0
        wait = self._backoff() if report.failures or report.postponed else self._interval(settings)
        self._next = time.monotonic() + wait
        done = reporter.client.requests - requests
        self._metrics.reported("partial" if report.failures else "ok", time.monotonic() - began, done)
        self._note(survey, report, done)

    def _connected(self, settings: Settings) -> Reporter:
        """Gives the reporter, a new one where the settings have changed; what it remembers is kept."""
        if self._reporter is None or self._in_force is not settings:
            self._reporter = Reporter(self._connect(settings), self._memory, sleep=self.pause)
            self._in_force = settings
        return self._reporter

    def _cycle(self, reporter: Reporter, seen: Seen, settings: Settings) -> tuple[Survey, Report]:
        found = seen.view.found
        # Ten thousand hosts that each ask eight times keep a Placement down that is about to come up.
        tries = 1 if self._failures else TRIES
        survey = reporter.survey(found.host.compute_id, self._name(settings), tries=tries)
        # Before any provider has a UUID made of them.
        known.save(str(settings.state_path), found.known)
        desired = seen.view.tree(survey.root.uuid, survey.root.name)
        try:
            return survey, reporter.report(desired, survey, step=lambda *_: self.beat())
        finally:
            self._state.save(reporter.memory)

    def _name(self, settings: Settings) -> str:
        """Gives the hypervisor's name; asking for the full one may wait for a name server, so it is asked once."""
        if settings.host:
            return settings.host
        if self._hostname is None:
            self._hostname = socket.getfqdn()
        return self._hostname

    def _failed(self, error: PlacementError) -> None:
        waiting = isinstance(error, RootProviderMissing)
        self._failures += 1
        wait = _WAIT_FOR_ROOT * random.uniform(0.8, 1.2) if waiting else self._backoff(error.retry_after)  # noqa: S311
        self._next = time.monotonic() + wait
        before = self._facts.reported
        if before.error != str(error):
            LOG.log(logging.WARNING if waiting else logging.ERROR, "Placement is not up to date: %s", error)
        self._facts.reported = Reported(
            state="waiting" if waiting else "failed",
            at=before.at,
            changes=before.changes,
            requests=before.requests,
            error=str(error),
            retry_at=time.time() + wait,
            differs=before.differs,
            root=before.root,
            root_name=before.root_name,
            listed=before.listed,
        )
        self._beats.beat(self.name, str(error), failed=not waiting)

    def _note(self, survey: Survey, report: Report, requests: int) -> None:
        before = self._facts.reported
        for change in report.changes:
            LOG.info("%s in Placement: %s", _DONE[change.action], change.after.name)
        for name, error in report.failures.items():
            if (name, str(error)) not in before.differs:
                LOG.error("%s: %s", name, error)
        if before.state in ("failed", "waiting"):
            LOG.info("Placement is up to date again")
        self._facts.reported = Reported(
            state="failed" if report.failures else "current",
            at=time.time(),
            changes=len(report.changes),
            requests=requests,
            error=next((f"{name}: {error}" for name, error in report.failures.items()), None),
            retry_at=time.time() + self._next - time.monotonic() if report.failures else None,
            differs=tuple(_differs(report)),
            root=survey.root.uuid,
            root_name=survey.root.name,
            listed=survey.listed,
        )
        self.beat(self._facts.reported.error)

    def _backoff(self, asked: float = 0.0) -> float:
        longest = min(_LONGEST_RETRY, _RETRY * 2.0 ** min(self._failures, 10))
        return max(min(asked, _LONGEST_WAIT), longest * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load

    def _interval(self, settings: Settings) -> float:
        return settings.report_interval * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load


def _differs(report: Report) -> list[tuple[str, str]]:
    held = ((each.name, "in use: closed to new consumers until it is free") for each in report.held)
    owned = ((str(each.provider), str(each)) for each in report.owned)
    return [*((name, str(error)) for name, error in report.failures.items()), *held, *owned]
