# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""How often, and after how long, something that failed is tried again."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from devagent import errors

LOG = logging.getLogger(__name__)

Result = TypeVar("Result")

TRIES: Final = 8
# Nobody answering at all is for the next cycle to find ended, not for each provider of this one.
_TRIES_UNCONNECTED: Final = 3
_BACKOFF: Final = 0.05  # seconds; doubles with each try, with full jitter
_LONGEST_WAIT: Final = 30.0

# What trying again can cure: somebody was quicker, or Placement stumbled (it answers lost races with 500 too).
TRANSIENT: Final = (errors.PlacementConflict, errors.PlacementUnreachable)


class Patience:
    """Waits between tries with `sleep`."""

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep

    def call(self, ask: Callable[[], Result], tries: int = TRIES) -> Result:
        """Calls `ask`, which may be repeated, until it answers. Raises the PlacementError that lasted."""
        attempt = 1
        while True:
            try:
                return ask()
            except TRANSIENT as error:
                if attempt >= tries or not self.again(error, attempt):
                    raise
                attempt += 1

    def again(self, error: errors.PlacementError, attempt: int) -> bool:
        """Waits after try number `attempt` and tells whether there should be another.

        Each wait is longer and spread at random, on top of what a proxy asks for; one that asks for more
        than half a minute is left alone until the next cycle.
        """
        unconnected = isinstance(error, errors.PlacementUnreachable) and error.status is None
        if attempt >= (_TRIES_UNCONNECTED if unconnected else TRIES) or error.retry_after > _LONGEST_WAIT:
            return False
        LOG.debug("%s; again (%d)", error, attempt)
        spread = random.uniform(0, _BACKOFF * 2**attempt)  # noqa: S311 - spreads retries, hides nothing
        self._sleep(error.retry_after + spread)
        return True
