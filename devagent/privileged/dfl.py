# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Programs the ports of DFL cards (Intel PAC, OFS) as OPAE does, by the kernel's own drivers (uapi/linux/fpga-dfl.h).

Below /sys/bus/pci/devices/0000:3b:00.0/fpga_region/region0:

    dfl-fme.0/ports_num                                                     1
    dfl-fme.0/dfl-fme-region.1/fpga_region/region1/compat_id                ce48969398f05f33946d560708be108a
    dfl-fme.0/dfl-fme-mgr.0/fpga_manager/fpga0/status                       reconfig CRC error
    dfl-port.0/{id,afu_id}                                                  0, 850adcc26ceb4b229722d43375b61c66
    dfl-port.0/errors/errors                                                0x0
    dfl-port.0/dfl_dev.4/userclk/frequency                                  156250 312500      (low, high; kHz)

The numbers in these names are given anew whenever dfl-pci is bound. A port that was released to a VF has no dfl-port.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devagent.cause import system_words
from devagent.model.bitstream import Kind
from devagent.privileged.device import Device, Meanings, lines, opening, text
from devagent.privileged.images import Image
from devagent.privileged.job import Job
from devagent.privileged.refused import PERMANENT, RETRY

PORT_PR: Final = 0xB680
"""DFL_FPGA_FME_PORT_PR."""
_PORT_PR_ARGUMENT: Final = struct.Struct("=IIIIQ")  # argsz, flags, port_id, buffer_size, buffer_address

_REGIONS: Final = "fpga_region/*/dfl-fme.*/dfl-fme-region.*/fpga_region/region*"
_DISABLED: Final = (
    "; its port stays disabled until dfl-pci is bound to it anew, which devagent does before it programs the card again"
    " if nobody uses it (by hand: write the address to unbind, then bind, in /sys/bus/pci/drivers/dfl-pci)"
)
_REASONS: Final[Meanings] = {
    errno.EIO: (PERMANENT, "the card refused the image"),
    errno.ETIMEDOUT: (PERMANENT, "the card did not finish in its time (8 s to take the image); see dmesg"),
    errno.EINVAL: (PERMANENT, "its driver does not take the image for this port"),
    errno.ENOMEM: (RETRY, "the kernel has no memory for the image now"),
    errno.EBUSY: (RETRY, "its region is being programmed already"),
}
_TOLERANCE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Card:
    """A card as it is now: the folders of its FME and of the region, and of the ports that no VF has, by number."""

    fme: Path
    region: Path
    ports: dict[int, Path]


def is_for(device: Device) -> bool:
    """Tells whether it is with the kernel's driver for such cards."""
    return device.driver() == "dfl-pci"


def program(job: Job) -> None:
    """Programs one port, or all: see Way."""
    device, image = job.device, job.image
    if image.header.kind is not Kind.GBS:
        raise device.refusal(PERMANENT, f": its image {image.digest} is no GBS, which alone says what it fits")
    card = _card(job)
    numbers = _numbers(device, card, job.port)
    job.fits(text(card.region / "compat_id").lower().split())
    _nobody_uses(device, card, numbers)
    if any(_afu(folder) == errno.EBUSY for number, folder in card.ports.items() if number in numbers):
        _revive(device, card)
        card = _card(job)
    with ExitStack() as guards:
        for number in numbers:
            if number in card.ports:
                guards.enter_context(opening(device, card.ports[number].name, os.O_EXCL))
                _clear_errors(device, card.ports[number])
            _has_clock(device, card.ports.get(number), image)
        for number in numbers:
            _program(device, card, number, image)
    for number in numbers:
        _is_there(device, card.ports.get(number), number, image)


def holds(job: Job) -> bool:
    """Tells whether the ports say the image's function; of one that a VF has nothing can be read."""
    card, wanted = _card(job), job.image.header.function_id
    told = [_afu(card.ports[number]) for number in _numbers(job.device, card, job.port) if number in card.ports]
    return all(isinstance(each, str) and wanted in (None, each) for each in told)


def _card(job: Job) -> Card:
    """Finds the card's parts; a name that is of a binding before this one stands for the only region."""
    device, region = job.device, job.region
    regions = {path.name: path for path in sorted(device.folder.glob(_REGIONS))}
    if not regions:
        raise device.refusal(RETRY, " has no region to program: its driver has not come up; see dmesg")
    place = regions.get(region or "") or next(iter(regions.values()))
    if region is not None and region not in regions and len(regions) > 1:
        raise device.refusal(PERMANENT, f" has no {region}; its regions are {', '.join(regions)}")
    ports = {}
    for folder in device.folder.glob("fpga_region/*/dfl-port.*"):
        with suppress(OSError, ValueError):
            ports[int((folder / "id").read_text())] = folder
    return Card(place.parents[2], place, ports)


def _numbers(device: Device, card: Card, port: int | None) -> list[int]:
    told = text(card.fme / "ports_num")
    count = int(told) if re.fullmatch("[0-9]{1,3}", told) else 0
    if count <= (port or 0):
        raise device.refusal(PERMANENT, f" has {count} ports, and none with the number {port or 0}")
    return [port] if port is not None else list(range(count))


def _nobody_uses(device: Device, card: Card, numbers: Iterable[int]) -> None:
    """Raises VerbRefused while a process has one of the ports, or a VF that may have one of them."""
    vfs = device.vfs()
    # A VF is the port of its index only where each port was released to one.
    wanted = [name for name in vfs if card.ports or int(name.removeprefix("virtfn")) in numbers]
    nodes = [(folder.name, f"port {number}") for number, folder in card.ports.items() if number in numbers]
    device.nobody_has([(device.folder, ""), *device.vf_folders(wanted)], nodes)


def _afu(port: Path) -> str | int | None:
    """Gives what a port says is in it, or the errno: EBUSY while it is disabled."""
    try:
        told: str = (port / "afu_id").read_text(errors="replace").strip().lower()
    except OSError as error:
        return error.errno
    return told


def _revive(device: Device, card: Card) -> None:
    """Binds dfl-pci anew: a failed programming leaves a port disabled for good (K6.1, K6.12 dfl-afu: disable_count)."""
    if vfs := device.vfs():
        why = f"only binding dfl-pci anew enables it, and its {len(vfs)} VFs would go"
        raise device.refusal(PERMANENT, f" has a disabled port: {why}")
    nodes = [(card.fme.name, "its FME"), *((port.name, f"port {number}") for number, port in card.ports.items())]
    device.nobody_has([(device.folder, "")], nodes)
    driver = device.root / "sys/bus/pci/drivers/dfl-pci"
    for name in ("unbind", "bind"):
        device.write(driver / name, device.address, ": the driver dfl-pci is not there any more", {})


def _clear_errors(device: Device, port: Path) -> None:
    """Clears what the port has latched, by writing back what it says."""
    file = port / "errors/errors"
    errors = text(file)
    if re.fullmatch("0x[0-9a-f]{1,16}", errors) and int(errors, 16):
        device.write(file, errors, ": its port has no errors any more", {})


def _has_clock(device: Device, port: Path | None, image: Image) -> None:
    """Raises VerbRefused unless the user clock is as the image wants it: setting it needs the vendor's PLL tables."""
    wanted = image.header.user_clock
    if wanted is None:
        return
    texts = [text(path) for path in port.glob("dfl*/userclk/frequency")] if port else []
    found = re.fullmatch("([0-9]{1,9}) ([0-9]{1,9})", texts[0]) if texts else None
    now = (int(found[2]) / 1000, int(found[1]) / 1000) if found else None
    if now is None or any(abs(has - mhz) > mhz * _TOLERANCE for has, mhz in zip(now, wanted, strict=True) if mhz):
        is_so = f"has {now[0]:g} and {now[1]:g} MHz" if now else "does not say what its user clock is"
        wants = f"its image wants a user clock of {wanted[0]} and {wanted[1]} MHz"
        raise device.refusal(PERMANENT, f": {wants}, and the port {is_so}: set it with OPAE first")


def _program(device: Device, card: Card, port: int, image: Image) -> None:
    argument = _PORT_PR_ARGUMENT.pack(_PORT_PR_ARGUMENT.size, 0, port, image.header.length, image.address)
    with opening(device, card.fme.name) as fd:
        try:
            fcntl.ioctl(fd, PORT_PR, argument)
        except OSError as error:
            device.names()  # it may have been pulled out meanwhile
            kind, meaning = _REASONS.get(error.errno or 0, (RETRY, "its driver could not program it"))
            more = [line for path in card.fme.glob("dfl-fme-mgr.*/fpga_manager/*/status") for line in lines(path)]
            why = "; ".join([system_words(error), *more])
            left = _DISABLED if port in card.ports and _afu(card.ports[port]) == errno.EBUSY else ""
            raise device.refusal(kind, f": port {port}: {meaning} ({why}){left}") from None


def _is_there(device: Device, port: Path | None, number: int, image: Image) -> None:
    if port is None:  # a VF has it, and with it what tells
        return
    now, wanted = _afu(port), image.header.function_id
    if now == errno.EBUSY:
        raise device.refusal(RETRY, f": port {number} was programmed and is disabled all the same{_DISABLED}")
    if wanted is not None and now != wanted:
        raise device.refusal(RETRY, f": port {number} was programmed with {wanted}, and says that it is {now}")
