# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Compares now and then who has devices in Placement with who has them open, and tells what does not fit."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import ClassVar, Final

from devagent.inventory.reconcile import Holding, Scene
from devagent.placement.holders import Holders, Read
from devagent.placement.patience import Patience
from devagent.service.beats import Beats
from devagent.service.loop import Loop
from devagent.service.reconciler import Reconciler, Tell
from devagent.service.settings import Settings

_TICK: Final = 5.0


class ReconcileLoop(Loop):
    """Lets the reconciler take its turns: see Reconciler; `read` asks Placement who holds a provider."""

    name: ClassVar[str] = "reconcile"
    limit = 300.0

    def __init__(
        self, beats: Beats, scene: Callable[[], Scene | None], read: Read, tell: Tell, settings: Callable[[], Settings]
    ) -> None:
        super().__init__(beats)
        self._read, self._settings = read, settings
        self._reconciler = Reconciler(scene, Holders(self._ask, Patience(self.pause)), tell)
        self._wake = threading.Event()
        self._next = 0.0

    def wake(self) -> None:
        """Ends the wait of a turn."""
        self._wake.set()

    def turn(self) -> None:
        """Waits until it is time, some seconds at most."""
        due = self._next - time.monotonic()
        if due > 0:
            self._wake.wait(min(due, _TICK))
            self._wake.clear()
        self.beat()
        if self.stopping.is_set() or time.monotonic() < self._next:
            return
        if self._reconciler.cycle():
            self._next = time.monotonic() + self._settings().reconcile_interval * random.uniform(0.9, 1.1)  # noqa: S311
        else:  # nothing was reported yet, or Placement does not answer
            self._next = time.monotonic() + _TICK

    def _ask(self, uuid: str) -> tuple[int, Holding]:
        self.beat()
        return self._read(uuid)
