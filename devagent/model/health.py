# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""How well a device is, with the reasons, and what is remembered of that from one look to the next."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


class State(enum.StrEnum):
    """How well a device is; `unmonitored`: nothing says."""

    HEALTHY = "healthy"
    SUSPECT = "suspect"
    UNHEALTHY = "unhealthy"
    LOST = "lost"
    UNMONITORED = "unmonitored"

    @property
    def rank(self) -> int:
        """How bad it is: the worst of several is what counts."""
        return _ORDER.index(self)

    @property
    def is_trouble(self) -> bool:
        """Whether something is wrong with the device."""
        return self.rank >= State.SUSPECT.rank

    @property
    def is_fenced(self) -> bool:
        """Whether nobody new may be given the device."""
        return self.rank >= State.UNHEALTHY.rank


_ORDER = (State.UNMONITORED, State.HEALTHY, State.SUSPECT, State.UNHEALTHY, State.LOST)


@dataclass(frozen=True, slots=True)
class Health:
    """A state with its reasons in words for an operator; no reason is needed to be healthy."""

    state: State = State.UNMONITORED
    reasons: tuple[str, ...] = ()

    def __or__(self, other: Health) -> Health:
        """Gives the worse state of the two with the reasons of both."""
        return Health(max(self.state, other.state, key=_ORDER.index), (*self.reasons, *other.reasons))


UNMONITORED: Final = Health()
"""Nothing says how the device is."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Something that was seen; what is of one `subject` is kept once, with how often and when it was last seen."""

    at: float
    text: str
    subject: str = ""
    times: int = 1

    def __str__(self) -> str:
        return self.text if self.times == 1 else f"{self.text} ({self.times} times)"


@dataclass(frozen=True, slots=True)
class Override:
    """An operator's word on a device (healthy, suspect or unhealthy), until a time if one is given.

    `by` says who said it, such as `uid 0 (root)`.
    """

    state: State
    reason: str
    by: str
    until: float | None = None

    def holds(self, now: float) -> bool:
        """Tells whether it counts at the time `now`."""
        return self.until is None or now < self.until


class End(enum.StrEnum):
    """What must be seen before a trouble is over; clean checks must follow in any case but the last."""

    CHECKS = "checks"
    """Nothing more than clean checks."""
    RECOVERY = "recovery"
    """The kernel's word that the recovery succeeded, or a reset."""
    RESET = "reset"
    """A reset of the device: a reboot, another driver, gone and back again."""
    CLEAR = "clear"
    """An operator's `devagent health clear`."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What one source found wrong with a device, and how many clean checks in a row it has had since.

    `present`: the last look saw it, too.
    """

    source: str
    health: Health
    end: End = End.CHECKS
    clean: int = 0
    present: bool = True


@dataclass(frozen=True, slots=True)
class Given:
    """How a device was given when that could last be decided: what a `Decision` says of it.

    `shares` has class, total and what is closed of it, for each class of a device of which parts are made.
    """

    mode: str
    resource_class: str
    total: int
    rule: str | None = None
    traits: tuple[str, ...] = ()
    shares: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """All that is remembered of one device's health. Times are epoch seconds.

    `health` is what the monitors say, `since` when its state began, `clean` how many of the clean checks
    that its end needs it has had. `flaps` are the times at which it became unhealthy again. `counters`
    are the error counters of the last look.

    `driver` is the kernel driver of the last look, `monitor` the one under which the device last told
    how it is, `action` the recovery action that a GPU's driver last named. `recovered`: it was unhealthy
    before. `gone` is when it was first missing. `given` is how it was given when it could last be read.
    """

    health: Health = UNMONITORED
    since: float = 0.0
    clean: int = 0
    flaps: tuple[float, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    override: Override | None = None
    counters: Mapping[str, int] = field(default_factory=dict)
    troubles: tuple[Trouble, ...] = ()
    driver: str | None = None
    monitor: str | None = None
    action: str | None = None
    recovered: bool = False
    gone: float | None = None
    given: Given | None = None


Book = Mapping[str, Condition]
"""The conditions of all devices, by `Device.key`."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What outlives the process: the book, in which boot it was written, and how far the kernel log was read."""

    book: Book = field(default_factory=dict)
    boot_id: str | None = None
    log_position: int | None = None
