# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Opens a device on vfio-pci as a virtual machine does, and holds it until it is told to end: hold.py ADDRESS."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import sys
from pathlib import Path

GROUP_GET_STATUS, GROUP_SET_CONTAINER, SET_IOMMU, GROUP_GET_DEVICE_FD = 0x3B67, 0x3B68, 0x3B66, 0x3B6A
TYPE1V2_IOMMU = 3
VIABLE = 1


def main() -> None:
    """Makes /tmp/held-PID when it has the device open."""
    address = sys.argv[1]
    group_number = Path("/sys/bus/pci/devices", address, "iommu_group").resolve().name
    container = os.open("/dev/vfio/vfio", os.O_RDWR)
    group = os.open(f"/dev/vfio/{group_number}", os.O_RDWR)
    status = bytearray(struct.pack("II", 8, 0))
    fcntl.ioctl(group, GROUP_GET_STATUS, status)
    if not struct.unpack("II", status)[1] & VIABLE:
        sys.exit(f"group {group_number} is not viable")
    fcntl.ioctl(group, GROUP_SET_CONTAINER, struct.pack("i", container))
    fcntl.ioctl(container, SET_IOMMU, TYPE1V2_IOMMU)
    fcntl.ioctl(group, GROUP_GET_DEVICE_FD, bytearray(address.encode() + b"\0"))
    Path("/tmp", f"held-{os.getpid()}").touch()
    signal.pause()


if __name__ == "__main__":
    main()
