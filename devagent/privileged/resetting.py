# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Resets a function, between two consumers.

    # cat /sys/bus/pci/devices/0000:3b:00.1/reset_method        the order in which the kernel tries them
    flr bus
    # echo 1 > /sys/bus/pci/devices/0000:3b:00.1/reset

The kernel does not ask whether a guest has the function: it would be reset below the guest.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any, Final

from devagent.cause import system_words
from devagent.privileged.device import Device, Meanings
from devagent.privileged.refused import PERMANENT, RETRY

NAME: Final = "reset"

METHODS: Final = ("device_specific", "acpi", "flr", "af_flr", "pm", "bus", "cxl_bus")
"""drivers/pci/pci.c, pci_reset_fn_methods."""

_UNABLE: Final = " cannot be reset: the kernel knows no way"
_MEANINGS: Final[Meanings] = {
    errno.ENOTTY: (PERMANENT, "no way in which the kernel resets devices works on it"),
    errno.ETIMEDOUT: (RETRY, "it did not come back from its reset in time; see dmesg"),
}


def reset(root: Path, address: str, method: str | None) -> dict[str, Any]:
    """Resets a function by `method`, or with None as the kernel prefers; gives nothing.

    Raises VerbRefused if it, or a VF of it, is in use, or if it cannot be reset so.
    """
    device = Device(NAME, root, address)
    device.nobody_has([(device.folder, ""), *device.vf_folders(device.vfs())])
    if method is None:
        _reset(device)
        return {}
    order = _order(device)
    if method not in order.split():
        raise device.refusal(PERMANENT, f" cannot be reset by {method}: it has {order or 'no way at all'}")
    _choose(device, method)
    try:
        _reset(device)
    finally:
        _choose(device, order)
    return {}


def _reset(device: Device) -> None:
    device.write(device.folder / "reset", "1", _UNABLE, _MEANINGS)


def _choose(device: Device, methods: str) -> None:
    device.write(device.folder / "reset_method", methods, _UNABLE, {})


def _order(device: Device) -> str:
    try:
        return (device.folder / "reset_method").read_text().strip()
    except FileNotFoundError:
        raise device.refusal(PERMANENT, _UNABLE) from None
    except OSError as error:
        raise device.refusal(RETRY, f": reset_method cannot be read: {system_words(error)}") from None
