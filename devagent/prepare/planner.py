# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Turns what Placement allocated into steps on concrete devices. Pure: the same question gets the same plan.

provider (its device) + class + address? + properties?  --plan-->  steps, handles, locks   or a Refusal
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from devagent.inventory.identity import told
from devagent.model.claim import Mode
from devagent.model.handle import Handle, PciHandle
from devagent.model.pci import is_vfio
from devagent.model.plan import Group, Plan, Step
from devagent.model.preparation import Holdings, Refusal
from devagent.prepare import attributes, images, vgpus
from devagent.prepare.functions import VFIO, Ask, Desk, choose, wanted_driver
from devagent.prepare.giving_back import release
from devagent.prepare.lock_keys import lock_keys
from devagent.prepare.refused import Refused, invalid, permanent
from devagent.prepare.view import Part, View

__all__ = ["plan", "release"]

_PROPERTIES: Final = {
    Mode.WHOLE: (images.NAME,),
    Mode.VF: (images.NAME, *attributes.NAMES),
    Mode.MDEV: vgpus.NAMES,
    Mode.VGPU: vgpus.NAMES,
}


def plan(consumer: str, groups: Sequence[Group], view: View, holdings: Holdings) -> Plan | Refusal:
    """Plans the devices of all `groups` for one consumer, or says why that is not possible.

    `consumer` is its UUID in Placement. Whatever is held or in use by anybody, the consumer itself
    included, is not given again.
    """
    try:
        return _plan(consumer, groups, Desk(view, holdings))
    except Refused as refused:
        return refused.refusal


def _plan(consumer: str, groups: Sequence[Group], desk: Desk) -> Plan:
    made: dict[int, tuple[list[Step], list[Handle]]] = {}
    # Who asks for a function by its address gets it before anybody may choose it.
    for number in sorted(range(len(groups)), key=lambda number: groups[number].address is None):
        made[number] = _group(consumer, groups[number], desk)
    steps = tuple(step for number in sorted(made) for step in made[number][0])
    handles = tuple(handle for number in sorted(made) for handle in made[number][1])
    touched = {step.target for step in steps} | {handle.function for handle in handles}
    wanted = {group.provider: desk.view.treatment(group.provider).wipe for group in groups}
    wipes = {provider: wipe for provider, wipe in wanted.items() if wipe is not None}
    given = {group.provider: desk.view.devices[group.provider] for group in groups}
    devices = {provider: device.key for provider, device in given.items()}
    says = {provider: told(device) for provider, device in given.items()}
    return Plan(consumer, steps, handles, lock_keys(desk.view, touched), wipes, devices, says)


def _group(consumer: str, group: Group, desk: Desk) -> tuple[list[Step], list[Handle]]:
    device = desk.view.devices.get(group.provider)
    if device is None:
        raise Refused(permanent(f"no device of this host is resource provider {group.provider} now"))
    ask = Ask(group, device, desk.view.treatment(group.provider))
    _check(ask)
    steps: list[Step] = []
    handles: list[Handle] = []
    for resource_class, count in sorted(group.resources.items()):
        if ask.treatment.mode.is_made:
            more = vgpus.vgpus(desk, ask, resource_class, count, consumer)
        else:
            more = _functions(desk, ask, resource_class, count)
        steps += more[0]
        handles += more[1]
    return steps, handles


def _check(ask: Ask) -> None:
    """Raises Refused for what the device is not, whoever holds it."""
    group, device, mode = ask.group, ask.device, ask.treatment.mode
    _check_owner(ask)
    offered = {device.decision.resource_class, *ask.treatment.types} - {None}
    for name, count in group.resources.items():
        if name not in offered and group.owner is None:
            raise Refused(permanent(f"{device.address} is no {name}: it gives {', '.join(sorted(map(str, offered)))}"))
        if count < 1:
            raise Refused(invalid(f"{name}: {count} is no number of devices"))
    amount = sum(group.resources.values())
    if not amount:
        raise Refused(invalid(f"nothing is asked for of resource provider {group.provider}"))
    if amount > 1 and (mode is Mode.WHOLE or group.address is not None):
        raise Refused(invalid(f"{group.address or device.address} is one device: {amount} are asked for"))
    unknown = sorted(set(group.properties) - {*_PROPERTIES[mode]})
    if unknown:
        reason = f"{', '.join(unknown)}: {device.address} is given as {mode}, which has no such property"
        raise Refused(invalid(reason, device.address))


def _check_owner(ask: Ask) -> None:
    """Raises Refused where the consumer was given the device by somebody else than the policy says."""
    group, device = ask.group, ask.device
    if group.owner != device.decision.owner:
        who = "Nova itself (owner: nova)" if device.decision.owner else "Placement, and not by Nova itself"
        raise Refused(invalid(f"{device.address} is given by {who}, as rule {device.decision.rule} has it"))
    if group.owner is not None and group.address is None:
        raise Refused(invalid(f"{device.address} is given by Nova itself: say by its address which function"))


def _functions(desk: Desk, ask: Ask, resource_class: str, count: int) -> tuple[list[Step], list[Handle]]:
    """Plans whole devices and VFs: what the FPGA is, then who drives it, then how its VF is on the network."""
    values = attributes.attributes(ask, count)
    steps: list[Step] = []
    handles: list[Handle] = []
    for part in choose(desk, ask, count, lambda _: None):
        steps += images.image_steps(desk.view, ask, part)
        steps += _bind_steps(desk.view, ask, part)
        steps += attributes.attribute_steps(ask, part, values)
        handles.append(PciHandle(ask.group.provider, resource_class, part.address))
    return steps, handles


def _bind_steps(view: View, ask: Ask, part: Part) -> list[Step]:
    """Gives a step for the function unless it has its driver, and for what else of its IOMMU group the host drives."""
    driver = wanted_driver(ask.device, ask.treatment, part)
    changes = [(part.address, part.driver, driver)] if part.driver != driver else []
    for each in view.companions(part):
        if each.driver is not None and not is_vfio(each.driver):
            changes.append((each.address, each.driver, VFIO))
    return [Step("bind", address, {"driver": new}, {"driver": old}) for address, old, new in changes]
