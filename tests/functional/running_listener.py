# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent listener` in a process of its own, as systemd would run it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .running_agent import PATIENCE_S, listen

QUICK = {"timeout": "5", "tries": "3", "cool_down": "1"}


@dataclass
class RunningListener:
    """One listener: what it has told the service manager, and its log."""

    process: subprocess.Popen[str]
    file: Path
    told: list[str] = field(default_factory=list)

    @property
    def log(self) -> str:
        """What it has logged."""
        return self.file.read_text()

    @property
    def headline(self) -> str:
        """What `systemctl status` would show."""
        return next((line for line in reversed(self.told) if line.startswith("STATUS=")), "")

    def count(self, what: str) -> int:
        """Gives how many notifications there were of a kind, as it tells."""
        found = re.search(rf"\b(\d+) {what}", self.headline)
        return int(found[1]) if found else 0

    def until(self, condition: Callable[[], object]) -> None:
        """Waits until something is so."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.process.poll() is None, f"the listener ended with {self.process.returncode}:\n{self.log}"
            assert time.monotonic() < end, f"not so within {PATIENCE_S:g} s; {self.headline}\n{self.log}"
            time.sleep(0.02)

    def listening(self) -> RunningListener:
        """Waits until it hears what the broker has."""
        self.until(lambda: "STATUS=listens" in self.headline)
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends it and gives its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


def write_configuration(folder: Path, url: str, name: str = "listener.conf", **sections: dict[str, str]) -> Path:
    """Writes the configuration of a listener, with durable queues unless `sections` say otherwise."""
    parts = {
        "oslo_messaging_rabbit": {"amqp_durable_queues": "true"},
        **sections,
        "notifications": {"transport_url": url, **QUICK, **sections.get("notifications", {})},
    }
    path = folder / name
    with path.open("w") as file:
        for section, options in parts.items():
            file.write(f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in options.items()))
    return path


@contextmanager
def running(configuration: Path, watchdog_s: float = 1.0) -> Iterator[RunningListener]:
    """Runs one; it tells how it is every third of `watchdog_s`, and is killed in the end if it still lives."""
    at, log = configuration.with_suffix(".notify"), configuration.with_suffix(".log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear, log.open("a") as out:
        at.unlink(missing_ok=True)
        ear.bind(str(at))
        variables = {**os.environ, "NOTIFY_SOCKET": str(at), "WATCHDOG_USEC": str(int(watchdog_s * 1e6))}
        command = [sys.executable, "-m", "devagent", "listener", "--config-file", str(configuration)]
        process = subprocess.Popen(command, env=variables, stderr=out, stdin=subprocess.DEVNULL, text=True)
        listener = RunningListener(process, log)
        thread = threading.Thread(target=listen, args=(ear, listener.told), daemon=True)
        thread.start()
        try:
            yield listener
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            ear.shutdown(socket.SHUT_RDWR)
            thread.join()
