# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Who has a device open: a process and, where it is QEMU, its virtual machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class User:
    """A process that holds a device's node (`/dev/vfio/12`) open; `instance` is the virtual machine's UUID."""

    pid: int
    command: str
    node: str
    instance: str | None = None
    domain: str | None = None

    def __str__(self) -> str:
        """Gives `qemu-system-x86 (pid 4711), instance-0000001a, 5e1f...`."""
        machine = ", ".join(filter(None, (self.domain, self.instance)))
        return f"{self.command} (pid {self.pid})" + (f", {machine}" if machine else "")
