# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""devagent on a tree of files that binds drivers: `python -m functional.acting_kernel agent --root ...`.

What the privileged process writes to driver_override, unbind and bind is done to the tree before the write returns,
as the kernel does it; all else is devagent as it is.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

from devagent.cli.main import main

DEVICES, DRIVERS = "sys/bus/pci/devices", "sys/bus/pci/drivers"

_write = os.write


def install() -> None:
    """Has every write of this process, and of its children, go by the kernel."""
    os.write = kernel_write  # type: ignore[assignment]


def kernel_write(fd: int, data: bytes) -> int:
    """Writes, and does what the kernel does on that."""
    path = Path(f"/proc/self/fd/{fd}").readlink()
    top = next((each for each in path.parents if (each / DRIVERS).is_dir()), None)
    if top is None:
        return _write(fd, data)
    text = data.decode().strip()
    if path.name == "driver_override":
        path.write_text(f"{text or '(null)'}\n")
    elif path.name == "unbind":
        unbind(top, text)
    elif path.name == "bind":
        bind(top, text, path.parent.name)
    else:
        return _write(fd, data)
    return len(data)


def bind(top: Path, address: str, driver: str) -> None:
    """Gives a function to a driver. Raises OSError as the kernel does: it has one, or another one is to have it."""
    place, folder = (top / DEVICES / address).resolve(), top / DRIVERS / driver
    override = (place / "driver_override").read_text().strip()
    if override not in ("(null)", driver):
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    try:
        (place / "driver").symlink_to(os.path.relpath(folder.resolve(), place))
    except FileExistsError:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY)) from None
    (folder / address).symlink_to(os.path.relpath(place, folder.resolve()))


def unbind(top: Path, address: str) -> None:
    """Takes a function from its driver."""
    link = top / DEVICES / address / "driver"
    try:
        (top / DRIVERS / link.readlink().name / address).unlink()
        link.unlink()
    except FileNotFoundError:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from None


if __name__ == "__main__":
    install()
    sys.exit(main())
