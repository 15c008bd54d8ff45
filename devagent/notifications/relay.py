# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Passes what Nova tells on to the agents that it is about: who gets it, once, and who is not waited for.

of the host that speaks        its agent, and those of the hosts that spoke of the instance lately: of a move both ends
of nobody's host (conductor)   the hosts that spoke of the instance lately; where none did, the reconcilers find it
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from devagent.errors import NotificationError
from devagent.notifications.bounded import Bounded
from devagent.notifications.events import Event, Meaning, event
from devagent.notifications.lane import HandOver, Lane, Limits, Outcome

LOG = logging.getLogger(__name__)

RECEIVED: Final = "received"
WITHOUT_MEANING: Final = "without meaning here"
DUPLICATE: Final = "duplicate"
MALFORMED: Final = "malformed"
HOMELESS: Final = "of no host that is known"
COUNTED: Final = (
    RECEIVED, WITHOUT_MEANING, *map(str, Outcome), DUPLICATE, MALFORMED, HOMELESS,
)  # fmt: skip

_MESSAGES: Final = 20_000
_INSTANCES: Final = 50_000
_HOSTS_OF_ONE: Final = 4
_HOSTS: Final = 20_000
_KINDS: Final = 100
_LONGEST_NAME: Final = 200


class Relay:
    """Takes notifications in many threads, of which at most `patient` wait for agents that may be away.

    `own` is the only host that is handed anything, on a listener of one host; None on one for all.
    """

    def __init__(
        self,
        hand_over: HandOver,
        limits: Callable[[], Limits] = Limits,
        *,
        patient: int = 16,
        own: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hand_over, self._limits, self._patient, self._own = hand_over, limits, patient, own
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._seen: Bounded[str, None] = Bounded(_MESSAGES)
        self._whereabouts: Bounded[str, tuple[str, ...]] = Bounded(_INSTANCES)
        self._lanes: Bounded[str, Lane] = Bounded(_HOSTS)
        self._told: Bounded[str, None] = Bounded(_KINDS)
        self._waiting: Counter[str] = Counter()
        self._since: dict[int, float] = {}
        self._counts: Counter[str] = Counter()

    @property
    def counts(self) -> Mapping[str, int]:
        """How many there were of each of COUNTED."""
        with self._lock:
            return {name: self._counts[name] for name in COUNTED}

    @property
    def away(self) -> int:
        """How many agents did not take what they were told last."""
        with self._lock:
            return sum(lane.trouble for _, lane in self._lanes.items())

    @property
    def longest(self) -> float:
        """For how many seconds the oldest notification that is being passed on has been."""
        with self._lock:
            return self._monotonic() - min(self._since.values()) if self._since else 0.0

    def end(self) -> None:
        """Gives back to the broker what is not handed over yet."""
        self._ending.set()

    def take(self, publisher: object, kind: object, payload: object, message_id: object) -> bool:
        """Passes one on, or gives it up; False: it is not done with, and goes back to the broker. Never raises."""
        number = threading.get_ident()
        with self._lock:
            self._since[number] = self._monotonic()
            self._counts[RECEIVED] += 1
        try:
            return self._take(publisher, kind, payload, message_id)
        except Exception as error:  # a message that breaks us would come again and again
            self._complain(kind, error)
            return True
        finally:
            with self._lock:
                del self._since[number]

    def again(self, beat: Callable[[], None] = lambda: None) -> None:
        """Tells the agents that were away what they missed; beats after each."""
        with self._lock:
            lanes = [lane for _, lane in self._lanes.items() if lane.missed]
        for lane in lanes:
            while not self._ending.is_set() and lane.again():
                beat()

    def _take(self, publisher: object, kind: object, payload: object, message_id: object) -> bool:
        try:
            found = event(publisher, kind, payload)
        except NotificationError as error:
            self._complain(kind, error)
            return True
        if found is None:
            self._count(WITHOUT_MEANING)
            return True
        hosts = self._hosts(found)
        if found.meaning is Meaning.NOTHING:
            self._count(WITHOUT_MEANING)
            return True
        if self._is_known(message_id):
            self._count(DUPLICATE)
            return True
        if not hosts:
            self._count(HOMELESS if self._own is None else WITHOUT_MEANING)
            return True
        outcomes = {self._pass_on(host, found) for host in hosts}
        if Outcome.ENDING in outcomes:
            self._count(Outcome.ENDING)
            return False
        self._done(found, message_id, Outcome.LEFT if Outcome.LEFT in outcomes else Outcome.HANDED)
        return True

    def _hosts(self, found: Event) -> tuple[str, ...]:
        """Gives whom it concerns, the newest first, and remembers who speaks of the instance."""
        with self._lock:
            before = self._whereabouts.get(found.consumer) or ()
            if found.host is not None:
                before = (found.host, *(host for host in before if host != found.host))[:_HOSTS_OF_ONE]
                self._whereabouts.set(found.consumer, before)
        if self._own is None:
            return before
        # Whether the own agent knows the instance, it tells itself, for nothing.
        return (self._own,) if self._own in before or found.host is None else ()

    def _is_known(self, message_id: object) -> bool:
        with self._lock:
            return isinstance(message_id, str) and message_id in self._seen

    def _pass_on(self, host: str, found: Event) -> Outcome:
        with self._lock:
            lane = self._lane(host)
            full = self._in_doubt() >= self._patient
            self._waiting[host] += 1
        try:
            if full and lane.doubtful:
                return lane.miss(found.consumer, found.kind)
            return lane.pass_on(found.consumer, found.kind)
        finally:
            with self._lock:
                self._waiting[host] -= 1
                if not self._waiting[host]:
                    del self._waiting[host]

    def _lane(self, host: str) -> Lane:
        lane = self._lanes.get(host)
        if lane is None:
            lane = Lane(host, self._hand_over, self._limits, self._ending, self._monotonic)
        self._lanes.set(host, lane)
        return lane

    def _in_doubt(self) -> int:
        """Gives how many threads wait for agents that may let them wait."""
        lanes = ((self._lanes.get(host), number) for host, number in self._waiting.items())
        return sum(number for lane, number in lanes if lane is not None and lane.doubtful)

    def _done(self, found: Event, message_id: object, outcome: Outcome) -> None:
        with self._lock:
            self._counts[outcome] += 1
            if isinstance(message_id, str) and len(message_id) <= _LONGEST_NAME:
                self._seen.set(message_id, None)
            if found.kind == "instance.delete.end":
                self._whereabouts.pop(found.consumer)
        LOG.debug("%s: %s: %s", found.consumer, found.kind, outcome)

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1

    def _complain(self, kind: object, error: Exception) -> None:
        """Tells once of each kind of broken message, and counts the rest."""
        name = f"{type(error).__name__} {kind!r:.80}"
        with self._lock:
            self._counts[MALFORMED] += 1
            known = name in self._told
            self._told.set(name, None)
        if not known:
            LOG.warning(
                "a notification is dropped, and more like it are only counted: %s", error, exc_info=_trace(error)
            )


def _trace(error: Exception) -> Any:
    return None if isinstance(error, NotificationError) else error
