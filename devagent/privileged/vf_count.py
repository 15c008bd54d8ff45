# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Makes and removes the VFs of a PF.

    # ls -l /sys/bus/pci/devices/0000:3b:00.0/
    --w--w---- sriov_numvfs                       sriov_totalvfs
    lrwxrwxrwx virtfn0 -> ../0000:3b:00.1         iommu_group -> ../../../../kernel/iommu_groups/12

How many there are is counted by the links: reading sriov_numvfs waits for the device's lock, which a hanging
removal holds for ever (seen on 6.1 and 6.12).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from devagent.errors import VerbFailed

NAME: Final = "set_vf_count"


def set_vf_count(root: Path, address: str, count: int) -> dict[str, Any]:
    """Brings a PF from no VFs to `count`, or from any number to none; gives how many there were and are.

    Raises VerbFailed if the kernel refuses, if what came of it is another number, or if VFs that are to go are open.
    """
    device = root / "sys/bus/pci/devices" / address
    before = len(_vfs(device, address))
    if before != count:
        if before and count:
            raise VerbFailed(NAME, f"{address} has {before} VFs: they must be removed before there can be {count}")
        if before:
            _refuse_if_open(root, device, address)
        _write(device, address, count)
    after = len(_vfs(device, address))
    if after != count:
        asked = f"{count} were asked for and its driver {_driver(device)} reported success"
        raise VerbFailed(NAME, f"{address} has {after} VFs, though {asked}")
    return {"before": before, "after": after}


def _vfs(device: Path, address: str) -> list[str]:
    try:
        return [each.name for each in device.iterdir() if re.fullmatch("virtfn[0-9]+", each.name)]
    except FileNotFoundError:
        raise VerbFailed(NAME, f"{address}: there is no such PCI device (any more)") from None


def _write(device: Path, address: str, count: int) -> None:
    try:
        fd = os.open(device / "sriov_numvfs", os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise VerbFailed(NAME, f"{address} is no SR-IOV PF: it cannot have VFs") from None
    except OSError as error:
        hint = _CLOSED.get(error.errno or 0, "")
        raise VerbFailed(NAME, f"{address}: sriov_numvfs cannot be opened: {_said(error)}{hint}") from None
    try:
        # One write: a Python file object would do a failing one twice.
        os.write(fd, b"%d" % count)
    except OSError as error:
        raise VerbFailed(NAME, f"{address}: {_refusal(error, device, count)}") from None
    finally:
        os.close(fd)


_CLOSED: Final = {
    errno.EACCES: "; the privileged process needs CAP_DAC_OVERRIDE (see devagent.service)",
    errno.EROFS: "; /sys is mounted read-only, as in a container",
}


def _refusal(error: OSError, device: Path, count: int) -> str:
    """Says what the kernel's answer to the write means (drivers/pci/iov.c, sriov_numvfs_store)."""
    driver = _driver(device)
    meanings = {
        errno.ENOENT: f"its driver {driver} cannot make VFs; bind one that can"
        if driver
        else "it has no driver, and VFs are made by the driver; bind one",
        errno.EBUSY: f"its driver {driver} is busy; it is worth another try",
        errno.ERANGE: f"it cannot have {count} VFs; its firmware or driver offers fewer",
        errno.EINVAL: f"its driver {driver} cannot make just {count} VFs; dfl-pci makes as many as ports were released",
        errno.ENOMEM: "the firmware left no room for VFs; look for SR-IOV, ARI and decoding above 4G in its set-up",
        errno.EPERM: f"its driver {driver} does not permit it while VFs are given away",
    }
    meaning = meanings.get(error.errno or 0)
    return f"{meaning} ({_said(error)})" if meaning else f"its driver {driver} answered: {_said(error)}"


def _driver(device: Path) -> str:
    try:
        return (device / "driver").readlink().name
    except OSError:
        return ""


def _refuse_if_open(root: Path, device: Path, address: str) -> None:
    """The last look may be minutes old, and the removal of a VF that a process holds waits until it lets go."""
    nodes = {node: vf for vf in sorted(_vfs(device, address)) for node in _nodes(device / vf)}
    try:
        for process, node in _opened(root / "proc") if nodes else ():
            if node in nodes:
                vf = nodes[node].removeprefix("virtfn")
                raise VerbFailed(NAME, f"{address}: VF {vf} is in use: process {process} has {node} open")
    except PermissionError:
        why = "whether its VFs are in use may not be seen; the privileged process needs CAP_SYS_PTRACE"
        raise VerbFailed(NAME, f"{address}: {why} (see devagent.service)") from None


def _nodes(vf: Path) -> Iterator[str]:
    """Gives the device nodes by which VFIO hands out a VF."""
    with suppress(OSError):
        yield f"/dev/vfio/{(vf / 'iommu_group').readlink().name}"
    with suppress(OSError):
        yield from (f"/dev/vfio/devices/{each.name}" for each in (vf / "vfio-dev").iterdir())


def _opened(proc: Path) -> Iterator[tuple[str, str]]:
    """Gives what processes have open, each with its process. Raises PermissionError where that may not be seen."""
    for process in proc.iterdir():
        with suppress(FileNotFoundError, NotADirectoryError, ProcessLookupError):  # it is none, or has ended
            for fd in (process / "fd").iterdir() if process.name.isdigit() else ():
                with suppress(FileNotFoundError):
                    yield process.name, str(fd.readlink())


def _said(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
