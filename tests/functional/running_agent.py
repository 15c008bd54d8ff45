# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent agent` in a process of its own, as systemd would run it: with a socket on which it says how it does."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devagent.api.client import Client
from devagent.errors import AgentError

PATIENCE_S = 60.0
"""Of a busy machine; nothing here takes longer than two seconds on a quiet one."""

FAST = {
    "inventory": {"debounce": "0.05", "scan_interval": "3600", "report_interval": "3600", "reconcile_interval": "3600"},
    "health": {"interval": "3600", "clean_checks": "2"},
}


@dataclass
class RunningAgent:
    """One agent: what it has told the service manager, its log, and its API."""

    process: subprocess.Popen[str]
    folder: Path
    told: list[str] = field(default_factory=list)

    @property
    def api(self) -> Client:
        """Its API."""
        return Client(str(self.folder / "api.sock"), timeout=PATIENCE_S)

    @property
    def log(self) -> str:
        """What it has logged."""
        return (self.folder / "log").read_text()

    def status(self) -> dict[str, Any]:
        """Its status; empty while it does not answer."""
        with suppress(AgentError):
            return self.api.get("/v1/status")
        return {}

    def until(self, condition: Callable[[], object]) -> None:
        """Waits until something is so."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.process.poll() is None, f"the agent ended with {self.process.returncode}:\n{self.log}"
            assert time.monotonic() < end, f"not so within {PATIENCE_S:g} s; {self.status()}\n{self.log}"
            time.sleep(0.02)

    def ready(self) -> RunningAgent:
        """Waits until it has told that it is ready."""
        self.until(lambda: "READY=1" in self.told)
        return self

    def reported(self) -> RunningAgent:
        """Waits until Placement is as it should be."""
        self.until(lambda: self.status().get("report", {}).get("state") == "current")
        return self

    def reload(self) -> None:
        """Has it reload, and waits for the end of that."""
        before = self.told.count("READY=1")
        self.process.send_signal(signal.SIGHUP)
        self.until(lambda: self.told.count("READY=1") > before)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends it and gives its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


def write_configuration(folder: Path, name: str, url: str, **sections: dict[str, str]) -> Path:
    """Writes devagent.conf for a compute node; `sections` add to what makes the agent quick, or replace it."""
    parts: dict[str, dict[str, str]] = {
        "DEFAULT": {"host": name, "state_path": str(folder / "state")},
        "placement": {"auth_type": "admin_token", "endpoint": url, "token": "admin"},
        "api": {"unix_socket": str(folder / "api.sock")},
        **FAST,
    }
    for section, options in sections.items():
        before = {} if "auth_type" in options else parts.get(section, {})
        parts[section] = {**before, **options}
    path = folder / "devagent.conf"
    with path.open("w") as file:
        for section, options in parts.items():
            file.write(f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in options.items()))
    return path


@contextmanager
def folder() -> Iterator[Path]:
    """Gives a folder with a short path: that of a unix socket has 107 characters at most."""
    with tempfile.TemporaryDirectory(prefix="da-") as path:
        yield Path(path)


@contextmanager
def running(
    root: Path | str,
    configuration: Path,
    *arguments: str,
    watchdog_s: float | None = None,
    program: str = "devagent",
    **environment: str,
) -> Iterator[RunningAgent]:
    """Runs one, or another `program` with the same commands; it is killed in the end if it still lives."""
    at = configuration.parent
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear, (at / "log").open("a") as log:
        path = at / "notify"
        path.unlink(missing_ok=True)
        ear.bind(str(path))
        variables = {**os.environ, **environment, "NOTIFY_SOCKET": str(path)}
        if watchdog_s:
            variables["WATCHDOG_USEC"] = str(int(watchdog_s * 1e6))
        command = [sys.executable, "-m", program, "agent", "--root", str(root), "--config-file", str(configuration)]
        process = subprocess.Popen(
            [*command, *arguments], env=variables, stderr=log, stdin=subprocess.DEVNULL, text=True
        )
        agent = RunningAgent(process, at)
        listener = threading.Thread(target=listen, args=(ear, agent.told), daemon=True)
        listener.start()
        try:
            yield agent
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            ear.shutdown(socket.SHUT_RDWR)
            listener.join()


def listen(ear: socket.socket, told: list[str]) -> None:
    with suppress(OSError):
        while data := ear.recv(1 << 16):
            told.extend(data.decode().splitlines())
