# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The look process: discovers what the agent asks for, in a process that may fork, hang or crash without it.

    {"policy": {..}, "only": ["0000:3b:00.0"] | null, "state_path": "/var/lib/devagent", "every": false, "limit_s": 60}

A request is JSON: this process can read every file, and what comes from the one that talks to the network must not
become an object of any kind here. The answer is a pickle, since the agent trusts what it starts: (discovery, failure,
number of this process unless it ends). All that is kept from look to look is one Lookout, and what is known to hang.
"""

from __future__ import annotations

import faulthandler
import json
import os
import pickle
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devagent.errors import DevagentError
from devagent.privileged import capabilities, prctl
from devagent.privileged.capabilities import Capability
from devagent.service import frames

if TYPE_CHECKING:
    import socket
    from types import FrameType

    from devagent.discovery import Discovery, Lookout

_KEPT = (Capability.DAC_READ_SEARCH, Capability.SYS_PTRACE, Capability.SYSLOG)


def serve(connection: socket.socket, root: str = "/") -> None:
    """Looks at the host below `root` as often as it is asked to, until the agent closes the socket."""
    prctl.name("devagent-look")
    capabilities.keep(_KEPT)
    # A library or a driver of somebody else's that crashes should at least say where.
    faulthandler.enable(file=sys.__stderr__ or 2)
    with ExitStack() as stack:
        eyes = _Eyes(Path(root), stack)
        while (request := frames.receive(connection)) is not None:
            frames.send(connection, _answer(eyes, connection, request))


def _answer(eyes: _Eyes, connection: socket.socket, request: bytes) -> bytes:
    try:
        raw = json.loads(request)
        _limit(connection, float(raw["limit_s"]))
        try:
            return pickle.dumps((eyes.look(raw), None, os.getpid()), pickle.HIGHEST_PROTOCOL)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except DevagentError as error:
        failure = str(error)
    except Exception as error:  # whatever it is, it costs one look
        failure = f"{type(error).__name__}: {error}"
        sys.excepthook(*sys.exc_info())
    return pickle.dumps((None, failure, os.getpid()))


class _Eyes:
    """What is kept from look to look."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        self._root, self._stack = root, stack
        self._lookout: Lookout | None = None
        self._state_path = ""

    def look(self, raw: dict[str, Any]) -> Discovery:
        """Looks as a request says. Raises ValueError or TypeError if it is none, RootError if there is no sysfs."""
        # Only here: the privileged process, of which this is a fork, knows nothing of all that.
        from devagent.model.policy import Policy  # noqa: PLC0415
        from devagent.sources.typed import decode  # noqa: PLC0415

        policy = decode(Policy, raw["policy"])
        only = None if raw["only"] is None else frozenset(decode(tuple[str, ...], raw["only"]))
        lookout = self._at(decode(str, raw["state_path"]))
        return lookout.look(policy, only, every=decode(bool, raw["every"]))

    def _at(self, state_path: str) -> Lookout:
        if self._lookout is None or self._state_path != state_path:
            from devagent import registry  # noqa: PLC0415
            from devagent.discovery import Lookout  # noqa: PLC0415
            from devagent.sources import roots  # noqa: PLC0415

            self._stack.close()
            tree = self._stack.enter_context(roots.open_root(self._root))
            self._lookout = Lookout(tree, registry.load(), state_path=state_path)
            self._state_path = state_path
        return self._lookout


def _limit(connection: socket.socket, seconds: float) -> None:
    """Ends this process after so many seconds, and tells the agent what it was at; else only its death would tell."""

    def late(_number: int, frame: FrameType | None) -> None:
        where = f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}" if frame else "no place"
        failure = f"it did not end within {seconds:g} s; it was at {where}"
        faulthandler.dump_traceback(file=sys.__stderr__ or 2)
        frames.send(connection, pickle.dumps((None, failure, None)))
        os._exit(1)

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
