# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Runs what may hang, crash or hold a device open in a process of its own that can be left behind.

Reading a device's link wakes it, NVML waits for the driver and holds the GPU open, /proc/PID waits for
that process. A thread that hangs in the kernel cannot be ended and a process that hangs there cannot
even be killed, but its parent can go on without it. So each look is a child that answers subject by
subject; one that is silent for too long is abandoned, the subject that it was at is given up, and
another child goes on with the rest. For as long as an abandoned child hangs, its subject is not asked again.

A child is a fork: the parent must have a single thread.
"""

from __future__ import annotations

import json
import os
import pickle
import selectors
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final

from devagent.cause import system_words
from devagent.errors import DevagentError, Unreadable
from devagent.sources import abandoned
from devagent.sources.host import Tree

Ask = Callable[[str], Any]

FAILURES: Final = "devagent/failures.json"
"""The file of a capture that says what was given up or raised: `{look: {subject: why}}`."""

_LENGTH: Final = struct.Struct("=I")
_MAX_STUCK: Final = 3
"""After so many subjects that hung, the rest is not asked: something larger is wrong."""
_MAX_ABANDONED: Final = 16
"""No look leaves more children behind than that, however often it is taken."""

# Nothing else makes a wait so much longer.
_STOPPED: Final = 0.5

_reading: set[int] = set()


@dataclass(frozen=True, slots=True)
class Look:
    """One look: `open` gives, for the time of a `with`, what is asked about each of `subjects` in turn.

    `limit` is how many seconds each may take. Answers are whatever can be pickled.
    """

    name: str
    subjects: Sequence[str]
    open: Callable[[Tree], AbstractContextManager[Ask]]
    limit: float


@dataclass(slots=True)
class Outcome:
    """What came of a look: the answers by subject, and why there is none of others."""

    answers: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def look_apart(tree: Tree, looks: Iterable[Look]) -> dict[str, Outcome]:
    """Runs the looks side by side and gives their outcomes by name; never raises for what a look does.

    What failed on a captured host fails again, for the same reason, and is not asked.
    """
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else the kernel gives a child's number away when it ends
    recorded = _recorded(tree)
    runs = [_Run(tree, look, recorded.pop(look.name, {})) for look in looks]
    try:
        _run(runs)
    finally:  # Ctrl-C: whatever still runs is left
        for run in runs:
            run.leave()
    outcomes = {run.look.name: run.outcome for run in runs if run.look.subjects or run.outcome.failures}
    failures = {name: outcome.failures for name, outcome in outcomes.items() if outcome.failures}
    if tree.machine and failures:
        tree.keep(FAILURES, json.dumps(failures, indent=1, sort_keys=True) + "\n")
    return outcomes | {name: Outcome(failures=failed) for name, failed in recorded.items()}


def _run(runs: Sequence[_Run]) -> None:
    with selectors.DefaultSelector() as selector:
        for run in runs:
            if run.subjects:
                run.start(selector)
        while selector.get_map():
            before = time.monotonic()
            wait = max(0.0, min(key.data.deadline for key in selector.get_map().values()) - before)
            ready = {key.data for key, _ in selector.select(wait)}
            # Ctrl-Z, or a virtual machine that was paused: nobody could answer meanwhile.
            stopped = time.monotonic() - before - wait > _STOPPED
            for run in runs:
                if stopped:
                    run.deadline = time.monotonic() + run.look.limit
                if run in ready:
                    run.receive(selector)
                elif run.pipe is not None and time.monotonic() >= run.deadline:
                    run.give_up(selector, f"did not answer within {run.look.limit:g} s")


def _recorded(tree: Tree) -> dict[str, dict[str, str]]:
    """Gives the failures that a capture holds, by look and subject; one that is damaged is itself a failure."""
    try:
        text = None if tree.machine else tree.file(FAILURES)
        failures = {} if text is None else json.loads(text)
        sound = all(isinstance(each, str) for failed in failures.values() for each in failed.values())
    except (Unreadable, ValueError, AttributeError, RecursionError):
        sound = False
    return failures if sound else {"capture": {FAILURES: f"{FAILURES} is damaged"}}


class _Run:
    """A look while it runs: the child that answers now, and what it is at."""

    def __init__(self, tree: Tree, look: Look, failures: dict[str, str]) -> None:
        self.tree, self.look, self.outcome = tree, look, Outcome(failures=failures)
        hanging = abandoned.hanging(look.name, machine=tree.machine)
        wanted = set(look.subjects)
        self.outcome.failures.update({each.subject: str(each) for each in hanging if each.subject in wanted})
        self.subjects = [subject for subject in look.subjects if subject not in self.outcome.failures]
        self.next, self.stuck, self.room = 0, 0, _MAX_ABANDONED - len(hanging)
        self.pid, self.pipe, self.deadline = 0, None, 0.0  # type: int, int | None, float
        self.buffer = bytearray()

    def start(self, selector: selectors.BaseSelector) -> None:
        """Starts a child for the subjects that are left; without one, they all fail."""
        if self.room <= 0:
            self._skip(f"was not asked: {_MAX_ABANDONED} processes that asked others hang in the kernel")
            return
        try:
            self._fork(selector)
        except OSError as error:  # too many processes or open files
            self._skip(f"cannot be asked: no process can be started ({system_words(error)})")

    def _skip(self, why: str) -> None:
        self.outcome.failures.update(dict.fromkeys(self.subjects[self.next :], why))
        self.next = len(self.subjects)

    def _fork(self, selector: selectors.BaseSelector) -> None:
        reading, writing = os.pipe()
        try:
            pid = os.fork()
        except OSError:
            os.close(reading)
            os.close(writing)
            raise
        if pid == 0:
            for pipe in (reading, *_reading):  # whoever else writes must see that nobody reads any more
                os.close(pipe)
            _answer(self.tree, self.look, self.subjects[self.next :], writing)
        os.close(writing)
        _reading.add(reading)
        self.pid, self.pipe, self.buffer = pid, reading, bytearray()
        self.deadline = time.monotonic() + self.look.limit
        selector.register(reading, selectors.EVENT_READ, self)

    def receive(self, selector: selectors.BaseSelector) -> None:
        """Takes what the child has sent; its end without an answer is a crash."""
        assert self.pipe is not None
        data = os.read(self.pipe, 1 << 20)
        if not data:
            self.give_up(selector, "")
            return
        self.buffer += data
        while len(self.buffer) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self.buffer)[0]
            if len(self.buffer) < end:
                break
            self._take(*pickle.loads(self.buffer[_LENGTH.size : end]))  # noqa: S301 - from our own child
            self.buffer = self.buffer[end:]

    def _take(self, answer: Any, failure: str | None, taken: object) -> None:
        if self.next == len(self.subjects):  # it failed when all was answered
            return
        subject = self.subjects[self.next]
        self.tree.take(taken)
        if failure is None:
            self.outcome.answers[subject] = answer
        else:
            self.outcome.failures[subject] = failure
        self.next += 1
        self.deadline = time.monotonic() + self.look.limit

    def give_up(self, selector: selectors.BaseSelector, why: str) -> None:
        """Leaves the child, which is done, dead or hanging; goes on behind the subject that it was at."""
        assert self.pipe is not None
        selector.unregister(self.pipe)
        end = self.leave() if why else self.leave(abandoned.LONG_PATIENCE)
        if self.next == len(self.subjects):
            return
        self.outcome.failures[self.subjects[self.next]] = why or end
        self.next += 1
        self.stuck += 1
        if self.stuck < _MAX_STUCK and self.next < len(self.subjects):
            self.start(selector)
        else:
            self._skip(f"was not asked: {self.stuck} before it did not answer")

    def leave(self, patience: float = abandoned.PATIENCE) -> str:
        """Ends the child, if there is one, and says how it ended; one that does not within `patience` hangs."""
        if self.pipe is None:
            return ""
        os.close(self.pipe)
        _reading.discard(self.pipe)
        self.pipe = None
        end = abandoned.ended(self.pid, patience)
        if end is None:
            subject = self.subjects[self.next] if self.next < len(self.subjects) else ""
            abandoned.leave(self.pid, self.look.name, subject, machine=self.tree.machine)
            self.room -= 1
        return end or "hangs in the kernel"


def _answer(tree: Tree, look: Look, subjects: Sequence[str], pipe: int) -> None:
    """The child's life; it ends here, whatever happens."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        tree.taken()
        try:
            with look.open(tree) as ask:
                for subject in subjects:
                    _send(pipe, tree, *_asked(ask, subject))
        except Exception as error:  # it could not be opened: none of its subjects can be asked
            for _ in subjects:
                _send(pipe, tree, None, _describe(error))
        code = 0
    except BaseException:  # noqa: S110 - the parent sees that no answer came
        pass
    finally:
        os._exit(code)


def _asked(ask: Ask, subject: str) -> tuple[Any, str | None]:
    try:
        return ask(subject), None
    except Exception as error:  # whatever a look raises stays with its subject
        return None, _describe(error)


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, DevagentError) else f"{type(error).__name__}: {error}"


def _send(pipe: int, tree: Tree, answer: Any, failure: str | None) -> None:
    taken = tree.taken()
    try:
        data = pickle.dumps((answer, failure, taken))
    except Exception as error:  # an answer that cannot be sent is none
        data = pickle.dumps((None, _describe(error), taken))
    data = _LENGTH.pack(len(data)) + data
    while data:
        data = data[os.write(pipe, data) :]
