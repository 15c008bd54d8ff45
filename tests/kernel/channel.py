# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Requests to the agent in the guest and its answers, many at a time, and the uevents that it tells of."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final

from .machine import GuestFault, Machine
from .timeline import Timeline

PATIENCE_S: Final = 60.0
"""How long a request may take unless it says so itself; the machine may be busy."""
_PING_S: Final = 30.0
_SHOWN: Final = 150


class Channel:
    """The line to one guest's agent."""

    def __init__(self, machine: Machine, timeline: Timeline) -> None:
        self._machine, self._timeline = machine, timeline
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[Any]] = {}
        self._hello: Future[float] = Future()
        self._changed = threading.Condition()
        self._hangs = False
        self.uevents: list[dict[str, str]] = []
        threading.Thread(target=self._receive, daemon=True).start()

    def hello(self, timeout: float) -> float:
        """Waits for the agent; gives the guest's uptime then. Raises GuestFault."""
        try:
            return self._hello.result(timeout)
        except TimeoutError:
            raise GuestFault(f"the guest did not come up within {timeout:g} s") from None

    def send(self, do: str, **arguments: Any) -> Future[Any]:
        """Sends a request; its answer comes when it comes. Raises GuestFault if nobody is there."""
        if self._hangs:
            raise GuestFault("the guest hangs")
        number = next(self._numbers)
        future: Future[Any] = Future()
        self._waiting[number] = future
        self._timeline.add("test", f"{do} {_brief(arguments)}")
        try:
            self._machine.agent.sendall(json.dumps({"id": number, "do": do, **arguments}).encode() + b"\n")
        except OSError as error:
            raise GuestFault(f"the guest cannot be reached: {error}") from None
        return future

    def ask(self, do: str, *, patience: float = PATIENCE_S, **arguments: Any) -> Any:
        """Sends a request and gives what the agent answers; an OSError has the guest's number.

        Raises TimeoutError if the guest is well but this takes too long, and GuestFault if it hangs.
        """
        return self.result(self.send(do, **arguments), do, patience)

    def result(self, future: Future[Any], what: str, patience: float = PATIENCE_S) -> Any:
        """Waits for an answer as `ask` does."""
        try:
            return future.result(patience)
        except TimeoutError:
            if future.done():
                raise  # the agent's own answer
        try:
            self.send("ping").result(_PING_S)
        except TimeoutError:
            self._hangs = True
            raise GuestFault(f"the guest hangs: no answer to {what} in {patience:g} s, nor to a ping") from None
        raise TimeoutError(f"{what} took longer than {patience:g} s")

    def wait_for(self, fits: Callable[[dict[str, str]], bool], start: int, timeout: float) -> dict[str, str]:
        """Gives the first uevent after the `start` first ones that fits, waiting for it. Raises TimeoutError."""
        end = time.monotonic() + timeout
        with self._changed:
            while True:
                for event in self.uevents[start:]:
                    if fits(event):
                        return event
                if not self._changed.wait(end - time.monotonic()):
                    raise TimeoutError(f"no such uevent within {timeout:g} s")

    def _receive(self) -> None:
        with self._machine.agent as agent, suppress(OSError), agent.makefile("rb") as lines:
            for line in lines:
                self._take(json.loads(line))
        self._timeline.add("agent", "is gone")
        gone = GuestFault("QEMU or the guest's agent ended")
        for future in (self._hello, *self._waiting.values()):
            if not future.done():
                future.set_exception(gone)

    def _take(self, message: dict[str, Any]) -> None:
        if event := message.get("uevent"):
            self._timeline.add("kernel", f"{event.get('ACTION')} {event.get('DEVPATH')}")
            with self._changed:
                self.uevents.append(event)
                self._changed.notify_all()
        elif "hello" in message:
            self._timeline.add("agent", f"is there, {message['hello']:.1f} s after the guest's start")
            self._hello.set_result(message["hello"])
        else:
            self._answer(message)

    def _answer(self, message: dict[str, Any]) -> None:
        future = self._waiting.pop(message["id"])
        error = message.get("error")
        self._timeline.add("agent", f"answers: {_brief(error or message.get('result'))}")
        if message.get("errno"):
            future.set_exception(OSError(message["errno"], error))
        elif error:
            future.set_exception(AssertionError(f"in the guest:\n{error}"))
        else:
            future.set_result(message.get("result"))


def _brief(value: object) -> str:
    text = " ".join(f"{key}={item!r}" for key, item in value.items()) if isinstance(value, dict) else repr(value)
    return text if len(text) <= 2 * _SHOWN else f"{text[:_SHOWN]} ({len(text)} characters) {text[-_SHOWN:]}"
