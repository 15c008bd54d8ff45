# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Serves the API in loops of the agent's, so that a server that is stuck is noticed like any other."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import ClassVar, Final

from devagent.api.server import Server
from devagent.errors import ListenError
from devagent.service.beats import Beats
from devagent.service.loop import Loop, Stopped

LOG: Final = logging.getLogger(__name__)

_AGAIN_S: Final = 10.0


class Drain:
    """Gives how many seconds are left for calls under way; for all servers together, from the first question on."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._until: float | None = None

    def __call__(self) -> float:
        """Gives them; not less than none."""
        if self._until is None:
            self._until = time.monotonic() + self._seconds()
        return max(0.0, self._until - time.monotonic())


class ApiLoop(Loop):
    """Has one turn that lasts until it is stopped; calls in flight then have `drain` seconds to end."""

    name: ClassVar[str] = "api"
    limit = 60.0

    def __init__(self, beats: Beats, server: Server, drain: Callable[[], float]) -> None:
        super().__init__(beats)
        self._server, self._drain = server, drain

    def start(self) -> None:
        """Opens the socket and serves. Raises ListenError, ConfigurationError."""
        self._server.listen()
        super().start()

    def turn(self) -> None:
        """Serves until the end."""
        self._server.serve(self.beat)

    def wake(self) -> None:
        """Ends the server, once the agent stops."""
        if self.stopping.is_set():
            self._server.stop(self._drain())


class RemoteApiLoop(ApiLoop):
    """Serves over TLS. A port that cannot be had is tried again and again: this host is looked after all the same."""

    name: ClassVar[str] = "api-tls"

    def start(self) -> None:
        """Serves, once the port is there."""
        super(ApiLoop, self).start()

    def turn(self) -> None:
        """Opens the port, and serves until the end."""
        told = ""
        while True:
            try:
                self._server.listen()
                break
            except ListenError as error:
                if str(error) != told:
                    told = str(error)
                    LOG.error("other hosts cannot reach the API: %s; tried again every %g s", error, _AGAIN_S)
                self.fail(told)
                if self.stopping.wait(_AGAIN_S):
                    raise Stopped from None
        if told:
            LOG.warning("other hosts can reach the API again")
        if self.stopping.is_set():  # who ended it meanwhile found nothing to stop
            self._server.stop(0)
        self.beat()
        super().turn()
