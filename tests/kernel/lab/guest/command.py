# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Runs the command devagent again and again without importing it each time, which takes an emulated CPU seconds.

Each run is a fork of this process, so it begins as a new process would. A line of JSON on standard input asks for one:
{"number": 1, "argv": ["discover"], "user": null}; two lines answer: {"number": 1, "pid": 815} and, at its end,
{"number": 1, "code": 0}. What it says is in /tmp/run-NUMBER.out and .err.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from importlib import import_module
from typing import Any

IMPORTS = ("discover", "doctor", "look", "render.json", "render.table")


def main() -> None:
    """Serves until standard input is closed."""
    for name in IMPORTS:
        import_module(f"devagent.cli.{name}")
    import_module("devagent.registry").load()
    command = import_module("devagent.cli.main").main
    wake, ended = socket.socketpair()
    for end in (wake, ended):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake.fileno())
    running: dict[int, int] = {}
    while True:
        ready = select.select([0, ended.fileno()], [], [])[0]
        if 0 in ready:
            line = sys.stdin.buffer.readline()
            if not line:
                return
            request = json.loads(line)
            pid = begin(request, command)
            running[pid] = request["number"]
            say({"number": request["number"], "pid": pid})
        if ended.fileno() in ready:
            ended.recv(4096)
            for pid in tuple(running):
                if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                    status = os.waitpid(pid, 0)[1]
                    say({"number": running.pop(pid), "code": os.waitstatus_to_exitcode(status)})


def say(answer: dict[str, Any]) -> None:
    """Writes one line."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def begin(request: dict[str, Any], command: Any) -> int:
    """Forks a process that runs the command as the user who is asked for."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        prepare(request)
        code = command(request["argv"])
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def prepare(request: dict[str, Any]) -> None:
    """Gives the run its output, its user and a folder."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for number, name in ((1, "out"), (2, "err")):
        path = f"/tmp/run-{request['number']}.{name}"
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    if request["user"] is not None:
        os.setgroups([])
        os.setgid(request["user"])
        os.setuid(request["user"])
    os.chdir("/tmp")


if __name__ == "__main__":
    main()
