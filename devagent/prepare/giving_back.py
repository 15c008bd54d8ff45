# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Plans how a consumer's devices are brought back, reset and wiped before anybody else gets them.

    what was made goes --> reset --> VF attributes back --> drivers back --> wiped by policy

A release only goes forward: none of its steps is taken back, since a device half way to its old state is
nothing that a consumer should have again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from devagent.inventory.identity import agrees, told
from devagent.model.claim import Kind
from devagent.model.device import Device
from devagent.model.handle import Handle, PciHandle
from devagent.model.pci import is_vfio
from devagent.model.plan import Plan, Step
from devagent.model.preparation import Preparation, Refusal
from devagent.prepare.functions import busy, reset_methods
from devagent.prepare.images import blank_step, programmer
from devagent.prepare.lock_keys import lock_keys
from devagent.prepare.refused import Refused, retry
from devagent.prepare.treatment import Reset, Treatment
from devagent.prepare.verbs import inverse
from devagent.prepare.view import View

_MADE: Final = ("set_vgpu_type", "create_mdev", "create_mig")
_SERIAL: Final = re.compile("[A-Za-z0-9][A-Za-z0-9 _.:+-]{0,19}")
"""What the privileged process takes for one; hardly any drive has another."""
# VFs that have been on a VFIO driver since before devagent knew them.
_VF_DRIVERS: Final = {Kind.NVME: ("nvme",)}


def release(preparation: Preparation, view: View) -> Plan | Refusal:
    """Plans the end of a preparation from what `view` shows now; refuses while a process has a device open.

    What is gone, or is as it was already, gets no step; but what is gone and is to be wiped is refused, since it may
    come back. Nobody has had the devices before all handles were there: until then there is nothing to reset or wipe.
    """
    try:
        return _release(_Work(preparation, view))
    except Refused as refused:
        return refused.refusal


@dataclass(slots=True)
class _Work:
    """A release while it is planned; `drivers` is, by address, who will be bound after the steps so far."""

    preparation: Preparation
    view: View
    drivers: dict[str, str | None] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.drivers = {address: part.driver for address, (_, part) in self.view.parts.items()}

    def done(self, *verbs: str) -> Iterator[Step]:
        """Gives the steps that take back what was done, last first, with what each found at the time."""
        for number in sorted(self.preparation.done, reverse=True):
            step = self.preparation.plan.steps[number]
            found = self.preparation.found.get(number, {})
            back = inverse(replace(step, undo={**step.undo, **found} if step.undo is not None else None))
            if back is not None and step.verb in verbs and step.target in self.view.parts:
                yield replace(back, undo=None)

    def treatment(self, handle: Handle) -> Treatment:
        device, _ = self.view.parts[handle.function]
        return self.view.treatments.get(handle.provider) or Treatment.usual(device.decision.mode)

    def passed(self) -> list[PciHandle]:
        """Gives the functions that a guest had to itself: not NVIDIA's VFs, which its driver cleans with the vGPU."""
        steps = self.preparation.plan.steps
        vgpus = {steps[number].target for number in self.preparation.done if steps[number].verb == "set_vgpu_type"}
        handles = (each for each in self.preparation.handles if isinstance(each, PciHandle))
        return [each for each in handles if each.address in self.view.parts and each.address not in vgpus]

    def bind(self, address: str, driver: str | None, **override: str | None) -> None:
        if self.drivers[address] != driver:
            self.steps.append(Step("bind", address, {"driver": driver, **override}))
            self.drivers[address] = driver


def _release(work: _Work) -> Plan:
    for handle in work.preparation.handles:
        _nobody_uses(work, handle)
    for handle in work.preparation.handles:
        _is_there(work, handle)
    work.steps += [back for back in work.done(*_MADE) if not _is_gone(work, back)]
    for handle in work.passed():
        _reset(work, handle)
    work.steps += list(work.done("set_vf_attributes"))
    kept = {handle.address for handle in work.passed() if work.treatment(handle).keep}
    for back in work.done("bind"):
        if back.target not in kept:
            work.bind(back.target, **{name: _name(value) for name, value in back.arguments.items()})
    for handle in work.passed():
        _wipe(work, handle)
    touched = {step.target for step in work.steps} | {handle.function for handle in work.preparation.handles}
    return Plan(work.preparation.consumer, tuple(work.steps), (), lock_keys(work.view, touched))


def _name(value: str | int | None) -> str | None:
    return str(value) if value is not None else None


def _nobody_uses(work: _Work, handle: Handle) -> None:
    """Raises Refused while a process has it open: whatever is done to it would hang until that ends."""
    device, part = work.view.parts.get(handle.function, (None, None))
    if device is None or part is None:
        return
    users = device.users if part.index is None else dict(device.vf_users).get(part.index, ())
    if not isinstance(handle, PciHandle):  # others have their own parts of the same function
        users = tuple(user for user in users if user.instance == work.preparation.consumer)
    if users:
        raise Refused(busy(handle.function, users))


def _is_there(work: _Work, handle: Handle) -> None:
    """Raises Refused for what is to be wiped and is not there: it may come back with all that its consumer left.

    On its own driver a device that said who it is does so again; on VFIO's none can.
    """
    if handle.function not in work.view.parts and handle.provider in work.preparation.plan.wipes:
        raise Refused(retry(_absence(work, handle), handle.function))
    device, _ = work.view.parts.get(handle.function, (None, None))
    before = work.preparation.plan.told.get(handle.provider)
    if device is None or not before or handle.provider not in work.preparation.plan.wipes:
        return
    driver = device.function.driver
    if driver is not None and not is_vfio(driver) and agrees(before, told(device)) is None:
        known = ", ".join(f"{source} {value}" for source, value in before.items())
        reason = f"{handle.function} does not say now whether it is what was given ({known}), so it is not wiped"
        raise Refused(retry(f"{reason}: see `devagent status` and dmesg", handle.function))


def _absence(work: _Work, handle: Handle) -> str:
    name = work.preparation.plan.devices.get(handle.provider)
    what = handle.function if name is None else f"{handle.function} ({name})"
    forget = f"say `devagent preparations forget {work.preparation.consumer}`"
    card = next((each.address for each in work.view.cards.values() if each.key == name), None)
    if card is not None:
        where = f"is not there, its card is at {card}"
        return f"{what} {where}, so it cannot be wiped: make that card's VFs as they were there, or {forget}"
    where = "is not there" + (", another device is in its place" if handle.function in work.view.replaced else "")
    return f"{what} {where}, so it cannot be wiped: put it back, or {forget} if it is destroyed"


def _is_gone(work: _Work, back: Step) -> bool:
    """Tells whether the look shows that what is to be taken back is not there any more; the unread may be.

    Of a MIG instance it never tells that: who may not see instances is told that there are none.
    """
    device, part = work.view.parts[back.target]
    claim = device.claim
    if back.verb == "set_vgpu_type":
        return device.function.attributes.get(f"virtfn{part.index}/nvidia/current_vgpu_type") == "0"
    if back.verb == "remove_mdev":
        return claim.mdev is not None and back.arguments["uuid"] not in dict(claim.mdev.devices)
    return False


def _reset(work: _Work, handle: PciHandle) -> None:
    device, part = work.view.parts[handle.address]
    if part.driver is not None and not is_vfio(part.driver):
        return  # as after a boot: many drivers lose a device that is reset below them
    if work.treatment(handle).reset is not Reset.NEVER and reset_methods(device, part.index):
        work.steps.append(Step("reset", handle.address, {"method": None}))


def _wipe(work: _Work, handle: PciHandle) -> None:
    """Wipes by policy, under the function's own driver; afterwards it is on the driver that it was to be on."""
    treatment = work.treatment(handle)
    if treatment.scrub is None:
        return
    device, part = work.view.parts[handle.address]
    card = programmer(work.view, device)
    place = handle.address if treatment.blank is None else card.address
    after = work.drivers[place]
    work.bind(place, _own_driver(work, device, place))
    if treatment.blank is None:
        serial = work.preparation.plan.told.get(handle.provider, {}).get("nvme", "") if part.index is None else ""
        said = {"serial": serial} if _SERIAL.fullmatch(serial) else {}
        work.steps.append(Step("scrub", place, {"how": treatment.scrub.value, **said}))
    else:
        work.steps.append(blank_step(work.view, card, device, part, treatment.blank))
    work.bind(place, after)


def _own_driver(work: _Work, device: Device, address: str) -> str | None:
    """Gives a driver that is not VFIO's: the one it has, else one it had, else one made for it, else what it has."""
    had = (back.arguments["driver"] for back in work.done("bind") if back.target == address)
    made = device.function.drivers if address == device.address else _VF_DRIVERS.get(device.claim.kind, ())
    for driver in (work.drivers[address], *had, *made):
        if isinstance(driver, str) and not is_vfio(driver):
            return driver
    return work.drivers[address]
