# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The signals that a service acts on, one after the other, in the thread that waits for them."""

from __future__ import annotations

import queue

from oslo_service import service


class Signals:
    """Keeps SIGTERM, SIGINT and SIGHUP until they are waited for."""

    def __init__(self) -> None:
        self._numbers: queue.SimpleQueue[int] = queue.SimpleQueue()

    def handle(self) -> None:
        """Has them kept from now on; in the main thread."""
        handler = service.SignalHandler()
        handler.clear()
        for name in ("SIGTERM", "SIGINT", "SIGHUP"):
            handler.add_handler(name, lambda number, _frame: self.put(number))

    def put(self, number: int) -> None:
        """Keeps one."""
        self._numbers.put(number)

    def wait(self, seconds: float) -> int | None:
        """Gives the next one; None if none comes."""
        try:
            return self._numbers.get(timeout=seconds)
        except queue.Empty:
            return None
