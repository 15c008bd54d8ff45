# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Programs FPGAs by the file `firmware` of their fpga_manager: kernels of vendors have it (linux-xlnx), mainline not.

    # ls /sys/bus/pci/devices/0000:b4:00.0/fpga_manager/fpga0
    firmware  flags  name  state  status  uevent ...
    # cat /sys/bus/pci/devices/0000:b4:00.0/fpga_region/region0/compat_id         ENOENT if it has none
    1ab0c0de00000000000000000000e003
    # echo 0 > .../fpga0/flags                                                     0: all of it, 1: a part
    # echo devagent/5891b5b5....0000:b4:00.0 > .../fpga0/firmware                  below /lib/firmware
    # cat .../fpga0/state                                                          or `write init error`, ...
    operating

Only the kernel reads below /lib/firmware, and only while the write lasts: the image lies there no longer.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from devagent.cause import system_words
from devagent.privileged.device import Device, Meanings, lines, text
from devagent.privileged.images import Image
from devagent.privileged.job import Job
from devagent.privileged.refused import PERMANENT, RETRY, VerbRefused

FOLDER: Final = "devagent"
"""Below /lib/firmware; root's, so that nobody else puts anything there."""

_NO_FIRMWARE: Final = (
    " cannot be programmed: the kernel of this host lets nobody load an image from user space (its fpga_manager has no"
    " file `firmware`, which FPGA vendors' kernels have)"
)
_MEANINGS: Final[Meanings] = {
    errno.ENOENT: (PERMANENT, "the kernel does not look for images in /lib/firmware (see firmware_class.path)"),
    errno.EINVAL: (PERMANENT, "it does not take the image"),
    errno.EIO: (PERMANENT, "it refused the image"),
    errno.ETIMEDOUT: (PERMANENT, "it did not finish programming the image in its time"),
    errno.EBUSY: (RETRY, "it is being programmed already"),
}


def is_for(device: Device) -> bool:
    """Tells whether the function itself has an fpga_manager."""
    return any(device.folder.glob("fpga_manager/*"))


def program(job: Job) -> None:
    """Programs the whole FPGA: see Way. An image that does not say what it fits is the caller's word."""
    device, manager = job.device, _manager(job.device)
    if not (manager / "firmware").exists():
        raise device.refusal(PERMANENT, _NO_FIRMWARE)
    _fits(job)
    device.nobody_has([(device.folder, ""), *device.vf_folders(device.vfs())])
    if (manager / "flags").exists():
        device.write(manager / "flags", "0", ": its fpga_manager is gone", {})
    with _firmware(device, job.image) as name:
        try:
            device.write(manager / "firmware", name, _NO_FIRMWARE, _MEANINGS)
        except VerbRefused as error:
            state = ", ".join(each for each in (text(manager / "state"), *lines(manager / "status")) if each)
            raise device.refusal(error.kind, f"{str(error).removeprefix(device.address)}; it says: {state}") from None
    if not holds(job):
        state = text(manager / "state")
        raise device.refusal(RETRY, f" was programmed, and says that it is in the state {state!r:.40}")


def holds(job: Job) -> bool:
    """Tells whether the FPGA runs; with what, an fpga_manager does not tell."""
    manager = _manager(job.device)
    return text(manager / "state") == "operating" and not lines(manager / "status")


def _manager(device: Device) -> Path:
    managers = sorted(device.folder.glob("fpga_manager/*"))
    if len(managers) != 1:
        raise device.refusal(PERMANENT, f" has {len(managers)} fpga_managers: which programs it is unknown")
    return managers[0]


def _fits(job: Job) -> None:
    regions = {path.name: path for path in sorted(job.device.folder.glob("fpga_region/*"))}
    # The numbers in their names are given anew whenever the driver is bound.
    if len(regions) > 1 and job.region not in regions:
        raise job.device.refusal(PERMANENT, f" has the regions {', '.join(regions)}: which to program is unknown")
    place = regions.get(job.region or "") or next(iter(regions.values()), None)
    job.fits(text(place / "compat_id").lower().split() if place else ())


@contextmanager
def _firmware(device: Device, image: Image) -> Iterator[str]:
    """Puts the image where the kernel looks for it, and gives the name by which it does."""
    folder = device.root / "lib/firmware" / FOLDER
    # Two FPGAs may get the same image at the same time.
    path = folder / f"{image.digest}.{device.address}"
    try:
        _put(path, image.payload)
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        hint = "systemd-tmpfiles --create makes it, and the unit's ReadWritePaths lets devagent write there"
        raise device.refusal(PERMANENT, f": {folder} cannot be written: {system_words(error)}; {hint}") from None
    try:
        yield f"{FOLDER}/{path.name}"
    finally:
        path.unlink(missing_ok=True)


def _put(path: Path, data: memoryview) -> None:
    path.unlink(missing_ok=True)  # of one that was killed
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)
