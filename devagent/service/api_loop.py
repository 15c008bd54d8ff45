# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Serves the API in a loop of the agent's, so that a server that is stuck is noticed like any other."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from devagent.api.server import Server
from devagent.service.beats import Beats
from devagent.service.loop import Loop


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
