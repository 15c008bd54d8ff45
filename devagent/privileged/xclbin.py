# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Programs Alveo cards by XRT's driver for the management PF, xclmgmt (XRT mgmtpf/mgmt-ioctl.c).

    # cat /sys/bus/pci/devices/0000:84:00.0/interface_uuids       base first, then shell
    c5d8d1a5ba0ba6b8a8e6d4d9a4b6bd2e
    # cat /sys/bus/pci/devices/0000:84:00.0/rom.m.0/VBNV
    xilinx_u250_gen3x16_xdma_shell_4_1
    # ls /sys/bus/pci/devices/0000:84:00.0/xrt_mgmt
    xclmgmt33792

The user PF beside it is what a guest has. What is loaded is not told on this side: the driver's word counts.
"""

from __future__ import annotations

import errno
import fcntl
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from devagent.cause import system_words
from devagent.model.bitstream import Kind
from devagent.privileged.device import Device, Meanings, opening, text
from devagent.privileged.job import Job
from devagent.privileged.refused import PERMANENT, RETRY

DOWNLOAD: Final = 0x40085806
"""XCLMGMT_IOCICAPDOWNLOAD_AXLF, _IOW('X', 6, 8): a pointer to the whole xclbin."""

_MEANINGS: Final[Meanings] = {
    errno.EBUSY: (RETRY, "something on this host uses it"),
    errno.EINVAL: (PERMANENT, "its driver does not take the image; see dmesg"),
    errno.ENOTTY: (RETRY, "its driver is not ready; see dmesg"),
}


def is_for(device: Device) -> bool:
    """Tells whether it is a management PF with its driver."""
    return device.driver() == "xclmgmt"


def program(job: Job) -> None:
    """Programs the card: see Way. It has no regions or slots to choose from."""
    device, image = job.device, job.image
    if image.header.kind is not Kind.XCLBIN:
        raise device.refusal(PERMANENT, f": its image {image.digest} is no xclbin")
    _fits(job)
    device.nobody_has((folder, "" if folder == device.folder else folder.name) for folder in _card(device))
    with opening(device, _node(device)) as fd:
        try:
            fcntl.ioctl(fd, DOWNLOAD, struct.pack("=Q", image.address))
        except OSError as error:
            kind, meaning = _MEANINGS.get(error.errno or 0, (RETRY, "its driver could not program it; see dmesg"))
            raise device.refusal(kind, f": {meaning} ({system_words(error)})") from None


def holds(job: Job) -> bool:
    """Tells whether the card works; what is loaded cannot be seen from the management PF."""
    return text(job.device.folder / "dev_offline") != "1"


def _fits(job: Job) -> None:
    device, header = job.device, job.image.header
    job.fits(text(device.folder / "interface_uuids").lower().replace("-", "").split())
    shells = [text(each) for each in device.folder.glob("rom*/VBNV")]
    if header.interface_id is None and header.shell not in shells:
        made_for = f"for {header.shell:.64}" if header.shell else "does not say for which"
        raise device.refusal(PERMANENT, f" has the shell {' '.join(shells) or 'none'}, its image is {made_for}")


def _card(device: Device) -> Iterator[Path]:
    """Gives the folders of the card's functions: the management PF's own, and the user PF's."""
    slot = device.address.rpartition(".")[0]
    return device.folder.parent.glob(f"{slot}.[0-7]")


def _node(device: Device) -> str:
    nodes = [path.name for path in device.folder.glob("*/xclmgmt[0-9]*") if path.name.removeprefix("xclmgmt").isdigit()]
    if len(nodes) != 1:
        raise device.refusal(RETRY, " has no /dev/xclmgmt of its own: XRT's driver has not come up; see dmesg")
    return nodes[0]
