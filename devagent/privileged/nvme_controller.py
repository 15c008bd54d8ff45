# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""An NVMe controller on the kernel's driver nvme: what it can wipe, its namespaces, and their block devices.

    # ls /sys/bus/pci/devices/0000:81:00.0/nvme/nvme1
    state                          live, when the driver has done with it: some seconds after it was bound
    nvme1n1/nsid                   1; the block device /dev/nvme1n1
    nvme1c1n1/nsid                 where the controller may have others beside it: one path to /dev/nvme1n1

Offsets are those of the Identify data structures, NVM Express Base Specification 2.0, figures 275 and 280, NVM Command
Set Specification 1.0, figure 97.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devagent.cause import system_words
from devagent.privileged.device import Device
from devagent.privileged.nvme_admin import EVERY, Admin, NvmeStatus
from devagent.privileged.refused import PERMANENT, RETRY

DRIVER: Final = "nvme"
_POLL_S: Final = 0.2
_SCAN_S: Final = 10.0
"""So long the kernel may take for the block devices of a controller that is live."""

_NAMESPACE, _CONTROLLER, _ACTIVE, _ALLOCATED, _ATTACHED = 0x00, 0x01, 0x02, 0x10, 0x12


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a controller says of itself; `sanitize` has the ways in which it can: bit 0 crypto, 1 block, 2 overwrite."""

    number: int
    formats: bool
    manages: bool
    format_is_for_all: bool
    has_crypto_erase: bool
    takes_all_at_once: bool
    sanitize: int

    @classmethod
    def of(cls, data: bytes) -> Abilities:
        """Reads an Identify Controller data structure."""
        oacs, fna = int.from_bytes(data[256:258], "little"), data[524]
        return cls(
            number=int.from_bytes(data[78:80], "little"),
            formats=bool(oacs & 1 << 1),
            manages=bool(oacs & 1 << 3),
            format_is_for_all=bool(fna & 0b11),
            has_crypto_erase=bool(fna & 1 << 2),
            takes_all_at_once=not fna & 1 << 3,
            sanitize=int.from_bytes(data[328:332], "little") & 0b111,
        )


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace; `lbaf` and `protection` are as Format NVM wants them, to leave it as it is.

    `left` is what a format under way has still to do, in percent; 0 also where that is not told.
    """

    nsid: int
    size: int
    lbaf: int
    protection: int
    is_shareable: bool
    left: int

    @classmethod
    def of(cls, nsid: int, data: bytes) -> Namespace:
        """Reads an Identify Namespace data structure."""
        flbas, dps, progress = data[26], data[29], data[32]
        return cls(
            nsid,
            size=int.from_bytes(data[0:8], "little"),
            # Format NVM, command dword 10: LBA format 0-3 and 12-13, metadata 4, protection 5-7, its place 8.
            lbaf=flbas & 0xF | (flbas >> 5 & 0b11) << 12 | (flbas >> 4 & 1) << 4,
            protection=(dps & 0b111) << 5 | (dps >> 3 & 1) << 8,
            is_shareable=bool(data[30] & 1),
            left=progress & 0x7F if progress & 0x80 else 0,
        )


class Controller:
    """The controller of a function that is on the driver nvme; `until` (time.monotonic) ends all waiting."""

    def __init__(self, device: Device, until: float) -> None:
        """Raises VerbRefused if there is none."""
        self.device, self.until = device, until
        driver = device.driver()
        if driver != DRIVER:
            raise device.refusal(PERMANENT, f" is bound to {driver or 'no driver'}: only {DRIVER} wipes NVMe drives")
        names = [name for name in _names(device.folder / "nvme") if re.fullmatch("nvme[0-9]+", name)]
        if len(names) != 1:
            raise device.refusal(RETRY, ": its driver has made no controller of it; see dmesg")
        (self.name,) = names
        self.folder = device.folder / "nvme" / self.name

    def await_live(self) -> None:
        """Waits until its driver has started it. Raises VerbRefused if that does not come about."""
        if not self._wait(lambda: self._state() in ("live", "dead"), self.until) or self._state() != "live":
            raise self.device.refusal(RETRY, f": its controller is {self._state()}, not live; see dmesg")

    def serial(self) -> str | None:
        """Gives the serial number of the drive, None if that cannot be read."""
        with suppress(OSError):
            return (self.folder / "serial").read_text().strip()
        return None

    def open(self) -> Admin:
        """Opens its node. Raises VerbRefused."""
        try:
            return Admin(self.device.root / "dev" / self.name)
        except OSError as error:
            raise self.device.refusal(
                PERMANENT, f": /dev/{self.name} cannot be opened: {system_words(error)}"
            ) from None

    def await_disks(self, namespaces: list[Namespace]) -> list[str]:
        """Gives the names of the namespaces' block devices; waits a while for those that are not there yet."""
        wanted = {each.nsid for each in namespaces if each.size}
        self._wait(lambda: wanted <= self._disks().keys(), min(self.until, time.monotonic() + _SCAN_S))
        return sorted(name for nsid, name in self._disks().items() if nsid in wanted)

    def neighbours(self) -> list[str]:
        """Gives the other controllers of its NVM subsystem that the kernel knows."""
        for subsystem in (self.device.root / "sys/class/nvme-subsystem").glob("nvme-subsys*"):
            names = [name for name in _names(subsystem) if re.fullmatch("nvme[0-9]+", name)]
            if self.name in names:
                return sorted(set(names) - {self.name})
        return []

    def _state(self) -> str:
        with suppress(OSError):
            return (self.folder / "state").read_text().strip()
        return "gone"

    def _disks(self) -> dict[int, str]:
        """Gives the block devices by namespace; of a path, the device that it leads to."""
        found = {}
        for name in _names(self.folder):
            if re.fullmatch("nvme[0-9]+(c[0-9]+)?n[0-9]+", name):
                with suppress(OSError, ValueError):
                    found[int((self.folder / name / "nsid").read_text())] = re.sub("c[0-9]+n", "n", name)
        return found

    def _wait(self, condition: Callable[[], bool], until: float) -> bool:
        while not condition():
            if time.monotonic() >= until:
                return False
            self.device.names()  # it may have been pulled out
            time.sleep(_POLL_S)
        return True


def abilities(admin: Admin) -> Abilities:
    """Asks what a controller can do. Raises OSError or NvmeStatus."""
    return Abilities.of(admin.identify(_CONTROLLER))


def active(admin: Admin) -> list[Namespace]:
    """Gives the namespaces that a controller has. Raises OSError or NvmeStatus."""
    return [namespace(admin, nsid) for nsid in _listed(admin, _ACTIVE)]


def namespace(admin: Admin, nsid: int) -> Namespace:
    """Gives one namespace as it is now. Raises OSError or NvmeStatus."""
    return Namespace.of(nsid, admin.identify(_NAMESPACE, nsid))


def hidden(admin: Admin, seen: list[Namespace]) -> list[int]:
    """Gives the namespaces of the subsystem that no controller of it need have: a guest can detach its own.

    Raises OSError or NvmeStatus.
    """
    return sorted(set(_listed(admin, _ALLOCATED)) - {each.nsid for each in seen})


def attached(admin: Admin, nsid: int) -> list[int] | None:
    """Gives the numbers of the controllers that have a namespace, None if that is not told. Raises OSError."""
    try:
        data = admin.identify(_ATTACHED, nsid)
    except NvmeStatus:
        return None
    count = int.from_bytes(data[:2], "little")
    return [int.from_bytes(data[at : at + 2], "little") for at in range(2, 2 + 2 * count, 2)]


def _listed(admin: Admin, cns: int) -> list[int]:
    """Reads a list of namespaces, 1024 in each answer, in rising order."""
    found: list[int] = []
    while True:
        data = admin.identify(cns, found[-1] if found else 0)
        numbers = [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4)]
        more = [nsid for nsid in numbers if 0 < nsid < EVERY]
        found += more
        if len(more) < len(numbers):
            return found


def _names(folder: Path) -> list[str]:
    try:
        return sorted(each.name for each in folder.iterdir())
    except OSError:
        return []
