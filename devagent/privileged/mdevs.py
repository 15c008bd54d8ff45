# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Makes and removes mediated devices (drivers/vfio/mdev).

# echo 4b20d080-... > /sys/bus/pci/devices/0000:3b:00.0/mdev_supported_types/nvidia-558/create
# ls -l /sys/bus/pci/devices/0000:3b:00.0/4b20d080-.../
lrwxrwxrwx mdev_type -> ../mdev_supported_types/nvidia-558
--w------- remove
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any, Final

from devagent.privileged.device import Device, Meanings
from devagent.privileged.refused import PERMANENT, RETRY

_NO_PARENT: Final = (RETRY, "its driver is taking its mediated devices away")

_CREATE: Final[Meanings] = {
    errno.EEXIST: (PERMANENT, "another device of this host has a mediated device with this UUID"),
    errno.EUSERS: (RETRY, "it has no room for another of this type now"),
    errno.ENOSPC: (RETRY, "it has no room for another of this type now"),
    errno.ENODEV: _NO_PARENT,
}
_REMOVE: Final[Meanings] = {
    errno.EAGAIN: (RETRY, "the mediated device is being removed already"),
    errno.EBUSY: (RETRY, "the mediated device is in use"),
    errno.ENODEV: _NO_PARENT,
}


def create_mdev(root: Path, address: str, type: str, uuid: str) -> dict[str, Any]:
    """Makes a mediated device of a type with a UUID, unless it is there; gives nothing.

    Raises VerbRefused if the type is not offered, or if there is no room, or if the UUID is taken.
    """
    device = Device("create_mdev", root, address)
    device.names()
    now = _type(device, uuid)
    if now is None:
        missing = f" makes no mediated devices of the type {type} with its driver {device.driver()}"
        device.write(device.folder / "mdev_supported_types" / type / "create", uuid, missing, _CREATE)
        now = _type(device, uuid)
        if now is None:
            raise device.refusal(RETRY, f": the mediated device {uuid} is not there, though it was made")
    if now != type:
        raise device.refusal(PERMANENT, f": the mediated device {uuid} is of the type {now}, not {type}")
    return {}


def remove_mdev(root: Path, address: str, type: str, uuid: str) -> dict[str, Any]:
    """Removes a mediated device, unless it is gone; gives nothing.

    Raises VerbRefused if it is of another type, or in use.
    """
    device = Device("remove_mdev", root, address)
    device.names()
    now = _type(device, uuid)
    if now is None:
        return {}
    if now != type:
        raise device.refusal(PERMANENT, f": the mediated device {uuid} is of the type {now}, not {type}: it stays")
    device.nobody_has([(device.folder / uuid, f"the mediated device {uuid}")])
    device.write(device.folder / uuid / "remove", "1", f": the mediated device {uuid} is gone", _REMOVE)
    if _type(device, uuid) is not None:
        raise device.refusal(RETRY, f": the mediated device {uuid} is still there, though it was removed")
    return {}


def _type(device: Device, uuid: str) -> str | None:
    """Gives the type of a mediated device of this parent, None if there is no such device."""
    try:
        return (device.folder / uuid / "mdev_type").readlink().name
    except OSError:
        return None
