# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Hears the kernel: whatever changes of a device is looked at as soon as its burst of events ends."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ClassVar, Final

from devagent.model.happened import Happened
from devagent.service.beats import Beats
from devagent.service.loop import Loop
from devagent.sources.udev import Changes

LOG = logging.getLogger(__name__)

_TICK: Final = 5.0


class UdevLoop(Loop):
    """Tells `hear` what happened; `open_changes` begins to listen, and may be asked again after a failure."""

    name: ClassVar[str] = "udev"
    holds: ClassVar[bool] = False
    limit = 60.0

    def __init__(self, beats: Beats, open_changes: Callable[[], Changes], hear: Callable[[Happened], None]) -> None:
        super().__init__(beats)
        self._open, self._hear = open_changes, hear
        # Listening begins before the first look, so that nothing falls between the two.
        self._changes: Changes | None = open_changes()

    def reset(self) -> None:
        """Listens anew, with the debounce as it is now."""
        self._changes = None

    def turn(self) -> None:
        """Waits for one burst, some seconds at most."""
        if self._changes is None:
            self._changes = self._open()
            self._hear(Happened(everything=True))
        happened = self._changes.wait(_TICK)
        self.beat()
        if happened.events or happened.everything:
            LOG.debug("%d events of %s", happened.events, ", ".join(sorted(happened.addresses)) or "no device")
            self._hear(happened)
