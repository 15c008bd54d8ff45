# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Makes of the policy's rules how each device is treated, and of its decisions what keeps single functions from use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from devagent.inventory.policy import first_match
from devagent.model.claim import Mode
from devagent.model.device import Device
from devagent.model.policy import Policy, Rule
from devagent.prepare.treatment import Reset, Scrub, Treatment

SHA256: Final = "sha256:"
"""How the policy begins a digest, of which the rest is what images are known by."""


def treatment(rule: Rule) -> Treatment:
    """Gives what `rule` says. Raises ValueError for a wipe without the image that it needs, or an image without one."""
    prepare = rule.prepare
    return Treatment(
        mode=rule.mode or Mode.WHOLE,
        driver=prepare.driver,
        keep=prepare.keep,
        reset=Reset(prepare.reset),
        scrub=Scrub(prepare.scrub) if prepare.scrub is not None else None,
        blank=prepare.blank.removeprefix(SHA256) if prepare.blank is not None else None,
        types=dict(rule.types),
        vf_indexes=rule.vf_indexes,
    )


def treatments(devices: Iterable[Device], policy: Policy, *, given: bool = True) -> dict[str, Treatment]:
    """Gives how devices are treated, by address.

    Only those that are `given` now may have a treatment where something is planned for a consumer: to the planner,
    whatever has one can be given. A release needs those of all devices that a rule wants, or a device that cannot
    be read at that moment would not be wiped.
    """
    found = {}
    for device in devices:
        rule = first_match(policy, device.function, device.claim, device.identity)
        decision = device.decision
        if rule is not None and rule.mode is not None and (decision.managed or decision.owner or not given):
            found[device.address] = _narrowed(treatment(rule), device) if given else treatment(rule)
    return found


def _narrowed(wanted: Treatment, device: Device) -> Treatment:
    """Leaves out the classes that the device does not give: its decision says why."""
    classes = {share.resource_class for share in device.decision.shares}
    return replace(wanted, types={name: kind for name, kind in wanted.types.items() if name in classes})


def vetoes(devices: Iterable[Device]) -> dict[str, str]:
    """Gives, by address, why the guards keep single VFs of devices that are given."""
    found: dict[str, str] = {}
    for device in devices:
        reasons = dict(device.decision.vf_vetoes)
        found |= {vf.address: reasons[vf.index] for vf in device.vfs if vf.index in reasons}
    return found
