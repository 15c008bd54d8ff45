# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Wipes all that an NVMe subsystem keeps, by Sanitize: also what no namespace shows any more.

The command only begins it; it goes on in the device, whatever becomes of the host. How far it is stands in the Sanitize
Status log page (NVM Express Base Specification 2.0, figure 291): bytes 0-1 the part that is done, in 65536ths; 2-3 the
state in bits 0-2, and in bit 8 that nothing was written since.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from devagent.privileged.nvme_admin import SANITIZE, SANITIZE_IN_PROGRESS, Admin, NvmeStatus
from devagent.privileged.nvme_controller import Abilities, Controller, abilities, active
from devagent.privileged.nvme_disks import unchanged_is_refused
from devagent.privileged.refused import PERMANENT, RETRY

_PAGE: Final = 0x81
_DONE, _UNDER_WAY, _FAILED, _DONE_ALLOCATED = 1, 2, 3, 4
_ACTIONS: Final = ((1 << 1, 2), (1 << 0, 4), (1 << 2, 3))
"""By bit of SANICAP, best first: block erase, crypto erase, overwrite, with the number of each in the command."""
_ONE_PASS: Final = 1 << 4
_POLL_S: Final = 2.0
_MARGIN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sanitize is: its state, per cent, and that nothing was written since the last one."""

    state: int
    percent: int
    is_untouched: bool

    @classmethod
    def of(cls, page: bytes) -> Progress:
        """Reads a Sanitize Status log page."""
        part, status = int.from_bytes(page[0:2], "little"), int.from_bytes(page[2:4], "little")
        return cls(status & 0b111, part * 100 // 65536, bool(status & 1 << 8))

    @property
    def is_done(self) -> bool:
        """Whether the last one has ended well."""
        return self.state in (_DONE, _DONE_ALLOCATED)


def check(controller: Controller, admin: Admin) -> Abilities:
    """Gives what the controller can do. Raises VerbRefused where it could never be sanitized, OSError, NvmeStatus."""
    device = controller.device
    if (device.folder / "physfn").is_symlink():
        text = " is a VF: a sanitize would wipe all of its drive, other tenants' namespaces, too"
        raise device.refusal(PERMANENT, f"{text}; nvme-format can wipe its own")
    found = abilities(admin)
    if not found.sanitize:
        can = "; it can be formatted: nvme-format" if found.formats else ", nor can it be formatted"
        raise device.refusal(PERMANENT, f" cannot be sanitized{can}")
    neighbours = controller.neighbours()
    if neighbours:
        text = f": a sanitize would wipe what {', '.join(neighbours)} of the same drive has, too"
        raise device.refusal(PERMANENT, text)
    return found


def wipe(controller: Controller, admin: Admin) -> None:
    """Sanitizes the drive, or waits for the end of what is under way. Raises VerbRefused, OSError or NvmeStatus."""
    able = check(controller, admin)
    now = _progress(admin)
    if now.is_done and now.is_untouched:
        return  # it ended while nobody looked
    if now.state == _UNDER_WAY:
        _await_end(controller, admin)
        return
    disks = controller.await_disks(active(admin))
    with unchanged_is_refused(controller.device, disks):
        _begin(admin, able)
        _await_end(controller, admin)


def _begin(admin: Admin, able: Abilities) -> None:
    action = next(number for bit, number in _ACTIONS if able.sanitize & bit)
    try:
        admin.command(SANITIZE, cdw10=action | _ONE_PASS)
    except NvmeStatus as status:
        if status.code != SANITIZE_IN_PROGRESS:
            raise


def _await_end(controller: Controller, admin: Admin) -> None:
    device = controller.device
    while (now := _progress(admin)).state == _UNDER_WAY:
        if time.monotonic() + _MARGIN_S >= controller.until:
            text = f" is being sanitized still, {now.percent} % are done: it goes on by itself, and is looked at again"
            raise device.refusal(RETRY, text)
        device.names()
        time.sleep(_POLL_S)
    if not now.is_done:
        text = f": its sanitize has failed (state {now.state} in log page 0x81): it takes no data until one succeeds"
        raise device.refusal(RETRY, text)


def _progress(admin: Admin) -> Progress:
    return Progress.of(admin.log_page(_PAGE, 512))
