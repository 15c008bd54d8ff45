# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Wipes what a tenant has left on a device, in the way that the policy names; and tells whether that can be done.

A wipe may take as long as the device likes. One that was begun before is waited for, or done once more: wiping twice
harms nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from devagent.cause import system_words
from devagent.privileged import capabilities, gpu_reset, nvme_format, nvme_sanitize
from devagent.privileged.capabilities import Capability
from devagent.privileged.device import Device
from devagent.privileged.nvme_admin import Admin, NvmeStatus
from devagent.privileged.nvme_controller import DRIVER, Controller
from devagent.privileged.refused import PERMANENT, RETRY

NAME: Final = "scrub"

_MARGIN_S: Final = 5.0
"""Before the deadline, to say in words how far it came."""
_NVME: Final = {"nvme-format": nvme_format, "nvme-sanitize": nvme_sanitize}
HOWS: Final = (*_NVME, "gpu-reset")
_GPUS: Final = ("0x03", "0x12")
"""Displays and processing accelerators, as pci_ids.h has the base class."""


def scrub(root: Path, address: str, how: str, until: float, serial: str | None = None) -> dict[str, Any]:
    """Wipes a device by `how`, one of HOWS, until `until` (time.monotonic); gives nothing.

    Of NVMe drives only the one with the number `serial`, if that is said. Raises VerbRefused if it is in use, if it
    cannot be wiped so, or if it is not wiped in spite of it.
    """
    device = Device(NAME, root, address)
    vfs = device.vfs()
    _is_of_its_kind(device, how)
    if vfs:
        raise device.refusal(PERMANENT, f" has {len(vfs)} VFs, which a wipe would harm: remove them first")
    if how not in _NVME:
        gpu_reset.reset_gpu(device)
        return {}
    _needs_sys_admin(device)
    device.nobody_has([(device.folder, "")])
    controller = Controller(device, until - _MARGIN_S)
    controller.await_live()
    if serial is not None and controller.serial() != serial:
        raise device.refusal(RETRY, f" is not the drive {serial} that was to be wiped, but {controller.serial()}")
    with _opened(controller) as admin:
        _NVME[how].wipe(controller, admin)
    return {}


def can_scrub(root: Path, address: str, how: str, until: float) -> dict[str, Any]:
    """Gives nothing, and changes nothing.

    Raises VerbRefused if it is known already that the device could not be wiped by `how`; while it is on another
    driver than its own, little is.
    """
    device = Device("can_scrub", root, address)
    _is_of_its_kind(device, how)
    if how not in _NVME:
        gpu_reset.check(device)
        return {}
    _needs_sys_admin(device)
    if device.driver() == DRIVER:
        controller = Controller(device, until - _MARGIN_S)
        with _opened(controller) as admin:
            _NVME[how].check(controller, admin)
    return {}


def _is_of_its_kind(device: Device, how: str) -> None:
    device.names()
    try:
        code = (device.folder / "class").read_text().strip()
    except OSError as error:
        raise device.refusal(RETRY, f": its class cannot be read: {system_words(error)}") from None
    if not code.startswith("0x0108" if how in _NVME else _GPUS):
        kind = "NVMe drive" if how in _NVME else "GPU"
        raise device.refusal(PERMANENT, f" is no {kind} (its class is {code}): it cannot be wiped by {how}")


def _needs_sys_admin(device: Device) -> None:
    if not capabilities.has(Capability.SYS_ADMIN):
        text = " cannot be wiped: the privileged process needs CAP_SYS_ADMIN for it, which the unit does not give"
        raise device.refusal(PERMANENT, f"{text}; install devagent.service.d/wiping.conf (see docs/security.md)")


@contextmanager
def _opened(controller: Controller) -> Iterator[Admin]:
    """Opens the controller; makes refusals of what it, or the kernel, answers."""
    device = controller.device
    try:
        with controller.open() as admin:
            yield admin
    except NvmeStatus as status:
        raise device.refusal(RETRY, f": {controller.name} was to be wiped: {status}") from None
    except OSError as error:
        device.names()
        raise device.refusal(RETRY, f": {controller.name} was to be wiped: {system_words(error)}") from None
