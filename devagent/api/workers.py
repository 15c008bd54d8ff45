# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The threads that answer requests, in place of cheroot's own pool, whose stop() waits for ever for a slow handler."""

from __future__ import annotations

import logging
import socket
import threading
import time
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final

LOG: Final = logging.getLogger(__name__)


class Workers:
    """A fixed number of threads; what cheroot wants of a pool is min, start(), put() and stop(timeout)."""

    def __init__(self, server: Any, count: int) -> None:
        self.min = count
        self._server = server
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._serving: dict[str, Any] = {}
        self._idle = threading.Condition()
        self.pending = 0
        """Connections that were put in and are not served yet."""

    def start(self) -> None:
        """Starts the threads; they do not keep the process alive."""
        for number in range(self.min):
            thread = threading.Thread(target=self._work, name=f"api-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def put(self, connection: Any) -> None:
        """Has the next free thread serve one request of the connection."""
        with self._idle:
            self.pending += 1
        self._queue.put(connection)

    def drain(self, timeout: float) -> bool:
        """Waits until all that was put in is served; false if that takes longer than `timeout` seconds."""
        with self._idle:
            return self._idle.wait_for(lambda: self.pending == 0, timeout)

    def stop(self, timeout: float) -> None:
        """Ends the threads. What is not answered after `timeout` seconds loses its connection."""
        for _ in self._threads:
            self._queue.put(None)
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for connection in list(self._serving.values()):
            with suppress(OSError):  # it may have ended meanwhile
                connection.socket.shutdown(socket.SHUT_RDWR)

    def _work(self) -> None:
        name = threading.current_thread().name
        while (connection := self._queue.get()) is not None:
            self._serving[name] = connection
            try:
                self._serve(connection)
            except Exception:
                LOG.exception("a connection of the API failed")
            finally:
                del self._serving[name]
                self._done()

    def _serve(self, connection: Any) -> None:
        keep = False
        try:
            keep = connection.communicate()
        except ConnectionError:
            LOG.debug("a client of the API went away")
        finally:
            if keep:
                self._server.put_conn(connection)
            else:
                connection.close()

    def _done(self) -> None:
        with self._idle:
            self.pending -= 1
            self._idle.notify_all()
