# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Tells systemd how the agent does: sd_notify(3), without a library. Elsewhere nothing is told, to nobody.

A message is one datagram of lines like READY=1 to the socket that NOTIFY_SOCKET names; with NotifyAccess=main only the
main process is believed.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Final

_MICRO: Final = 1_000_000
_STATUS_LENGTH: Final = 1000
_PATIENCE_S: Final = 1.0
"""A service manager that does not read must not stop the agent too."""


class Notifier:
    """Speaks to the service manager that started this process; what it cannot be told does no harm.

    `watchdog_s` is after how many seconds without `watchdog()` systemd kills the service; None if it does not.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        # In the abstract namespace a name begins with a zero byte, which an environment variable cannot hold.
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self.watchdog_s = _watchdog(environment)
        self._status = ""

    def ready(self) -> None:
        """Says that the service has started, or has reloaded."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Says in one line what `systemctl status` shows, unless it shows that already."""
        if text == self._status:
            return
        self._status = text
        self._send(f"STATUS={' '.join(text.split())[:_STATUS_LENGTH]}")

    def reloading(self) -> None:
        """Says that the service reloads, until `ready`."""
        # Type=notify-reload, systemd 253 and newer, wants the time too, to tell this answer from an older one.
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Says that the service stops."""
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """Says that the service gets on with its work."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
                line.settimeout(_PATIENCE_S)
                line.sendto(message.encode(errors="replace"), self._address)
        except OSError:
            pass


def _watchdog(environment: Mapping[str, str]) -> float | None:
    """Gives WATCHDOG_USEC in seconds, if it is meant for this process."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = environment.get("WATCHDOG_USEC", "")
    return int(text) / _MICRO if text.isascii() and text.isdigit() and int(text) else None
