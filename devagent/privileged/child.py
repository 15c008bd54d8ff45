# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A child of the privileged process: it carries out one verb, or is a service, and ends with it."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

from devagent.cause import system_words
from devagent.errors import VerbFailed
from devagent.privileged import prctl
from devagent.privileged.refused import as_json
from devagent.privileged.request import Request

Service = Callable[[socket.socket], None]


@dataclass(slots=True)
class Child:
    """One that was forked and has not been seen to end; `connection` is where its answer goes, or its service's socket.

    `until` is when it must have ended (monotonic), None if never; `killed` that it was told to, `stuck` that it
    did not.
    """

    request: Request
    connection: socket.socket
    pid: int
    until: float | None
    pidfd: int = -1
    since: float = field(default_factory=time.time)
    killed: bool = False
    stuck: bool = False

    def kill(self) -> None:
        """Kills it with all that it has started."""
        self.killed = True
        with suppress(OSError):  # none of them is left
            os.killpg(self.pid, signal.SIGKILL)

    def end(self) -> str:
        """Takes leave of it once it has ended, and says how it did."""
        # What it had started goes, too; until it is waited for, its number is nobody else's.
        self.kill()
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        except ChildProcessError:
            return "ended"
        return f"ended with {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def close(self) -> None:
        """Gives back its descriptors."""
        self.connection.close()
        if self.pidfd != -1:
            os.close(self.pidfd)
            self.pidfd = -1

    def told(self) -> dict[str, Any]:
        """Says what it is, for an operator who has to do with it."""
        return {"verb": self.request.name, "arguments": self.request.arguments, "pid": self.pid, "since": self.since}


def fork(request: Request, connection: socket.socket, live: Callable[[], None]) -> Child:
    """Starts a child that does `live` and ends. Raises OSError if there can be no further process."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _life(live, parent)
    with suppress(OSError):  # it may have done so itself, or have ended
        os.setpgid(pid, pid)
    until = None if request.deadline_s is None else time.monotonic() + request.deadline_s
    child = Child(request, connection, pid, until)
    try:
        child.pidfd = os.pidfd_open(pid)
    except OSError:
        child.end()
        raise
    return child


def _life(live: Callable[[], None], parent: int) -> NoReturn:
    code = 1
    try:
        os.setpgid(0, 0)
        prctl.die_with_parent()
        if os.getppid() == parent:  # else it has died before we asked to be told
            live()
            code = 0
    except BaseException:
        complain()
    finally:
        os._exit(code)


def carry_out(do: Callable[[], Mapping[str, Any]], connection: socket.socket) -> None:
    """Carries out a verb and sends its result, or why there is none, whatever the verb does."""
    try:
        answer(connection, {"result": do()})
    except VerbFailed as error:
        answer(connection, as_json(error))
    except OSError as error:
        complain()
        where = f"{error.filename}: " if error.filename else ""
        answer(connection, {"failed": f"{where}{system_words(error)}"})
    except Exception as error:  # a fault of ours: the caller must know, and the log tells where
        complain()
        answer(connection, {"failed": f"{type(error).__name__}: {error}"})


def complain() -> None:
    """Writes where an exception came from to the log: descriptor 2, whatever Python thinks of its own."""
    with suppress(OSError):
        os.write(2, traceback.format_exc().encode(errors="replace"))


def answer(connection: socket.socket, said: Mapping[str, Any]) -> None:
    """Sends an answer; that nobody waits for it any more is no fault."""
    with suppress(OSError):
        connection.send(json.dumps(said).encode(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
