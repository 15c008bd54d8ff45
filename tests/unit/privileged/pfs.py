# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A PF in a tree of files, and what stands in for the kernel behind its sriov_numvfs."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ..worlds import Link, World, write

PF = "0000:3b:00.0"
DEVICE = f"sys/bus/pci/devices/{PF}"


def pf(vfs: int = 0, driver: str | None = "mlx5_core", address: str = PF) -> World:
    """Gives a PF that can have 8 VFs; each VF has the IOMMU group of 100 more than its index."""
    device = f"sys/bus/pci/devices/{address}"
    world: dict[str, Any] = {f"{device}/sriov_totalvfs": "8\n", f"{device}/sriov_numvfs": "", "proc/": ""}
    if driver:
        world[f"{device}/driver"] = Link(f"../../../bus/pci/drivers/{driver}")
    for index in range(vfs):
        world |= _vf(address, index)
    return world


def _vf(address: str, index: int) -> World:
    vf = f"{address.rpartition(':')[0]}:01.{index}"
    return {
        f"sys/bus/pci/devices/{vf}/iommu_group": Link(f"../../../kernel/iommu_groups/{100 + index}"),
        f"sys/bus/pci/devices/{address}/virtfn{index}": Link(f"../{vf}"),
    }


@dataclass
class Kernel:
    """Does on a write to sriov_numvfs what the kernel does; `makes` is what the driver makes of a number.

    `refuses` is the errno of every write. It notes what was written, in the process that wrote it.
    """

    top: Path
    makes: Callable[[int], int] = int
    refuses: int | None = None
    written: list[bytes] = field(default_factory=list)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Kernel:
        real = os.write

        def kernel_write(fd: int, data: bytes) -> int:
            path = Path(f"/proc/self/fd/{fd}").readlink()
            return self._store(path.parent, data) if path.name == "sriov_numvfs" else real(fd, data)

        monkeypatch.setattr(os, "write", kernel_write)
        return self

    def _store(self, device: Path, data: bytes) -> int:
        self.written.append(data)
        count, there = int(data), len(list(device.glob("virtfn*")))
        if self.refuses:
            raise OSError(self.refuses, os.strerror(self.refuses))
        if count > int((device / "sriov_totalvfs").read_text()):
            raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))
        if not (device / "driver").is_symlink():
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        if count and there and there != count:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        for link in device.glob("virtfn*"):
            link.unlink()
        for index in range(self.makes(count)):
            (device / f"virtfn{index}").symlink_to(f"../{device.name.rpartition(':')[0]}:01.{index}")
        return len(data)


def host(top: Path, **more: Any) -> Path:
    """Writes a host with one PF."""
    return write(top / "host", pf(**more))
