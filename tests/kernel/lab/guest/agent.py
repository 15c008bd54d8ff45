# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest: does what the tests ask over a virtio-serial port, and tells of every uevent.

One JSON object per line, both ways. A request has an `id` and a `do`; each is answered from a thread of its own,
so one that waits in the kernel holds up no other. What comes unasked has no id: {"uevent": {...}}.
"""

from __future__ import annotations

import base64
import errno
import functools
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

PORT = "lab"
NETLINK_KOBJECT_UEVENT = 15
RECEIVE_BUFFER = 4 << 20
SO_RCVBUFFORCE = 33

ENVIRONMENT = {
    **os.environ,
    "PATH": "/opt/devagent/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONPATH": "/opt/devagent/lib",
    "PYTHONDONTWRITEBYTECODE": "1",
}

Answer = dict[str, Any]

_write = threading.Lock()
_started: dict[int, subprocess.Popen[bytes]] = {}


def main() -> None:
    """Answers until the host closes the port or says `poweroff`."""
    port = open_port()
    threading.Thread(target=listen, args=(port,), daemon=True).start()
    send(port, {"hello": time.clock_gettime(time.CLOCK_BOOTTIME)})
    for line in port:
        request = json.loads(line)
        if request["do"] == "poweroff":
            send(port, {"id": request["id"]})
            return
        threading.Thread(target=answer, args=(port, request), daemon=True).start()


def open_port() -> BinaryIO:
    """Finds the port by its name, whatever its number."""
    while True:
        for name in Path("/sys/class/virtio-ports").glob("*/name"):
            if name.read_text().strip() == PORT:
                return Path("/dev", name.parent.name).open("r+b", buffering=0)
        time.sleep(0.05)


def send(port: BinaryIO, message: Answer) -> None:
    """Writes one line; the port takes less than all of a long one."""
    data = json.dumps(message).encode() + b"\n"
    with _write:
        while data:
            data = data[port.write(data) or 0 :]


def listen(port: BinaryIO) -> None:
    """Tells of every uevent of the kernel."""
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_KOBJECT_UEVENT)
    events.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    events.bind((0, 1))
    while True:
        fields = events.recv(1 << 16).decode(errors="replace").split("\0")[1:]
        send(port, {"uevent": dict(field.split("=", 1) for field in fields if "=" in field)})


def answer(port: BinaryIO, request: Answer) -> None:
    """Does one request; an error of the system goes back with its number."""
    try:
        result: Answer = {"result": DO[request["do"]](request)}
    except OSError as error:
        result = {"errno": error.errno, "error": str(error)}
    except Exception:
        result = {"error": traceback.format_exc()}
    send(port, {"id": request["id"], **result})


def run(request: Answer) -> Answer:
    """Runs a command to its end, as another user if asked; kills it when its time is up."""
    process = start_process(request)
    try:
        out, err = process.communicate(text(request, "input"), timeout=request["timeout"])
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise TimeoutError(errno.ETIMEDOUT, f"{request['argv']} ran longer than {request['timeout']} s") from None
    return {"code": process.returncode, "out": out.decode(errors="replace"), "err": err.decode(errors="replace")}


def start(request: Answer) -> int:
    """Starts a command and leaves it running."""
    process = start_process(request)
    _started[process.pid] = process
    return process.pid


def wait(request: Answer) -> Answer:
    """Waits for a command that was started, and gives what it said."""
    process = _started[request["pid"]]
    out, err = process.communicate(timeout=request["timeout"])
    return {"code": process.returncode, "out": out.decode(errors="replace"), "err": err.decode(errors="replace")}


def start_process(request: Answer) -> subprocess.Popen[bytes]:
    """Starts a command in a process group of its own."""
    return subprocess.Popen(
        request["argv"],
        stdin=subprocess.PIPE if request.get("input") is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        user=request.get("user"),
        group=request.get("user"),
        extra_groups=[] if request.get("user") else None,
        env=ENVIRONMENT,
        cwd="/tmp",
        start_new_session=True,
    )


class Command:
    """The process that runs devagent over and over; see command.py."""

    def __init__(self) -> None:
        command = [sys.executable, "/opt/devagent/command.py"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT)
        self._numbers = itertools.count(1)
        self._runs: dict[int, Answer] = {}
        self._changed = threading.Condition()
        threading.Thread(target=self._receive, daemon=True).start()

    def run(self, argv: list[str], user: int | None, timeout: float) -> Answer:
        """Runs it once; kills it when its time is up."""
        assert self._process.stdin is not None
        with self._changed:
            number = next(self._numbers)
            self._runs[number] = {}
            self._process.stdin.write(json.dumps({"number": number, "argv": argv, "user": user}).encode() + b"\n")
            self._process.stdin.flush()
            done = self._changed.wait_for(lambda: "code" in self._runs[number], timeout)
            ran = self._runs.pop(number)
        if not done:
            os.killpg(ran["pid"], signal.SIGKILL)
            raise TimeoutError(errno.ETIMEDOUT, f"devagent {' '.join(argv)} ran longer than {timeout} s")
        said = {name: Path(f"/tmp/run-{number}.{name}").read_text(errors="replace") for name in ("out", "err")}
        return {"code": ran["code"], **said}

    def _receive(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            with self._changed:
                if answer["number"] in self._runs:
                    self._runs[answer["number"]].update(answer)
                    self._changed.notify_all()


@functools.cache
def the_command() -> Command:
    """Gives the one process, starting it when it is first wanted."""
    return Command()


def devagent(request: Answer) -> Answer:
    """Runs the command devagent."""
    return the_command().run(request["argv"], request["user"], request["timeout"])


def text(request: Answer, key: str) -> bytes | None:
    """Gives a text of the request as bytes."""
    return request[key].encode() if request.get(key) is not None else None


def call(request: Answer) -> Any:
    """Defines the function whose source came, calls it and gives what it returned."""
    names: dict[str, Any] = {"__name__": "guest", "os": os, "time": time, "Path": Path}
    exec(compile(request["source"], request["name"], "exec"), names)
    return names[request["name"]](*request["arguments"])


def read(request: Answer) -> str:
    """Gives a file's text."""
    return Path(request["path"]).read_text()


def data(request: Answer) -> str:
    """Gives a file's bytes, in base 64."""
    return base64.b64encode(Path(request["path"]).read_bytes()).decode()


def write(request: Answer) -> None:
    """Writes by a single call: a file object of Python repeats a write that failed when it is closed."""
    fd = os.open(request["path"], os.O_WRONLY)
    try:
        os.write(fd, request["text"].encode())
    finally:
        os.close(fd)


def names(request: Answer) -> list[str]:
    """Gives the sorted names in a directory."""
    return sorted(entry.name for entry in Path(request["path"]).iterdir())


def link(request: Answer) -> str | None:
    """Gives where a symbolic link points; None if there is none."""
    try:
        return str(Path(request["path"]).readlink())
    except FileNotFoundError:
        return None


DO: dict[str, Callable[[Answer], Any]] = {
    "run": run,
    "start": start,
    "wait": wait,
    "devagent": devagent,
    "call": call,
    "read": read,
    "data": data,
    "write": write,
    "names": names,
    "link": link,
    "ping": lambda request: None,
}

if __name__ == "__main__":
    main()
