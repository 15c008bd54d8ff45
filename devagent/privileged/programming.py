# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Programs FPGAs: takes the image by its digest, and has the way do it that the function's driver knows.

| driver                      | way                                                                              |
| dfl-pci                     | ioctl of /dev/dfl-fme.N (Intel PAC, OFS)                                         |
| xclmgmt                     | ioctl of /dev/xclmgmtN (Alveo, on the management PF)                             |
| one with an fpga_manager    | its file `firmware`, which the kernels of FPGA vendors have and mainline has not |
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Protocol

from devagent.model.pci import is_vfio
from devagent.privileged import dfl, fpga_manager, xclbin
from devagent.privileged.device import Device
from devagent.privileged.images import load
from devagent.privileged.job import Job
from devagent.privileged.refused import PERMANENT


class Way(Protocol):
    """How FPGAs of one kind are programmed."""

    def is_for(self, device: Device) -> bool:
        """Tells whether the function's driver knows this way."""

    def program(self, job: Job) -> None:
        """Programs an image, unless it does not fit or the FPGA is in use. Raises VerbRefused."""

    def holds(self, job: Job) -> bool:
        """Tells whether the image may be there, as far as the device tells. Raises VerbRefused."""


_WAYS: Final[tuple[Way, ...]] = (dfl, xclbin, fpga_manager)


def program_fpga(
    root: Path, images: Path, address: str, region: str | None, port: int | None, digest: str, interface: str | None
) -> dict[str, Any]:
    """Programs the image with this digest; gives nothing.

    Raises VerbRefused if the image is not there or does not fit, if the FPGA is in use, or if it does not take it.
    """
    device = Device("program_fpga", root, address)
    way = _way(device)
    way.program(Job(device, load(device, images, digest), region, port, interface))
    return {}


def fpga_image(
    root: Path, images: Path, address: str, region: str | None, port: int | None, digest: str
) -> dict[str, Any]:
    """Tells whether the FPGA has the image with this digest, as far as it tells. Raises VerbRefused."""
    device = Device("fpga_image", root, address)
    if is_vfio(device.driver()):
        # It is with a guest; what it had before that is what was programmed.
        return {"holds": True}
    way = _way(device)
    return {"holds": way.holds(Job(device, load(device, images, digest), region, port))}


def _way(device: Device) -> Way:
    device.names()
    for way in _WAYS:
        if way.is_for(device):
            return way
    driver = device.driver()
    if driver is None or is_vfio(driver):
        raise device.refusal(PERMANENT, f" is on {driver or 'no driver'}: only its own driver can program it")
    raise device.refusal(PERMANENT, f": nothing is known by which its driver {driver} programs it")
