# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Follows the kernel log for what it tells of devices: NVIDIA's XIDs and uncorrected PCIe errors.

/dev/kmsg gives one record a read (Documentation/ABI/testing/dev-kmsg): level, sequence number, microseconds
since boot and flags, then the message, then lines of properties that begin with a space:

    4,1871,93841034,-;NVRM: Xid (PCI:0000:3b:00): 79, pid=1122, GPU has fallen off the bus.
    3,1902,94011200,-;pcieport 0000:3a:01.0: AER: Uncorrected (Fatal) error received: 0000:3b:00.0
     SUBSYSTEM=pci

It holds what was said since boot, as far as the kernel's buffer reaches back, also before devagent started.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Final

from devagent.cause import system_words
from devagent.model.occurrence import AerError, DriverLoaded, Xid

LOG = logging.getLogger(__name__)

PATH: Final = "/dev/kmsg"
# The kernel never gives more for one record (PRINTK_MESSAGE_MAX and its properties), and refuses a smaller buffer.
_RECORD: Final = 16384
# Of one call, so that a storm leaves time for the rest of the agent.
_MOST: Final = 20_000

_HEAD: Final = re.compile(r"[0-9]+,(?P<sequence>[0-9]+),(?P<micros>[0-9]+),[^;]*;(?P<text>[^\n]*)")
# Xid (PCI:0000:3b:00), (0000:03:00) of drivers before 304, (PCI:0000:01:00 GPU-I:05 GPU-CI:00) of a MIG instance.
_XID: Final = re.compile(
    r"NVRM: Xid \((?:PCI:)?(?P<domain>[0-9a-f]{4,8}):(?P<bus>[0-9a-f]{2}):(?P<slot>[0-9a-f]{2})"
    r"(?:\.(?P<function>[0-7]))?(?: GPU-I:(?P<gi>[0-9]{1,3}))?"
    r"(?: GPU-CI:(?P<ci>[0-9]{1,3}))?\): (?P<number>[0-9]{1,3})(?:, ?(?P<detail>.*))?",
    re.IGNORECASE,
)
_AER: Final = re.compile(
    r"\S+ \S+ AER: (?:Multiple )?Uncorrect(?:ed|able) \((?P<kind>Fatal|Non-Fatal)\) error (?:message )?"
    r"received(?: from|:) (?P<address>[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7])"
)
_LOADED: Final = re.compile(r"NVRM: loading NVIDIA UNIX ")

Told = Xid | AerError | DriverLoaded


def parse(text: str, at: float) -> Told | None:
    """Gives what one message tells of a device at the time `at`; None if it tells nothing."""
    xid = _XID.match(text)
    if xid is not None:
        gi, ci = xid["gi"], xid["ci"]
        instance = " ".join(f"{name} {int(number)}" for name, number in (("GI", gi), ("CI", ci)) if number)
        address = f"{int(xid['domain'], 16):04x}:{xid['bus']}:{xid['slot']}.{xid['function'] or 0}".lower()
        return Xid(address, int(xid["number"]), (xid["detail"] or "").strip(), at, instance or None)
    aer = _AER.match(text)
    if aer is not None:
        return AerError(aer["address"], aer["kind"] == "Fatal", at)
    return DriverLoaded(at) if _LOADED.match(text) else None


class KernelLog:
    """Reads what the kernel log has that is new; `after` is the sequence number of the last record read before.

    Where it cannot be read, which `problem` then says, it tells nothing. `lost` counts how often the kernel
    overwrote records before they were read.
    """

    def __init__(
        self,
        after: int | None = None,
        *,
        opened: Callable[[], int] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.position, self.lost = after, 0
        self.problem: str | None = None
        # Its time is that of CLOCK_MONOTONIC, near enough: it stands still while the host sleeps.
        self._boot = clock() - time.monotonic()
        self._fd: int | None = None
        try:
            self._fd = (opened or _open)()
        except OSError as error:
            self._give_up(error)

    def fileno(self) -> int | None:
        """Gives the descriptor on which to wait for more; None if there is none."""
        return self._fd

    def read(self) -> tuple[Told, ...]:
        """Gives what was told since the last call, without waiting."""
        told = []
        for record in self._records():
            head = _HEAD.match(record)
            if head is None:
                continue
            sequence = int(head["sequence"])
            if self.position is not None and sequence <= self.position:
                continue
            self.position = sequence
            one = parse(_unescaped(head["text"]), self._boot + int(head["micros"]) / 1e6)
            if one is not None:
                told.append(one)
        return tuple(told)

    def close(self) -> None:
        """Gives the descriptor back; nothing is told from then on."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _records(self) -> Iterator[str]:
        for _ in range(_MOST):
            if self._fd is None:
                return
            try:
                record = os.read(self._fd, _RECORD)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.EPIPE:  # overwritten; the next read gives the oldest there is
                    self.lost += 1
                elif error.errno not in (errno.EINVAL, errno.EINTR):  # a record that does not fit is passed over
                    self._give_up(error)
                    return
                continue
            if not record:
                return
            yield record.decode(errors="replace")

    def _give_up(self, error: OSError) -> None:
        self.close()
        self.problem = f"{PATH}: {system_words(error)}"
        LOG.warning(
            "%s cannot be read (%s): XIDs of NVIDIA GPUs are not seen; root or CAP_SYSLOG may read it",
            PATH,
            error.strerror,
        )


def _open() -> int:
    return os.open(PATH, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _unescaped(text: str) -> str:
    r"""Gives the text with what the kernel escapes, as `\x0a`; what cannot be shown is left escaped."""

    def shown(match: re.Match[str]) -> str:
        character = chr(int(match[1], 16))
        return character if character.isascii() and character.isprintable() else match[0]

    return re.sub(r"\\x([0-9a-f]{2})", shown, text)
