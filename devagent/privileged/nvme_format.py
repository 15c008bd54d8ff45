# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Wipes the namespaces of an NVMe controller by Format NVM, each in the format that it has.

By cryptographic erase where the controller has that, else by user data erase (NVM Express Base Specification 2.0,
5.14). The command ends when the wipe has.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

from devagent.privileged.nvme_admin import EVERY, FORMAT, FORMAT_IN_PROGRESS, Admin, NvmeStatus
from devagent.privileged.nvme_controller import (
    Abilities,
    Controller,
    Namespace,
    abilities,
    active,
    attached,
    hidden,
    namespace,
)
from devagent.privileged.nvme_disks import unchanged_is_refused
from devagent.privileged.refused import PERMANENT, RETRY

_USER_DATA, _CRYPTO = 1 << 9, 2 << 9  # SES, bits 9-11 of command dword 10
_POLL_S: Final = 1.0


def check(controller: Controller, admin: Admin) -> tuple[Abilities, list[Namespace]]:
    """Gives what the controller can do, and its namespaces.

    Raises VerbRefused if formatting them is not possible, or not right; OSError or NvmeStatus.
    """
    able = abilities(admin)
    if not able.formats:
        can = "; it can be sanitized: nvme-sanitize" if able.sanitize else ", nor can it be sanitized"
        raise controller.device.refusal(PERMANENT, f" cannot be formatted{can}")
    namespaces = active(admin)
    if (controller.device.folder / "physfn").is_symlink():
        _has_its_own(controller, admin, able, namespaces)
    else:
        _has_all(controller, admin, able, namespaces)
    return able, namespaces


def wipe(controller: Controller, admin: Admin) -> None:
    """Formats all namespaces of the controller. Raises VerbRefused, OSError or NvmeStatus."""
    able, namespaces = check(controller, admin)
    disks = controller.await_disks(namespaces)
    with unchanged_is_refused(controller.device, disks):
        for nsid, as_it_is in _targets(able, namespaces):
            erase = _CRYPTO if able.has_crypto_erase else _USER_DATA
            _format(controller, admin, nsid, as_it_is.lbaf | as_it_is.protection | erase)
        for each in namespaces:
            now = namespace(admin, each.nsid)
            if now != replace(each, left=0):
                text = f": its namespace {each.nsid} is {now} after a format, not {each}"
                raise controller.device.refusal(RETRY, text)


def _targets(able: Abilities, namespaces: list[Namespace]) -> list[tuple[int, Namespace]]:
    if able.format_is_for_all and namespaces:
        first = namespaces[0]
        return [(EVERY if able.takes_all_at_once else first.nsid, first)]
    return [(each.nsid, each) for each in namespaces]


def _has_its_own(controller: Controller, admin: Admin, able: Abilities, namespaces: list[Namespace]) -> None:
    """Raises VerbRefused where the format of a VF would wipe what others have."""
    refusal = controller.device.refusal
    if able.format_is_for_all:
        raise refusal(PERMANENT, " is a VF, and a format of it would wipe the namespaces of others, too")
    for each in namespaces:
        owners = attached(admin, each.nsid)
        if each.is_shareable if owners is None else set(owners) != {able.number}:
            raise refusal(PERMANENT, f" is a VF, and its namespace {each.nsid} is not its own: others have it, too")


def _has_all(controller: Controller, admin: Admin, able: Abilities, namespaces: list[Namespace]) -> None:
    """Raises VerbRefused where the format of a whole controller would wipe too much, or leave something."""
    refusal, neighbours = controller.device.refusal, controller.neighbours()
    if neighbours:
        if able.format_is_for_all:
            raise refusal(PERMANENT, f": a format of it would wipe what {', '.join(neighbours)} of its drive has, too")
        return
    left = hidden(admin, namespaces) if able.manages else []
    if left:
        text = f": its namespaces {', '.join(map(str, left))} are not attached, so they cannot be formatted"
        raise refusal(RETRY, f"{text}: attach them (nvme attach-ns), or have the drive sanitized")


def _format(controller: Controller, admin: Admin, nsid: int, how: int) -> None:
    """Formats, after one that is under way still: it may be ours, from before the agent was restarted."""
    while True:
        left = controller.until - time.monotonic()
        try:
            admin.command(FORMAT, nsid=nsid, cdw10=how, timeout_s=max(left, 1.0))
        except NvmeStatus as status:
            if status.code != FORMAT_IN_PROGRESS or left <= _POLL_S:
                raise
            time.sleep(_POLL_S)
        else:
            return
