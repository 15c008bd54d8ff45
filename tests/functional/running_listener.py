# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent listener` in a process of its own."""

from __future__ import annotations

import re
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from .running_daemon import Daemon, started, written

QUICK = {"timeout": "5", "tries": "3", "cool_down": "1"}


class RunningListener(Daemon):
    """One listener."""

    @property
    def headline(self) -> str:
        """What `systemctl status` would show."""
        return next((line for line in reversed(self.told) if line.startswith("STATUS=")), "")

    def how(self) -> str:
        """Says how it is, for who waits in vain."""
        return self.headline

    def count(self, what: str) -> int:
        """Gives how many notifications there were of a kind, as it tells."""
        found = re.search(rf"\b(\d+) {what}", self.headline)
        return int(found[1]) if found else 0

    def listening(self) -> RunningListener:
        """Waits until it hears what the broker has."""
        self.until(lambda: "STATUS=listens" in self.headline)
        return self


def write_configuration(folder: Path, url: str, name: str = "listener.conf", **sections: dict[str, str]) -> Path:
    """Writes the configuration of a listener, with durable queues unless `sections` say otherwise."""
    parts = {
        "oslo_messaging_rabbit": {"amqp_durable_queues": "true"},
        **sections,
        "notifications": {"transport_url": url, **QUICK, **sections.get("notifications", {})},
    }
    return written(folder / name, parts)


def running(configuration: Path, watchdog_s: float = 1.0) -> AbstractContextManager[RunningListener]:
    """Runs one; it tells how it is every third of `watchdog_s`, and is killed in the end if it still lives."""
    at, log = configuration.with_suffix(".notify"), configuration.with_suffix(".log")
    command = [sys.executable, "-m", "devagent", "listener", "--config-file", str(configuration)]
    return started(RunningListener, command, at, log, {"WATCHDOG_USEC": str(int(watchdog_s * 1e6))})
