# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Tells the log what is new of the devices between two looks: each thing once, each line about one device."""

from __future__ import annotations

import logging

from devagent.model.amount import amount
from devagent.model.device import Device
from devagent.model.health import Health
from devagent.service.facts import Seen

LOG = logging.getLogger(__name__)


def log(before: Seen | None, after: Seen) -> None:
    """Says which devices came and went, whose health changed, what cannot be had, and what could not be read."""
    old = {device.address: device for device in before.devices} if before else {}
    new = {device.address: device for device in after.devices}
    if before is None:
        given = sum(device.decision.managed for device in after.devices)
        LOG.info("the host has %s; given are %d", amount(len(new), "device"), given)
    for address in sorted(new.keys() - old.keys()) if before else ():
        _say(logging.INFO, new[address], f"appeared: {_name(new[address])}; {_given(new[address])}")
    for address in sorted(old.keys() - new.keys()):
        _say(logging.WARNING, old[address], f"is gone: {_name(old[address])}")
    for address, device in new.items():
        earlier = old.get(address)
        _health(earlier.health if earlier else Health(), device)
        if earlier is not None and earlier.decision.managed != device.decision.managed:
            _say(logging.INFO, device, f"is {_given(device)}")
    for refused in set(after.refused) - set(before.refused if before else ()):
        LOG.error("%s: %s", refused.what, refused.why, extra={"device": refused.address})
    _problems(before, after)


def _health(earlier: Health, device: Device) -> None:
    health = device.health
    if health == earlier or not (health.state.is_trouble or earlier.state.is_trouble):
        return
    if not health.state.is_trouble:
        _say(logging.INFO, device, f"is {health.state} again (was {earlier.state})")
        return
    fenced = "; no new virtual machine gets it" if health.state.is_fenced else ""
    level = logging.ERROR if health.state.is_fenced else logging.WARNING
    now = "is still" if health.state is earlier.state else "is"
    was = "" if health.state is earlier.state else f" (was {earlier.state})"
    _say(level, device, f"{now} {health.state}{was}{fenced}: {'; '.join(health.reasons)}")


def _problems(before: Seen | None, after: Seen) -> None:
    old = set(before.view.found.problems) if before else set()
    for problem in after.view.found.problems:
        if problem not in old:
            extra = {"device": problem.device} if problem.device else {}
            LOG.warning("%s: %s", problem.source, problem.problem, extra=extra)


def _given(device: Device) -> str:
    decision = device.decision
    if decision.managed and decision.total:
        return f"given ({decision.reason})"
    return f"not given: {decision.reason}"


def _name(device: Device) -> str:
    return f"{device.claim.vendor} {device.claim.model}"


def _say(level: int, device: Device, text: str) -> None:
    LOG.log(level, "%s", text, extra={"device": device.address})
