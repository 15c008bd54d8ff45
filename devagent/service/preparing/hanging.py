# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The steps of preparations that hang in the kernel: their devices are fenced until the kernel has come back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from devagent.errors import DevagentError
from devagent.privileged import Privileged, hanging

LOG = logging.getLogger(__name__)


class Hanging:
    """Knows the functions on which a step hangs; `changed` is told their addresses when that begins and ends."""

    def __init__(self, privileged: Privileged, changed: Callable[[Iterable[str]], None]) -> None:
        self._privileged, self._changed = privileged, changed
        self._lock = threading.Lock()
        self._since: dict[str, tuple[str, float]] = {}

    @property
    def stuck(self) -> Mapping[str, str]:
        """What hangs, in words, by the address of the function."""
        with self._lock:
            return {address: why for address, (why, _) in self._since.items()}

    @property
    def hung(self) -> tuple[tuple[str, str, float], ...]:
        """The same, with the time since when (epoch seconds)."""
        with self._lock:
            return tuple((address, why, at) for address, (why, at) in sorted(self._since.items()))

    def note(self, address: str, why: str) -> None:
        """Takes that a step hangs, whoever else has come to hang behind it."""
        with self._lock:
            if address in self._since:
                return
            self._since[address] = why, time.time()
        LOG.error("no new virtual machine gets it until that ends: %s", why, extra={"device": address})
        self._changed([address])

    def forget_ended(self) -> None:
        """Asks whether what hung has come to its end since."""
        if not self.stuck:
            return
        with suppress(DevagentError):
            left = hanging(self._privileged)
            with self._lock:
                ended = self._since.keys() - left
                self._since = {address: each for address, each in self._since.items() if address in left}
            for address in sorted(ended):
                LOG.info("what hung in the kernel has ended", extra={"device": address})
            if ended:
                self._changed(ended)
