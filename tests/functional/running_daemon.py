# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A daemon of devagent in a process of its own, as systemd would run it: with a socket on which it says how it does."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

PATIENCE_S = 60.0
"""Of a busy machine; nothing here takes longer than two seconds on a quiet one."""


@dataclass
class Daemon:
    """One of them: what it has told the service manager, and its log."""

    process: subprocess.Popen[str]
    file: Path
    told: list[str] = field(default_factory=list)

    @property
    def log(self) -> str:
        """What it has logged."""
        return self.file.read_text()

    def how(self) -> object:
        """Says how it is, for who waits in vain."""
        return self.told[-1:]

    def until(self, condition: Callable[[], object]) -> None:
        """Waits until something is so."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log}"
            assert time.monotonic() < end, f"not so within {PATIENCE_S:g} s; {self.how()}\n{self.log}"
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends it and gives its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


AnyDaemon = TypeVar("AnyDaemon", bound=Daemon)


@contextmanager
def started(
    kind: type[AnyDaemon], command: Sequence[str], at: Path, log: Path, environment: Mapping[str, str]
) -> Iterator[AnyDaemon]:
    """Runs one that tells the socket `at` how it does; it is killed in the end if it still lives."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear, log.open("a") as out:
        at.unlink(missing_ok=True)
        ear.bind(str(at))
        variables = {**os.environ, **environment, "NOTIFY_SOCKET": str(at)}
        process = subprocess.Popen(command, env=variables, stderr=out, stdin=subprocess.DEVNULL, text=True)
        daemon = kind(process, log)
        thread = threading.Thread(target=_listen, args=(ear, daemon.told), daemon=True)
        thread.start()
        try:
            yield daemon
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            ear.shutdown(socket.SHUT_RDWR)
            thread.join()


def written(path: Path, sections: Mapping[str, Mapping[str, str]]) -> Path:
    """Writes a configuration file."""
    with path.open("w") as file:
        for section, options in sections.items():
            file.write(f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in options.items()))
    return path


@contextmanager
def folder() -> Iterator[Path]:
    """Gives a folder with a short path: that of a unix socket has 107 characters at most."""
    with tempfile.TemporaryDirectory(prefix="da-") as path:
        yield Path(path)


def _listen(ear: socket.socket, told: list[str]) -> None:
    with suppress(OSError):
        while data := ear.recv(1 << 16):
            told.extend(data.decode().splitlines())
