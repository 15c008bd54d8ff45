# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The privileged process itself: one loop that takes requests, forks a child for each, and ends those that are late."""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from devagent.cause import system_words
from devagent.privileged import prctl
from devagent.privileged.child import Child, Service, answer, carry_out, fork
from devagent.privileged.request import MAX_SIZE, Refused, Request, parse
from devagent.privileged.verbs import VERBS, World

MAX_CHILDREN: Final = 256
GRACE_S: Final = 2.0
"""Seconds that a killed child has to end; one that takes longer hangs in the kernel."""

IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""On these the agent drains its work, or reloads, and needs its privileged process for it."""

_FD: Final = struct.Struct("i")
_MAX_FDS: Final = 8
_HUNG_UP: Final = select.POLLHUP | select.POLLERR | select.POLLRDHUP


def live(control: socket.socket, services: Mapping[str, Service], root: Path, images: Callable[[], Path]) -> None:
    """Is the life of the privileged process: it ends when the agent has closed the other end of `control`."""
    prctl.name("devagent-priv")
    prctl.no_new_privileges()
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # What was inherited is nobody's business here: no descriptor of it may stay open, and no object may close one.
    gc.freeze()
    for fd in tuple(Path("/proc/self/fd").iterdir()):
        if int(fd.name) not in (0, 1, 2, control.fileno()):
            with suppress(OSError):  # the one by which the list was read
                os.close(int(fd.name))
    _Process(control, services, root, images).run()


class _Process:
    def __init__(
        self, control: socket.socket, services: Mapping[str, Service], root: Path, images: Callable[[], Path]
    ) -> None:
        self._control, self._services, self._root, self._images = control, services, root, images
        self._children: list[Child] = []
        self._ended: dict[str, str] = {}

    def run(self) -> None:
        while True:
            events = self._wait()
            for child in tuple(self._children):
                self._look_after(child, events)
            event = events.get(self._control.fileno(), 0)
            if event and not self._take() and event & _HUNG_UP:
                break
        for child in self._children:
            child.kill()

    def _wait(self) -> dict[int, int]:
        poll = select.poll()
        poll.register(self._control, select.POLLIN | select.POLLRDHUP)
        for child in self._children:
            poll.register(child.pidfd, select.POLLIN)
            if child.until is None and not child.killed:
                poll.register(child.connection, select.POLLRDHUP)  # a service's socket: what comes on it is not ours
        limits = [child.until for child in self._children if child.until is not None]
        wait = max(0.0, min(limits) - time.monotonic()) * 1000 + 1 if limits else None
        return dict(poll.poll(wait))

    def _look_after(self, child: Child, events: Mapping[int, int]) -> None:
        if events.get(child.pidfd):
            self._bury(child)
        elif child.until is None:
            if events.get(child.connection.fileno(), 0) & _HUNG_UP:
                # The agent wants the service no more, or wants another in its place.
                self._kill(child)
        elif time.monotonic() >= child.until:
            if child.killed:
                self._abandon(child)
            else:
                self._kill(child)

    def _kill(self, child: Child) -> None:
        child.kill()
        child.until = time.monotonic() + GRACE_S

    def _abandon(self, child: Child) -> None:
        child.until, child.stuck = None, True
        if child.request.deadline_s is not None:
            answer(child.connection, {"stuck": _stuck(child), "pid": child.pid})

    def _bury(self, child: Child) -> None:
        late, request = child.killed, child.request
        if request.deadline_s is None:
            # First: once its number is gone, nobody may take the service for one that still listens.
            child.connection.close()
        how = child.end()
        if request.deadline_s is None:
            self._ended[request.name] = how
        elif late:
            text = f"{_about(request)} did not end within {request.deadline_s:g} s and was killed"
            answer(child.connection, {"failed": f"{text}; how far it came is unknown"})
        else:  # if it has answered, this is not read
            answer(child.connection, {"failed": f"{_about(request)} {how} and did not answer"})
        child.close()
        self._children.remove(child)

    def _take(self) -> bool:
        """Takes one request; tells whether there was one."""
        try:
            data, ancillary, flags, _ = self._control.recvmsg(
                MAX_SIZE, socket.CMSG_SPACE(_MAX_FDS * _FD.size), socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionError:
            return False
        connections = list(_sockets(ancillary))
        if len(connections) == 1:
            self._start(data, flags, connections[0])
        else:
            for connection in connections:
                connection.close()
        return bool(data)

    def _start(self, data: bytes, flags: int, connection: socket.socket) -> None:
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise Refused("is too long")
            request = parse(data, self._services)
            self._check(request)
            self._children.append(fork(request, connection, partial(self._child, request, connection)))
        except Refused as error:
            answer(connection, {"failed": f"refused: the request {error}"})
            connection.close()
        except _Stuck as error:
            answer(connection, {"stuck": str(error), "pid": error.pid})
            connection.close()
        except OSError as error:
            answer(connection, {"failed": f"no process can be started: {system_words(error)}"})
            connection.close()

    def _check(self, request: Request) -> None:
        if len(self._children) >= MAX_CHILDREN:
            raise Refused(f"is one too many: {MAX_CHILDREN} are carried out already")
        for child in self._children:
            if child.stuck and request.address is not None and child.request.address == request.address:
                raise _Stuck(_stuck(child), child.pid)

    def _child(self, request: Request, connection: socket.socket) -> None:
        """What the forked child does; what the others hold open is not to live on in it."""
        stuck = tuple(child.told() for child in self._children if child.stuck)
        for child in self._children:
            child.close()
        self._control.close()
        if request.deadline_s is None:
            self._services[request.name](connection)
        else:
            until = time.monotonic() + request.deadline_s
            world = World(self._root, stuck, dict(self._ended), until, self._images)
            carry_out(partial(VERBS[request.name].do, world, **request.arguments), connection)


class _Stuck(Exception):
    """An earlier verb on the same device hangs; another would only hang behind it."""

    def __init__(self, text: str, pid: int) -> None:
        super().__init__(text)
        self.pid = pid


def _about(request: Request) -> str:
    return f"{request.address}: {request.name}" if request.address else request.name


def _stuck(child: Child) -> str:
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(child.since))
    return f"{_about(child.request)} hangs in the kernel since {since} (pid {child.pid} cannot be killed)"


def _sockets(ancillary: list[tuple[int, int, bytes]]) -> Iterator[socket.socket]:
    """Gives the unix sockets among the descriptors that came with a message, and closes whatever else did."""
    for level, kind, data in ancillary:
        if (level, kind) != (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            continue
        for (fd,) in _FD.iter_unpack(data[: len(data) // _FD.size * _FD.size]):
            try:
                connection = socket.socket(fileno=fd)
            except OSError:
                os.close(fd)
                continue
            if connection.family == socket.AF_UNIX:
                yield connection
            else:
                connection.close()
