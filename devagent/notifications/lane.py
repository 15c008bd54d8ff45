# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The way to the agent of one host: one call at a time, with all that has come meanwhile, and none to who is away.

What cannot be handed over in a few tries is missed: it is told with the next call that succeeds, and the agent's own
reconciler finds it without that.
"""

from __future__ import annotations

import enum
import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from devagent.errors import AgentDenied, AgentError, AgentRefused

LOG = logging.getLogger(__name__)

BATCH: Final = 256
"""As many as one POST /v1/hints takes."""
_MISSED: Final = 4096
_PAUSES_S: Final = (0.5, 2.0, 5.0)
_SLOW_S: Final = 1.0
_SERVER_ERROR: Final = 500

Events = Mapping[str, str]
"""What happened, by consumer."""
HandOver = Callable[[str, Events], None]
"""Gives events to the agent of a host; raises AgentError."""


class Outcome(enum.StrEnum):
    """What became of an event."""

    HANDED = "handed over"
    LEFT = "left to the reconciler"
    ENDING = "given back to the broker"


@dataclass(frozen=True, slots=True)
class Limits:
    """`tries` are made, and then none for `cool_down` seconds."""

    tries: int = 3
    cool_down: float = 30.0


@dataclass(eq=False, slots=True)
class _Batch:
    events: dict[str, str] = field(default_factory=dict)
    outcome: Outcome | None = None


class Lane:
    """Hands events over to the agent of `host`; `ending` ends all waiting."""

    def __init__(
        self,
        host: str,
        hand_over: HandOver,
        limits: Callable[[], Limits],
        ending: threading.Event,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.host = host
        self._hand_over, self._limits, self._ending, self._monotonic = hand_over, limits, ending, monotonic
        self._changed = threading.Condition()
        self._next = _Batch()
        self._missed: dict[str, str] = {}
        self._calling_since: float | None = None
        self._shut_until: float | None = None
        self._failing = False

    @property
    def doubtful(self) -> bool:
        """Whether who waits for this agent may wait for long."""
        with self._changed:
            since = self._calling_since
            return self._failing or (since is not None and self._monotonic() - since > _SLOW_S)

    @property
    def trouble(self) -> bool:
        """Whether the last call failed."""
        return self._failing

    @property
    def missed(self) -> int:
        """How many events wait for the agent to come back."""
        with self._changed:
            return len(self._missed)

    def pass_on(self, consumer: str, event: str) -> Outcome:
        """Waits until the agent has taken it, or it is given up."""
        with self._changed:
            if self._is_shut():
                return self._miss({consumer: event})
            batch = self._next
            batch.events[consumer] = event
            while self._calling_since is not None and batch.outcome is None:
                self._changed.wait()
            if batch.outcome is not None:
                return batch.outcome
            self._begin()
        return self._lead(batch)

    def miss(self, consumer: str, event: str) -> Outcome:
        """Gives an event up without a try."""
        with self._changed:
            return self._miss({consumer: event})

    def again(self) -> bool:
        """Tells what was missed, in one try, if it is time; whether there was something to tell."""
        with self._changed:
            if not self._missed or self._is_shut() or self._calling_since is not None:
                return False
            batch = self._next
            self._begin()
        self._lead(batch)
        return True

    def _is_shut(self) -> bool:
        return self._shut_until is not None and self._monotonic() < self._shut_until

    def _begin(self) -> None:
        self._calling_since, self._next = self._monotonic(), _Batch()

    def _lead(self, batch: _Batch) -> Outcome:
        outcome = Outcome.LEFT  # whatever happens, nobody waits for ever
        try:
            outcome = self._tries(batch.events)
        finally:
            self._end(batch, outcome)
        return outcome

    def _tries(self, events: Events) -> Outcome:
        limits = self._limits()
        # Who was away is asked once: it has had its tries.
        tries = 1 if self._shut_until is not None else limits.tries
        error: AgentError | None = None
        for pause in itertools.islice(itertools.chain((0.0,), _PAUSES_S, itertools.repeat(_PAUSES_S[-1])), tries):
            if self._ending.wait(pause):
                return Outcome.ENDING
            error = self._try(events)
            if error is None or _is_final(error):
                break
        if error is None:
            return Outcome.HANDED
        self._failed(error, len(events), limits)
        return Outcome.LEFT

    def _try(self, events: Events) -> AgentError | None:
        with self._changed:
            missed = dict(itertools.islice(self._missed.items(), max(0, BATCH - len(events))))
        try:
            self._hand_over(self.host, {**missed, **events})
        except AgentError as error:
            self._failing = True
            LOG.debug("%s: not handed over yet: %s", self.host, error)
            return error
        with self._changed:
            for consumer, event in missed.items():
                if self._missed.get(consumer) == event:
                    del self._missed[consumer]
        return None

    def _failed(self, error: AgentError, number: int, limits: Limits) -> None:
        first = self._shut_until is None
        with self._changed:
            self._shut_until = self._monotonic() + limits.cool_down
        say = LOG.warning if first else LOG.debug
        say(
            "%s: %d hint(s) not handed over: %s; tried again every %g s, and what is missed its reconciler finds",
            self.host, number, error, limits.cool_down,
        )  # fmt: skip

    def _end(self, batch: _Batch, outcome: Outcome) -> None:
        with self._changed:
            if outcome is Outcome.HANDED:
                if self._shut_until is not None:
                    LOG.info("%s: its agent takes hints again", self.host)
                self._failing, self._shut_until = False, None
            elif outcome is Outcome.LEFT:
                self._miss(batch.events)
            batch.outcome, self._calling_since = outcome, None
            self._changed.notify_all()

    def _miss(self, events: Events) -> Outcome:
        for consumer, event in events.items():
            if consumer in self._missed or len(self._missed) < _MISSED:
                self._missed[consumer] = event
        return Outcome.LEFT


def _is_final(error: AgentError) -> bool:
    """Tells whether another try would have the same answer: who may not, or what the agent does not know."""
    return isinstance(error, AgentDenied) or (isinstance(error, AgentRefused) and error.status < _SERVER_ERROR)
