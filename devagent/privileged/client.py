# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The agent's side of the privileged process: starts it, asks it, stops it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from devagent.errors import VerbFailed, VerbStuck
from devagent.privileged import process
from devagent.privileged.child import Service, complain
from devagent.privileged.images import FOLDER
from devagent.privileged.refused import from_json

_ANSWER_SIZE: Final = 1 << 18
_SEND_S: Final = 5.0
_ANSWER_S: Final = 5.0
_MARGIN_S: Final = process.GRACE_S + 5.0
"""The process itself says what became of a verb that was late; only if it is hampered, too, does nobody."""


class Privileged:
    """The privileged process, as threads of the agent ask it; any number at once."""

    def __init__(self, control: socket.socket, pid: int) -> None:
        self.pid = pid
        self._control = control
        self._control.settimeout(_SEND_S)
        self._reaping = threading.Lock()
        self._reaped = False

    @property
    def alive(self) -> bool:
        """Whether it still takes requests."""
        if self._control.fileno() == -1:
            return False
        poll = select.poll()
        poll.register(self._control, select.POLLRDHUP)
        return not poll.poll(0)

    def call(self, verb: str, deadline_s: float, **arguments: Any) -> dict[str, Any]:
        """Has a verb carried out within so many seconds, and gives its result.

        Raises VerbRefused if it was refused, VerbFailed if it did not work or was killed at its deadline, VerbStuck
        if even that did not end it.
        """
        with self._ask(verb, {"verb": verb, "arguments": arguments, "deadline_s": deadline_s}) as connection:
            connection.settimeout(deadline_s + _MARGIN_S)
            try:
                data = connection.recv(_ANSWER_SIZE)
            except TimeoutError:
                raise VerbFailed(verb, f"{verb}: the privileged process does not answer") from None
            except OSError as error:
                raise VerbFailed(verb, f"{verb}: no answer came: {error}") from None
        said: dict[str, Any] = json.loads(data) if data else {"failed": self._silence(verb)}
        if "stuck" in said:
            raise VerbStuck(verb, said["stuck"], said["pid"])
        if "failed" in said:
            raise from_json(verb, said)
        result: dict[str, Any] = said["result"]
        return result

    def service(self, name: str) -> socket.socket:
        """Starts a service in a process of its own, and gives the socket to it; closing that ends the process.

        Raises VerbFailed if the privileged process has ended.
        """
        return self._ask(name, {"service": name}, socket.SOCK_STREAM)

    def stop(self) -> None:
        """Ends the process, and with it all that it has started; what hangs in the kernel is left behind."""
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        self._control.close()
        with self._reaping:
            if not self._reaped:
                self._reap()
                self._reaped = True

    def _reap(self) -> None:
        end = time.monotonic() + process.GRACE_S
        with suppress(ChildProcessError):  # somebody else has
            while not os.waitpid(self.pid, os.WNOHANG)[0]:
                if time.monotonic() > end:
                    os.kill(self.pid, signal.SIGKILL)
                time.sleep(0.001)

    def _ask(self, what: str, request: Mapping[str, Any], kind: int = socket.SOCK_SEQPACKET) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        with theirs:
            try:
                socket.send_fds(self._control, [json.dumps(request).encode()], [theirs.fileno()])
            except OSError as error:
                ours.close()
                late = "it takes no requests" if isinstance(error, TimeoutError) else self._silence(what)
                raise VerbFailed(what, late) from None
        return ours

    def _silence(self, what: str) -> str:
        if self.alive:
            return f"{what}: the privileged process gave no answer"
        return f"{what}: the privileged process has ended; devagent must be restarted"


def hanging(privileged: Privileged) -> frozenset[str | None]:
    """Gives the addresses of the devices on which a verb hangs in the kernel. Raises VerbFailed."""
    return frozenset(each["arguments"].get("address") for each in privileged.call("stuck", _ANSWER_S)["stuck"])


def start(
    services: Mapping[str, Service], *, root: str = "/", images: Callable[[], Path] = lambda: FOLDER
) -> Privileged:
    """Forks the privileged process, before there is any thread and while little is loaded.

    `services` are what it runs on request by name, in processes of their own; `root` is where the host's tree begins.
    `images` gives the folder with images for FPGAs; it is asked in the process of the verb that wants one.
    """
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # Until it ignores them, none may end it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, process.IGNORED)
    try:
        pid = os.fork()
        if pid == 0:
            _life(theirs, services, root, images)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return Privileged(control, pid)


def _life(control: socket.socket, services: Mapping[str, Service], root: str, images: Callable[[], Path]) -> None:
    code = 1
    try:
        process.live(control, services, Path(root), images)
        code = 0
    except BaseException:
        complain()
    finally:
        os._exit(code)
