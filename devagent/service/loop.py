# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A loop of the agent: a thread that takes turns, survives whatever a turn raises, and beats."""

from __future__ import annotations

import abc
import logging
import threading
from typing import ClassVar, Final

from oslo_service import service

from devagent.errors import DevagentError
from devagent.privileged import prctl
from devagent.service.beats import Beats

LOG = logging.getLogger(__name__)

_PAUSE: Final = 5.0
"""Seconds after a turn that failed, so that a loop which always fails does nothing worse than that."""


class Loop(service.ServiceBase, metaclass=abc.ABCMeta):  # type: ignore[misc]
    """Takes turns in a thread of its own until it is stopped; `limit` is how long one may be silent, in seconds."""

    name: ClassVar[str]
    limit: float = 120.0
    holds: ClassVar[bool] = True
    """Whether it may hold something when the agent ends; who only listens is not waited for."""

    def __init__(self, beats: Beats) -> None:
        self._beats = beats
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    @abc.abstractmethod
    def turn(self) -> None:
        """Waits until something is to be done, and does it; beats at least every `limit` seconds."""

    def wake(self) -> None:
        """Ends the wait of a turn early; what waits without end must be woken by it."""

    def beat(self, detail: str | None = None) -> None:
        """Says that there is progress."""
        self._beats.beat(self.name, detail)

    def fail(self, why: str) -> None:
        """Says that it goes on, but not as it should."""
        self._beats.beat(self.name, why, failed=True)

    def pause(self, seconds: float) -> None:
        """Waits within a turn, with a beat. Raises Stopped if the agent stops meanwhile."""
        self.beat()
        if self.stopping.wait(seconds):
            raise Stopped

    def start(self) -> None:
        """Starts the thread."""
        self._beats.expect(self.name, self.limit)
        self._thread.start()

    def stop(self, graceful: bool = False) -> None:  # noqa: ARG002 - as oslo.service has it
        """Asks the loop to end after its turn."""
        self.stopping.set()
        self.wake()

    def wait(self, timeout: float | None = None) -> None:
        """Waits until it has ended."""
        if self.holds and self._thread.is_alive():
            self._thread.join(timeout)
        self._beats.dismiss(self.name)

    def reset(self) -> None:
        """Takes new settings into account at once."""
        self.wake()

    def _run(self) -> None:
        prctl.name(f"devagent-{self.name}")  # for top -H
        while not self.stopping.is_set():
            try:
                self.turn()
            except Stopped:
                return
            except Exception as error:  # a loop that ended would be missed only much later
                if self.stopping.is_set():
                    return
                LOG.exception("the %s loop failed; it goes on in %g s", self.name, _PAUSE)
                self._beats.beat(self.name, _words(error), failed=True)
                self.stopping.wait(_PAUSE)


class Stopped(BaseException):
    """The agent stops: whatever waited in a loop ends."""


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, DevagentError) else f"{type(error).__name__}: {error}"
