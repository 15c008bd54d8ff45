# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The agent's side of the look process: asks it, ends it when it hangs, starts another one when it is needed."""

from __future__ import annotations

import json
import logging
import pickle
import select
import socket
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

from devagent.discovery import Discovery
from devagent.errors import LookFailed, PrivilegedError
from devagent.model.policy import Policy
from devagent.privileged import Privileged
from devagent.service import frames

LOG = logging.getLogger(__name__)

SERVICE: Final = "look"
_GRACE_S: Final = 2.0
"""The process ends by itself when a look takes too long, and says what it was at; after this much more it is ended."""


class Looker:
    """The look process, as the agent sees it; it is started by the first look and after each one that broke it."""

    def __init__(self, privileged: Privileged, state_path: str) -> None:
        self._privileged, self._state_path = privileged, state_path
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._pid: int | None = None

    @property
    def pid(self) -> int | None:
        """The process that answered last, None if it has ended since."""
        return self._pid

    def look(
        self, policy: Policy, only: Iterable[str] | None = None, *, timeout: float, every: bool = False
    ) -> Discovery:
        """Looks at the host, with `only` at the devices of these addresses; see `Lookout`.

        Raises LookFailed if there is no answer within `timeout` seconds, or none that tells what is there.
        """
        request = {
            "policy": asdict(policy),
            "only": None if only is None else sorted(only),
            "state_path": self._state_path,
            "every": every,
            "limit_s": timeout,
        }
        # The only thing in a policy that JSON does not know is a frozenset.
        message = json.dumps(request, default=sorted).encode()
        with self._lock:
            found, failure, self._pid = self._ask(message, time.monotonic() + timeout + _GRACE_S)
            if self._pid is None:
                self._close()
        if failure is not None:
            raise LookFailed(f"the look process could not look at the host: {failure}")
        discovery: Discovery = found
        return discovery

    def close(self) -> None:
        """Ends the look process, and with it a look that is under way; the next look would start another one."""
        connection = self._connection
        if connection is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._close()

    def _ask(self, message: bytes, until: float) -> tuple[Any, str | None, int | None]:
        try:
            connection = self._connected()
            connection.settimeout(max(until - time.monotonic(), 0.001))
            frames.send(connection, message)
            data = frames.receive(connection, until)
        except PrivilegedError as error:
            self._close()
            raise LookFailed(str(error)) from None
        except TimeoutError:
            self._close()
            raise LookFailed("the look process hangs: it was ended, the next look starts another one") from None
        except OSError:
            data = None
        if data is None:
            self._close()
            raise LookFailed(f"the look process {self._end()} during a look; the next look starts another one")
        try:
            answer: tuple[Any, str | None, int | None] = pickle.loads(data)  # noqa: S301 - from a process of our own
        except Exception as error:  # a driver from elsewhere may have put anything into it
            self._close()
            raise LookFailed(f"the look process gave an answer that cannot be read: {error}") from error
        return answer

    def _connected(self) -> socket.socket:
        if self._connection is not None and _has_ended(self._connection):
            LOG.warning("the look process %s between two looks; another one is started", self._end())
            self._close()
        if self._connection is None:
            self._connection = self._privileged.service(SERVICE)
        return self._connection

    def _end(self) -> str:
        with suppress(PrivilegedError, KeyError):
            return str(self._privileged.call("ended", _GRACE_S)["ended"][SERVICE])
        return "ended"

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._pid = None


def _has_ended(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))
