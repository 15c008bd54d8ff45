# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""How well a device is, with the reasons."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final


class State(enum.StrEnum):
    """How well a device is; `unmonitored`: nothing says."""

    HEALTHY = "healthy"
    SUSPECT = "suspect"
    UNHEALTHY = "unhealthy"
    LOST = "lost"
    UNMONITORED = "unmonitored"


# The worst of several is what counts.
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
