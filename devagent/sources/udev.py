# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Waits until the kernel says that something about the devices changed; says which devices, never how.

What it says may be lost in a storm, so it is a reason to look again and nothing more; where it was lost,
everything is to be looked at.

    add     /devices/pci0000:3a/0000:3a:01.0/0000:3b:00.2                            a VF
    change  /devices/pci0000:3a/0000:3a:01.0/0000:3b:00.0    ERROR_EVENT=BEGIN_RECOVERY
    move    /devices/pci0000:3a/0000:3a:01.0/0000:3b:00.0/net/ens1f0                 of 0000:3b:00.0
    add     /devices/pci0000:3a/0000:3a:01.0/0000:3b:00.0/c3dd55d9-...               a mediated device of it
    add     /module/nvidia                                                           of any device
    add     /devices/virtual/net/veth1a2b3c                                          of none
"""

from __future__ import annotations

import abc
import logging
import select
import time
from typing import TYPE_CHECKING, Final

from devagent.model.happened import Happened
from devagent.model.occurrence import PcieError
from devagent.sources.device_path import pci_address

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyudev

LOG = logging.getLogger(__name__)

# Of what discovery reads; not those that any container start sends, such as the queues of an interface.
SUBSYSTEMS: Final = (
    "pci", "net", "drm", "accel", "mdev", "vfio", "vfio-dev", "iommu", "block", "infiniband",
    "fpga_manager", "fpga_region", "dfl", "kfd", "module",
)  # fmt: skip

# Without a function in its path, what is of these changes nothing that is looked at: interfaces of containers,
# bonds and bridges, loops and volumes, the group that VFIO makes when it is bound, which the function says itself.
# (What the host uses is read anew with every look, and now and then in any case.)
_OF_NO_DEVICE: Final = frozenset({"net", "drm", "accel", "mdev", "vfio", "vfio-dev", "block", "infiniband"})
_PLACES: Final = ("/devices/", "/module/")

# One change of a PF sends hundreds of events: the end of a burst is what counts, but no burst may last for ever.
QUIET: Final = 0.2
_LONGEST: Final = 2.0
POLL: Final = 2.0

NOTHING: Final = Happened()
_EVERYTHING: Final = Happened(everything=True)


class Changes(abc.ABC):
    """Waits for changes of the host."""

    @abc.abstractmethod
    def wait(self, seconds: float, reader: int | None = None) -> Happened:
        """Waits until it is worth to look again, `seconds` at most; says what happened.

        Raises BrokenPipeError as soon as nobody reads from the pipe `reader` any more.
        """


class Interval(Changes):
    """Where the kernel cannot be asked, looking again at everything every now and then must do."""

    def __init__(self, seconds: float = POLL) -> None:
        self._seconds = seconds
        self._due = time.monotonic() + seconds

    def wait(self, seconds: float, reader: int | None = None) -> Happened:
        """Waits for the end of the interval, or for `seconds` if they are fewer."""
        _poll(None, reader, min(seconds, max(0.0, self._due - time.monotonic())))
        if time.monotonic() < self._due:
            return NOTHING
        self._due = time.monotonic() + self._seconds
        return _EVERYTHING


class Events(Changes):
    """The kernel's own events, from before udev's rules: a host without udev has them too.

    `open_monitor` starts a new monitor; after an error the old one is given up, with all it still holds. While
    none can be opened, it is the interval `otherwise`. A burst ends when nothing was heard for `quiet` seconds.
    """

    def __init__(
        self, open_monitor: Callable[[], pyudev.Monitor], otherwise: Interval | None = None, quiet: float = QUIET
    ) -> None:
        self._open, self._otherwise, self._quiet = open_monitor, otherwise or Interval(), quiet
        self._monitor: pyudev.Monitor | None = open_monitor()
        self._told = False

    def wait(self, seconds: float, reader: int | None = None) -> Happened:
        """Waits for an event and the end of its burst."""
        if self._monitor is None:
            return _EVERYTHING if self._reopened() else self._otherwise.wait(seconds, reader)
        if not _poll(self._monitor.fileno(), reader, seconds):
            return NOTHING
        burst = _Burst()
        end = time.monotonic() + _LONGEST
        while self._drain(self._monitor, burst) and time.monotonic() < end:
            if not _poll(self._monitor.fileno(), reader, self._quiet):
                break
        return burst.happened()

    def _drain(self, monitor: pyudev.Monitor, burst: _Burst) -> bool:
        """Reads all that is there; tells whether the monitor still stands, so that more may follow."""
        end = time.monotonic() + _LONGEST
        try:
            while time.monotonic() < end:
                device = monitor.poll(timeout=0)
                if device is not None:
                    burst.add(device)
                elif not _poll(monitor.fileno(), None, 0):
                    return True
        except OSError:
            # Events were lost, and pyudev raises the same error for ever (its poll never clears it).
            burst.everything = True
            self._monitor = None
            self._reopened()
            return False
        return True

    def _reopened(self) -> bool:
        """Tells whether there is a monitor again; what happened in between nobody knows."""
        try:
            self._monitor = self._open()
        except (ImportError, OSError) as error:
            if not self._told:
                LOG.warning("the kernel's events cannot be heard (%s): devices are looked at by the clock", error)
            self._told = True
            return False
        if self._told:
            LOG.warning("the kernel's events are heard again")
        self._told = False
        return True


class _Burst:
    """What was heard so far. Of a storm it keeps each device once, whatever is said of it."""

    def __init__(self) -> None:
        self.addresses: set[str] = set()
        self.errors: dict[PcieError, None] = {}
        self.everything, self.events = False, 0

    def add(self, device: pyudev.Device) -> None:
        """Takes one event; one that makes no sense may have been about anything."""
        self.events += 1
        try:
            path, subsystem = str(device.device_path), str(device.subsystem)
            address = pci_address(path)
            if address is not None:
                self.addresses.add(address)
                self._note_error(address, device, subsystem)
            elif subsystem not in _OF_NO_DEVICE or not path.startswith(_PLACES):
                self.everything = True
        except Exception:  # whatever a damaged message makes of libudev and pyudev
            LOG.debug("an event cannot be read", exc_info=True)
            self.everything = True

    def _note_error(self, address: str, device: pyudev.Device, subsystem: str) -> None:
        state = device.properties.get("ERROR_EVENT") if subsystem == "pci" and device.action == "change" else None
        if state:
            error = PcieError(address, state.lower())
            self.errors.pop(error, None)
            self.errors[error] = None

    def happened(self) -> Happened:
        """Says it in one."""
        return Happened(frozenset(self.addresses), self.everything, tuple(self.errors), self.events)


def changes(*, machine: bool, quiet: float = QUIET, interval: float = POLL) -> Changes:
    """Gives the kernel's events for this `machine`, their bursts ended by `quiet` seconds of silence.

    For any other host, and where there are no events, it is an `interval` in seconds.
    """
    if not machine:
        return Interval(interval)
    try:
        return Events(_monitor, Interval(interval), quiet)
    except (ImportError, OSError):
        return Interval(interval)


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
