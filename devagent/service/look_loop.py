# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Looks at the host whenever something says that it changed, and every now and then in any case."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import ClassVar, Final

from devagent.discovery import Discovery
from devagent.errors import LookFailed
from devagent.inventory import condition
from devagent.model.device import Device
from devagent.model.happened import Happened
from devagent.model.health import Health, State
from devagent.model.occurrence import Occurrence
from devagent.service import news
from devagent.service.beats import Beats
from devagent.service.configurer import Configurer
from devagent.service.facts import Facts, Seen
from devagent.service.health_book import HealthBook
from devagent.service.looker import Looker
from devagent.service.loop import Loop
from devagent.service.metrics import Metrics
from devagent.service.settings import Settings
from devagent.service.wishes import Wanted, Wishes, where
from devagent.view import Look

LOG = logging.getLogger(__name__)

_CONFIGURE_S: Final = 60.0
"""How long the first report waits for what is being configured; later ones go without it."""
_RETRY: Final = 5.0
_MARGIN_S: Final = 120.0


class LookLoop(Loop):
    """Takes looks one after the other and tells `seen` after each that what is known has changed."""

    name: ClassVar[str] = "look"

    def __init__(
        self,
        beats: Beats,
        facts: Facts,
        looker: Looker,
        configurer: Configurer,
        book: HealthBook,
        settings: Callable[[], Settings],
        metrics: Metrics,
        seen: Callable[[], None],
    ) -> None:
        super().__init__(beats)
        self._facts, self._looker, self._configurer, self._book = facts, looker, configurer, book
        self._settings, self._metrics, self._tell = settings, metrics, seen
        self._wishes = Wishes(self.stopping, settings)
        self._publishing = threading.Lock()
        self._found: Discovery | None = None
        # A look that hangs is given up after look_timeout; only then is the loop itself in trouble.
        self.limit = settings().look_timeout + _MARGIN_S

    def hear(self, happened: Happened) -> None:
        """Takes what the kernel said."""
        self._metrics.heard(happened.events, lost=happened.everything)
        self.want(happened.addresses, occurrences=happened.errors, everything=happened.everything)

    def want(
        self,
        addresses: Iterable[str] = (),
        *,
        occurrences: Iterable[Occurrence] = (),
        log_position: int | None = None,
        everything: bool = False,
    ) -> None:
        """Asks for a look at these devices, or at everything.

        `log_position` is how far the kernel's log tells of the `occurrences`: it is kept once they have been judged.
        """
        self._wishes.want(addresses, occurrences, log_position, everything=everything)

    def rescan(self, wait: float) -> bool:
        """Asks for a look at everything that begins after now; tells whether it ended within `wait` seconds."""
        self._configurer.forgive()
        return self._wishes.rescan().wait(wait)

    def wake(self) -> None:
        """Ends the wait of a turn."""
        self._wishes.wake()

    def reset(self) -> None:
        """Looks at everything anew, with the policy and the time limit as they are now."""
        self.limit = self._settings().look_timeout + _MARGIN_S
        self._beats.expect(self.name, self.limit)
        self._configurer.forgive()
        self.want(everything=True)

    def turn(self) -> None:
        """Waits for a reason to look, some seconds at most, and looks."""
        wanted = self._wishes.take()
        self.beat(self._facts.look_error)
        if wanted is None or self.stopping.is_set():
            return
        self._judge_at_once(wanted)
        only = None if wanted.everything else frozenset(wanted.addresses | self._monitored(wanted))
        began, at = time.monotonic(), time.time()
        try:
            found = self._looker.look(self._settings().policy, only, timeout=self._settings().look_timeout)
            if self._facts.seen is None:
                found = self._configure_first(found)
        except LookFailed as error:
            self._failed(error, wanted, time.monotonic() - began)
            return
        except Exception:
            self._wishes.again(wanted)
            raise
        took = time.monotonic() - began
        self._metrics.looked("full" if only is None else "partial", took, ok=True)
        self._take(found, at, took, only, wanted)
        for done in wanted.done:
            done.set()

    def _judge_at_once(self, wanted: Wanted) -> None:
        """Judges by the last look what happened to devices that it knows: one that is broken may hang the next look."""
        with self._publishing:
            found, seen = self._found, self._facts.seen
            if not wanted.occurrences or found is None or seen is None:
                return
            if not {where(each) for each in wanted.occurrences} <= {device.address for device in found.devices}:
                return
            self._book.follow(
                found, wanted.occurrences, time.time(), checked=frozenset(), log_position=wanted.log_position
            )
            wanted.occurrences, wanted.log_position = [], None
            self._publish(found, seen.at, seen.took, seen.full)

    def _monitored(self, wanted: Wanted) -> set[str]:
        """Gives the devices whose health something tells, when it is time to ask."""
        seen = self._facts.seen
        if not wanted.check or seen is None:
            return set()
        return {
            each.address for each in seen.devices if each.health.state is not State.UNMONITORED or each.health.reasons
        }

    def _configure_first(self, found: Discovery) -> Discovery:
        """Lets what the policy asks for come into being before anything is reported for the first time."""
        settings = self._settings()
        self._configurer.advance(found.devices, settings.policy, self._facts.holdings(found.devices))
        made = self._configurer.running
        end = time.monotonic() + _CONFIGURE_S
        while not self._configurer.wait(1.0) and time.monotonic() < end and not self.stopping.is_set():
            self.beat(f"waits for {', '.join(sorted(self._configurer.running))} to be configured")
        if not made:
            return found
        return self._looker.look(settings.policy, made, timeout=settings.look_timeout)

    def judge(self) -> None:
        """Judges anew what was last seen: an operator has said something, or more or less of it is to be had."""
        with self._publishing:
            if self._found is not None and self._facts.seen is not None:
                seen = self._facts.seen
                self._publish(self._found, seen.at, seen.took, seen.full)

    def _take(self, found: Discovery, at: float, took: float, only: frozenset[str] | None, wanted: Wanted) -> None:
        # What an event made us look at may be worse, but not better for having been looked at more often.
        checked: frozenset[str] | None = frozenset() if not wanted.check else only
        with self._publishing:
            self._book.follow(found, wanted.occurrences, at, checked=checked, log_position=wanted.log_position)
            self._found = found
            self._facts.look_error, self._facts.state_error = None, self._book.problem
            self._publish(found, at, took, only is None)
        if wanted.done:  # who asks for a look wants Placement compared, too
            self._tell()

    def _publish(self, found: Discovery, at: float, took: float, full: bool) -> None:
        settings = self._settings()
        refused = self._configurer.advance(found.devices, settings.policy, self._facts.holdings(found.devices))
        configuring, book = self._configurer.running, self._book.current
        stuck = {**self._facts.hanging(), **self._configurer.stuck}
        devices = condition.settled(found.devices, book, time.time())
        devices = tuple(_withheld(each, configuring, stuck) for each in devices)
        hostname = settings.host or found.host.hostname or "localhost"
        view = Look(replace(found, devices=devices), hostname, settings.nest, returning=self._facts.returning())
        before, after = self._facts.seen, Seen(view, at, took, full, book, refused, configuring)
        self._facts.seen = after
        self._facts.published.set()
        news.log(before, after)
        # Most looks find what the last one found; to report that would cost each host a request a minute.
        if before is None or before.view != after.view:
            self._tell()

    def _failed(self, error: LookFailed, wanted: Wanted, took: float) -> None:
        """Keeps what is known: unknown is not gone; looks at everything again soon."""
        self._metrics.looked("full" if wanted.everything else "partial", took, ok=False)
        if self._facts.look_error != str(error):
            LOG.error("a look at the host failed; what is known of it stays: %s", error)
        self._facts.look_error = str(error)
        self._beats.beat(self.name, str(error), failed=True)
        self.stopping.wait(_RETRY)
        self._wishes.again(wanted)


def _withheld(device: Device, configuring: Iterable[str], stuck: dict[str, str]) -> Device:
    """Gives a device that is not to be offered as it stands: half configured, or with a step that hangs."""
    hanging = [stuck[each] for each in device.addresses if each in stuck]
    if hanging:
        return replace(device, health=device.health | Health(State.UNHEALTHY, tuple(hanging)))
    if device.address in configuring:
        reason = "its VFs are being made: it is reported when they are all there"
        return replace(device, decision=replace(device.decision, managed=False, unknown=True, reason=reason))
    return device
