# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Binds a function to a driver, or to none.

    echo vfio-pci > /sys/bus/pci/devices/0000:3b:00.1/driver_override
    echo 0000:3b:00.1 > /sys/bus/pci/devices/0000:3b:00.1/driver/unbind
    echo 0000:3b:00.1 > /sys/bus/pci/drivers/vfio-pci/bind

drivers_probe would call it a success though nothing was bound; `bind` gives the driver's own answer. The link counts.
The override stays while a VFIO driver has the function, which nothing else would match, and goes with it; one that was
there before (driverctl sets them) comes back. Reading it waits for the device's lock, which a hanging unbind holds.

    # cat /sys/bus/pci/devices/0000:3b:00.1/driver_override
    (null)
"""

from __future__ import annotations

import errno
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

from devagent.model.pci import is_vfio
from devagent.privileged.device import Device, Meanings
from devagent.privileged.nvme_disks import nobody_builds_on
from devagent.privileged.refused import PERMANENT, RETRY
from devagent.privileged.unbind_lock import locked

NAME: Final = "bind"

_NO_OVERRIDE: Final = " takes no driver_override: no driver can be chosen for it"
_LET_GO: Final = " has lost its driver meanwhile: somebody else is at work on it"


def driver(root: Path, address: str) -> dict[str, Any]:
    """Gives the driver of a function and its override, None for none. Raises VerbRefused if it is not there."""
    device = Device("driver", root, address)
    device.names()
    return {"driver": device.driver(), "override": _now(device)}


def bind(root: Path, address: str, driver: str | None, override: str | None) -> dict[str, Any]:
    """Brings a function to `driver`, None for none, and leaves it with `override`; gives which driver it had and has.

    Raises VerbRefused if it is in use or has VFs, if there is no such driver, or if the driver does not take it.
    """
    device = Device(NAME, root, address)
    vfs, before = device.vfs(), device.driver()
    place = root / "sys/bus/pci/drivers" / (driver or "")
    if driver is not None and not place.is_dir():
        raise device.refusal(PERMANENT, f": this host has no driver {driver}; load its module (modprobe {driver})")
    if before != driver:
        if before is not None:
            if vfs:
                text = f" has {len(vfs)} VFs, which would go with its driver {before}: remove them first"
                raise device.refusal(PERMANENT, text)
            device.nobody_has([(device.folder, "")])
            if before == "nvme":  # the last look may be older than a mount
                nobody_builds_on(device)
        _rebind(device, before, driver, place)
    if _now(device) != override:
        _override(device, override)
    after = device.driver()
    if after != driver:
        raise device.refusal(RETRY, f" is bound to {after or 'no driver'}, though it was to be {driver or 'none'}")
    return {"before": before, "after": after}


def _rebind(device: Device, before: str | None, driver: str | None, place: Path) -> None:
    if driver is not None:  # first, so that nothing else can take it in between
        _override(device, driver)
    if before is not None:
        gone: Meanings = {errno.ENODEV: (RETRY, f"its driver {before} has let go of it meanwhile")}
        with locked(device) if before == "nvidia" else nullcontext():
            device.write(device.folder / "driver/unbind", device.address, _LET_GO, gone)
    if driver is not None:
        meanings = _meanings(driver, has_group=(device.folder / "iommu_group").is_symlink())
        device.write(place / "bind", device.address, f": the driver {driver} takes no devices by hand", meanings)


def _now(device: Device) -> str | None:
    try:
        text = (device.folder / "driver_override").read_text().strip()
    except OSError:
        return None
    return None if text in ("", "(null)") else text


def _override(device: Device, driver: str | None) -> None:
    device.write(device.folder / "driver_override", f"{driver or ''}\n", _NO_OVERRIDE, {})


def _meanings(driver: str, *, has_group: bool) -> Meanings:
    """Says what a driver means that does not take a function (drivers/base/bus.c, vfio_pci_core.c, the drivers')."""
    other = "somebody else has bound it meanwhile, or a function of its IOMMU group is with a guest"
    refuses = f"the driver {driver} refuses it"
    if is_vfio(driver):
        refuses += " (some QATs, DSA and IAX are on vfio-pci's denylist)" if has_group else ": it is in no IOMMU group"
    return {
        errno.ENODEV: (PERMANENT, f"the driver {driver} is not for this device, or cannot start it; see dmesg"),
        errno.EBUSY: (RETRY, f"the driver {driver} cannot have it now: {other}"),
        errno.EINVAL: (PERMANENT, refuses),
        errno.EAGAIN: (RETRY, f"the driver {driver} waits for something else to come up first"),
    }
