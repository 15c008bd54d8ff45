# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads what the kernel's log says of devices: NVIDIA's XIDs, PCIe errors that no event tells."""

from __future__ import annotations

import logging
import select
from collections.abc import Callable
from typing import ClassVar, Final

from devagent.model.occurrence import Xid
from devagent.service.beats import Beats
from devagent.service.facts import Facts
from devagent.service.health_book import HealthBook
from devagent.service.look_loop import LookLoop
from devagent.service.loop import Loop
from devagent.service.metrics import Metrics
from devagent.sources.kernel_log import KernelLog

LOG = logging.getLogger(__name__)

_TICK: Final = 5.0

Opened = Callable[[], int]


class LogLoop(Loop):
    """Has every device that the log names looked at; `opened` gives the log's descriptor."""

    name: ClassVar[str] = "log"
    holds: ClassVar[bool] = False
    limit = 60.0

    def __init__(
        self, beats: Beats, facts: Facts, book: HealthBook, looks: LookLoop, metrics: Metrics, opened: Opened
    ) -> None:
        super().__init__(beats)
        self._facts, self._book, self._looks, self._metrics = facts, book, looks, metrics
        self._opened = opened
        self._log: KernelLog | None = None

    def turn(self) -> None:
        """Waits for some seconds, or for something new in the log."""
        # Only the first look tells which boot this is, and so up to where the log was read before.
        if self._log is None:
            if not self._facts.published.wait(_TICK):
                self.beat("waits for the first look")
                return
            self._log = KernelLog(self._book.log_position, opened=self._opened)
        descriptor = self._log.fileno()
        if descriptor is None:
            self.stopping.wait(_TICK)
        else:
            _wait(descriptor)
        lost, told = self._log.lost, self._log.read()
        if self._log.lost > lost:
            LOG.warning("the kernel's log was overwritten before it was read: XIDs may have been missed")
        self.beat(self._log.problem)
        for each in told:
            if isinstance(each, Xid):
                self._metrics.xid(each.number)
                LOG.warning("XID %d: %s", each.number, each.detail, extra={"device": each.address})
        if told:
            self._looks.want(occurrences=told, log_position=self._log.position)


def _wait(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.poll(_TICK * 1000)
