# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Waits until the kernel says that something about the devices changed; says only that, never what.

What it says may be lost in a storm, so it is a reason to look again and nothing more.
"""

from __future__ import annotations

import abc
import select
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyudev

# Of what discovery reads; not those that any container start sends, such as the queues of an interface.
SUBSYSTEMS: Final = (
    "pci", "net", "drm", "accel", "mdev", "vfio", "vfio-dev", "iommu", "block", "infiniband",
    "fpga_manager", "fpga_region", "dfl", "kfd", "module",
)  # fmt: skip

# One change of a PF sends hundreds of events: the end of a burst is what counts, but no burst may last for ever.
QUIET: Final = 0.2
_LONGEST: Final = 2.0
_POLL: Final = 2.0


class Changes(abc.ABC):
    """Waits for changes of the host."""

    @abc.abstractmethod
    def wait(self, seconds: float, reader: int | None = None) -> None:
        """Waits until it is worth to look again, `seconds` at most.

        Raises BrokenPipeError as soon as nobody reads from the pipe `reader` any more.
        """


class Interval(Changes):
    """Where the kernel cannot be asked, looking again every now and then must do."""

    def __init__(self, seconds: float = _POLL) -> None:
        self._seconds = seconds

    def wait(self, seconds: float, reader: int | None = None) -> None:
        """Waits for the interval, or for `seconds` if they are fewer."""
        _poll(None, reader, min(seconds, self._seconds))


class Events(Changes):
    """The kernel's own events, from before udev's rules: a host without udev has them too.

    `open_monitor` starts a new monitor; after an error the old one is given up, with all it still holds.
    """

    def __init__(self, open_monitor: Callable[[], pyudev.Monitor]) -> None:
        self._open = open_monitor
        self._monitor = open_monitor()

    def wait(self, seconds: float, reader: int | None = None) -> None:
        """Waits for an event and the end of its burst."""
        if not _poll(self._monitor.fileno(), reader, seconds):
            return
        end = time.monotonic() + _LONGEST
        while self._drain() and time.monotonic() < end:
            if not _poll(self._monitor.fileno(), reader, QUIET):
                return

    def _drain(self) -> bool:
        """Reads all that is there; tells whether the monitor still stands, so that more may follow."""
        end = time.monotonic() + _LONGEST
        try:
            while time.monotonic() < end:
                if self._monitor.poll(timeout=0) is None and not _poll(self._monitor.fileno(), None, 0):
                    return True
        except OSError:
            # Events were lost, and pyudev raises the same error for ever (its poll never clears it).
            self._monitor = self._open()
            return False
        return True


def changes(*, machine: bool) -> Changes:
    """Gives the kernel's events for this `machine`; an interval for any other host, and where there are none."""
    if not machine:
        return Interval()
    try:
        return Events(_monitor)
    except (ImportError, OSError):
        return Interval()


def _monitor() -> pyudev.Monitor:
    """Raises ImportError without pyudev or libudev, OSError without netlink."""
    import pyudev  # noqa: PLC0415 - only what watches needs it, and libudev may be absent

    monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="kernel")
    for subsystem in SUBSYSTEMS:
        monitor.filter_by(subsystem)
    monitor.start()
    return monitor


def _poll(source: int | None, reader: int | None, seconds: float) -> bool:
    """Waits until `source` has something, an error included; tells whether it has."""
    poll = select.poll()
    if source is not None:
        poll.register(source, select.POLLIN)
    if reader is not None:
        poll.register(reader, 0)  # asked for nothing, the kernel still tells that the other end is closed
    ready = dict(poll.poll(seconds * 1000))
    if reader in ready and ready[reader] & (select.POLLERR | select.POLLNVAL):
        raise BrokenPipeError
    return source in ready
