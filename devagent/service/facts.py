# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the loops find out and show to each other: values that never change, replaced as a whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from devagent.model.device import Device
from devagent.model.health import Condition
from devagent.model.provider import Provider
from devagent.view import Look


@dataclass(frozen=True, slots=True)
class Refused:
    """Something that the policy wants of a device and that cannot be had; `why` says what to do."""

    address: str
    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Seen:
    """The last look: `view` has its devices with the health that counts, `book` how that came about.

    `at` is in epoch seconds, `took` in seconds; `full` tells a look at the whole host from one at a few devices.
    """

    view: Look
    at: float
    took: float
    full: bool
    book: Mapping[str, Condition] = field(default_factory=dict)
    refused: tuple[Refused, ...] = ()
    configuring: frozenset[str] = frozenset()

    @property
    def devices(self) -> tuple[Device, ...]:
        """The devices in bus order."""
        return self.view.found.devices


@dataclass(frozen=True, slots=True)
class Reported:
    """How Placement stands: `at` is the last success, `retry_at` the next try after a failure (epoch seconds).

    `state` is `never`, `current`, `waiting` (for nova-compute's provider) or `failed`. `differs` says by the
    provider's name what is not as it should be. `listed` is the compute node's tree as it was last read, by UUID.
    """

    state: str = "never"
    at: float | None = None
    changes: int | None = None
    requests: int | None = None
    error: str | None = None
    retry_at: float | None = None
    differs: tuple[tuple[str, str], ...] = ()
    root: str | None = None
    root_name: str | None = None
    listed: Mapping[str, Provider] = field(default_factory=dict)


@dataclass(slots=True)
class Facts:
    """What is known now. Each attribute has one loop that replaces it; everybody reads.

    `held` are the addresses of devices that consumers have allocated in Placement; None until that is known.
    `prepared` gives the addresses of functions that are, or are being made, ready for consumers; None for unknown.
    `returning` gives, by the UUID of the provider and the class, how much is held only until the host has it back,
    `owed` the releases that do not go on by themselves.
    `hanging` gives in words, by function, what hangs in the kernel of what was done for consumers.
    """

    seen: Seen | None = None
    look_error: str | None = None
    state_error: str | None = None
    reported: Reported = field(default_factory=Reported)
    held: frozenset[str] | None = None
    prepared: Callable[[], frozenset[str] | None] = frozenset
    returning: Callable[[], Mapping[str, Mapping[str, int]]] = dict
    hanging: Callable[[], Mapping[str, str]] = dict
    owed: Callable[[], tuple[Refused, ...]] = tuple
    unexplained: tuple[tuple[str, str], ...] = ()
    published: threading.Event = field(default_factory=threading.Event)

    def reconciled(self, held: frozenset[str], unexplained: tuple[tuple[str, str], ...]) -> None:
        """Takes what the reconciler found."""
        self.held, self.unexplained = held, unexplained

    def holdings(self, devices: Iterable[Device]) -> frozenset[str] | None:
        """Gives the addresses of those of `devices` that somebody has, wholly or in part; None until that is known."""
        prepared = self.prepared()
        if self.held is None or prepared is None:
            return None
        ready = (each.address for each in devices if prepared.intersection(each.addresses))
        return self.held.union(ready)
