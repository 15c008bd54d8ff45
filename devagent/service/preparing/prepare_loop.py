# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Sees to the preparations every few seconds: see Upkeep."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import ClassVar, Final

from devagent.service.beats import Beats
from devagent.service.loop import Loop
from devagent.service.preparing.hanging import Hanging
from devagent.service.preparing.upkeep import Upkeep

LOG = logging.getLogger(__name__)

_TICK: Final = 5.0


class PrepareLoop(Loop):
    """Lets the upkeep take its turns, and says what keeps it from its work."""

    name: ClassVar[str] = "prepare"
    # A request to Placement and a look for each of a few consumers, each with its own time-out.
    limit = 300.0

    def __init__(self, beats: Beats, upkeep: Upkeep, hanging: Hanging) -> None:
        super().__init__(beats)
        self._upkeep, self._hanging = upkeep, hanging
        self._wake = threading.Event()

    def wake(self) -> None:
        """Ends the wait of a turn."""
        self._wake.set()

    def hint(self, events: Mapping[str, str]) -> int:
        """Has consumers looked for at once, for what has happened to them; gives how many have something here."""
        known = self._upkeep.hint(events)
        for consumer in known:
            LOG.info("%s: %s: looks in Placement whether it holds its devices still", consumer, events[consumer])
        if known:
            self.wake()
        return len(known)

    def turn(self) -> None:
        """Sees to everything, and waits some seconds."""
        self._hanging.forget_ended()
        trouble = self._upkeep.turn()
        self._beats.beat(self.name, trouble, failed=trouble is not None)
        self._wake.wait(self._upkeep.due_in(_TICK))
        self._wake.clear()
