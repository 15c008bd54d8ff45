# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Finds who has a device open, just before something is done that would wait for them, or harm them.

    /proc/4711/fd/38 -> /dev/vfio/12                the group in /sys/bus/pci/devices/0000:3b:00.1/iommu_group
    /proc/4711/fd/39 -> /dev/vfio/devices/vfio3     /sys/bus/pci/devices/0000:3b:00.1/vfio-dev/vfio3
    /proc/812/fd/5 -> /dev/nvidia0                  `Device Minor: 0` in /proc/driver/nvidia/gpus/ADDRESS/information

The last look may be minutes old. A process that opens the device after this is not seen: the verb then hangs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from devagent.model.preparation import Holder


def nodes(function: Path) -> Iterator[str]:
    """Gives the device nodes by which VFIO hands out a function or a mediated device, by its folder in sysfs."""
    with suppress(OSError):
        group = (function / "iommu_group").readlink().name
        yield from (f"/dev/vfio/{group}", f"/dev/vfio/noiommu-{group}")
    with suppress(OSError):
        yield from (f"/dev/vfio/devices/{each.name}" for each in (function / "vfio-dev").iterdir())


def gpu_nodes(proc: Path, address: str) -> Iterator[str]:
    """Gives the node by which NVIDIA's driver hands out a GPU; none if it is not that driver's."""
    with suppress(OSError):
        text = (proc / "driver/nvidia/gpus" / address / "information").read_text(errors="replace")
        yield from (
            f"/dev/nvidia{minor}" for minor in re.findall(r"^Device Minor:\s*([0-9]{1,4})$", text, re.MULTILINE)
        )


def opened(proc: Path) -> Iterator[tuple[str, str]]:
    """Gives what processes have open, each with its process. Raises PermissionError where that may not be seen."""
    for process in proc.iterdir():
        with suppress(FileNotFoundError, NotADirectoryError, ProcessLookupError):  # it is none, or has ended
            for fd in (process / "fd").iterdir() if process.name.isdigit() else ():
                with suppress(FileNotFoundError):
                    yield process.name, str(fd.readlink()).removesuffix(" (deleted)")


def holder(proc: Path, process: str) -> Holder:
    """Gives a process with the name of its command."""
    command = None
    with suppress(OSError):
        command = (proc / process / "comm").read_text(errors="replace").strip()
    return Holder(pid=int(process), command=command or "?")
