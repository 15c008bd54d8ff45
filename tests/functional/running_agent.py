# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent agent` in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from devagent.api.client import Client
from devagent.errors import AgentError

from .running_daemon import PATIENCE_S, Daemon, started, written

FAST = {
    "inventory": {"debounce": "0.05", "scan_interval": "3600", "report_interval": "3600", "reconcile_interval": "3600"},
    "health": {"interval": "3600", "clean_checks": "2"},
}


class RunningAgent(Daemon):
    """One agent, and its API."""

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.file.parent

    @property
    def api(self) -> Client:
        """Its API."""
        return Client(str(self.folder / "api.sock"), timeout=PATIENCE_S)

    def status(self) -> dict[str, Any]:
        """Its status; empty while it does not answer."""
        with suppress(AgentError):
            return self.api.get("/v1/status")
        return {}

    how = status

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
    return written(folder / "devagent.conf", parts)


def running(
    root: Path | str,
    configuration: Path,
    *arguments: str,
    watchdog_s: float | None = None,
    program: str = "devagent",
    **environment: str,
) -> AbstractContextManager[RunningAgent]:
    """Runs one, or another `program` with the same commands; it is killed in the end if it still lives."""
    at = configuration.parent
    watchdog = {"WATCHDOG_USEC": str(int(watchdog_s * 1e6))} if watchdog_s else {}
    command = [sys.executable, "-m", program, "agent", "--root", str(root), "--config-file", str(configuration)]
    return started(RunningAgent, [*command, *arguments], at / "notify", at / "log", environment | watchdog)


def command(agent: RunningAgent, *arguments: str) -> subprocess.CompletedProcess[str]:
    own = [sys.executable, "-m", "devagent", arguments[0], "--socket", str(agent.folder / "api.sock"), *arguments[1:]]
    return subprocess.run(own, capture_output=True, text=True, check=False)
