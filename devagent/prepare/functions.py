# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Finds the functions of a device that are free, and says of each other one why it is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from devagent.model.claim import Mode
from devagent.model.device import Device
from devagent.model.health import State
from devagent.model.pci import is_vfio
from devagent.model.plan import Group
from devagent.model.preparation import Holder, Holdings, Refusal
from devagent.model.user import User
from devagent.prepare.refused import Refused, invalid, permanent, retry, shortage
from devagent.prepare.treatment import Reset, Treatment
from devagent.prepare.view import Part, View, functions

VFIO: Final = "vfio-pci"

# Below a VF of the device: virtfn0/nvidia/current_vgpu_type.
_FOLDERS: Final = ("mdev_supported_types", "nvidia")


@dataclass(slots=True)
class Desk:
    """What a plan has before it: the host, who holds what, and what the plan itself has `taken` so far.

    `promised` counts by device and type what it will make of devices that make several; `mdevs` are the
    mediated devices that consumers hold, by parent.
    """

    view: View
    holdings: Holdings
    taken: set[str] = field(default_factory=set)
    promised: Counter[tuple[str, str]] = field(default_factory=Counter)
    mdevs: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Sorts the mediated devices that consumers hold by the functions that they are parts of."""
        for uuid, parent in self.holdings.parents.items():
            self.mdevs.setdefault(parent, []).append(uuid)


@dataclass(frozen=True, slots=True)
class Ask:
    """One group of a request, with the device of its provider and how that is treated."""

    group: Group
    device: Device
    treatment: Treatment


def parts(device: Device, mode: Mode) -> tuple[Part, ...]:
    """Gives the functions that can be given, or be made parts of: the device itself, or its VFs."""
    itself = mode is Mode.WHOLE or (mode.is_made and not _parents_are_vfs(device))
    return tuple(part for part in functions(device) if (part.index is None) == itself)


def _parents_are_vfs(device: Device) -> bool:
    """An NVIDIA GPU since Ampere makes vGPUs on its VFs only; older ones, and others, on themselves."""
    return any(f"/{folder}/" in path for path in device.function.attributes for folder in _FOLDERS)


def wanted_driver(device: Device, treatment: Treatment, part: Part) -> str | None:
    """Gives the VFIO driver for a part: the policy's, else the one it is on, else what the kernel offers."""
    if treatment.driver is not None:
        return treatment.driver
    if is_vfio(part.driver):
        return part.driver
    return device.function.vfio_driver if part.index is None else device.function.vf_vfio_driver


def choose(
    desk: Desk, ask: Ask, count: int, fits: Callable[[Part], Refusal | None], *, shared: bool = False
) -> list[Part]:
    """Gives `count` free parts and marks them taken; raises Refused if there are not that many.

    Those come first that need no other driver, then those that have been free for longest, then the lowest.
    `fits` says what else speaks against a part. With `shared`, other consumers may hold parts of the same one.
    """
    free, obstacles = [], []
    for part in _asked(ask, desk):
        obstacle = (
            _device_obstacle(ask)
            or _unwiped(desk, ask.device)
            or _obstacle(desk, ask, part, shared=shared)
            or fits(part)
        )
        if obstacle is None:
            free.append(part)
        else:
            obstacles.append(obstacle)
    if len(free) < count:
        raise Refused(shortage(count, len(free), _name(ask.device), obstacles))
    chosen = sorted(free, key=lambda part: _disturbance(desk, ask, part))[:count]
    if not shared:
        desk.taken.update(part.address for part in chosen)
    return chosen


def _name(device: Device) -> str:
    return f"{device.claim.vendor} {device.claim.model} {device.address}"


def _asked(ask: Ask, desk: Desk) -> Iterator[Part]:
    """Gives the parts to choose from; what the plan has taken is none of them, but an error to ask for by name."""
    found = parts(ask.device, ask.treatment.mode)
    address = ask.group.address
    if address is not None:
        found = tuple(part for part in found if part.address == address)
        if not found:
            raise Refused(permanent(f"{address} is no function of {_name(ask.device)} that could be given", address))
        if address in desk.taken:
            raise Refused(invalid(f"{address} is asked for twice", address))
    if not found:
        raise Refused(permanent(f"{_name(ask.device)} has no VFs: make some first", ask.device.address))
    return (part for part in found if part.address not in desk.taken)


def _disturbance(desk: Desk, ask: Ask, part: Part) -> tuple[bool, float]:
    rebind = not ask.treatment.mode.is_made and part.driver != wanted_driver(ask.device, ask.treatment, part)
    return rebind, desk.holdings.released.get(part.address, float("-inf"))


def _device_obstacle(ask: Ask) -> Refusal | None:
    device = ask.device
    if device.health.state in (State.UNHEALTHY, State.LOST):
        why = "; ".join(device.health.reasons) or "nothing says why"
        return permanent(f"{_name(device)} is {device.health.state}: {why}", device.address)
    return None


def _unwiped(desk: Desk, device: Device) -> Refusal | None:
    """A device that left the place where it was given has all that its consumer left, wherever it is now."""
    here = {part.address for part in functions(device)}
    for address, consumer in sorted(desk.holdings.unwiped.get(device.key, {}).items()):
        if address not in here or desk.holdings.consumers.get(address) != consumer:
            reason = f"{device.address} was given to consumer {consumer} as {address}, and is not wiped since"
            return retry(f"{reason}: see `devagent preparations show {consumer}`", device.address, [Holder(consumer)])
    return None


def _obstacle(desk: Desk, ask: Ask, part: Part, *, shared: bool) -> Refusal | None:
    whole = not ask.treatment.mode.is_made
    return (
        _never(desk, ask, part)
        or (_unfit(desk.view, ask, part) if whole else None)
        or _held(desk, ask.device, part, shared=shared)
        or (_changed(desk.view, part) if whole else None)
        or _used(ask.device, part, shared=shared)
    )


def _never(desk: Desk, ask: Ask, part: Part) -> Refusal | None:
    """Says what does not change by waiting."""
    device, address = ask.device, part.address
    for place in (address, device.address):
        if place in desk.holdings.stuck:
            return permanent(f"{place} is stuck: {desk.holdings.stuck[place]}", place)
    if address in desk.view.vetoes:
        return permanent(f"{address} {desk.view.vetoes[address]}", address)
    if part.index is not None and ask.treatment.vf_indexes is not None and part.index not in ask.treatment.vf_indexes:
        return permanent(f"VF {part.index} of {device.address} stays with the host by policy", address)
    use = device.in_use_by if part.index is None else dict(device.vf_use).get(part.index)
    if use:
        return permanent(f"{address} is used by the host: {use}", address)
    if ask.treatment.mode is Mode.WHOLE and device.vfs:
        return permanent(f"{address} has {len(device.vfs)} VFs: it can be given whole only without any", address)
    return None


def group_obstacle(view: View, device: Device, part: Part) -> Refusal | None:
    """Says what else is in the part's IOMMU group: that is the unit of isolation, and goes to one guest or to none.

    A function of the same slot that is no device by itself, such as a GPU's audio, may be in it.
    """
    if part.iommu_group is None:
        return permanent(f"{part.address} is in no IOMMU group: the host's IOMMU is off", part.address)
    slot, others = device.function.slot, view.companions(part)
    foreign = [each.address for each in others if each.device or each.address.rpartition(".")[0] != slot]
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        reason = f"{part.address} shares IOMMU group {part.iommu_group} with {foreign[0]}{more}"
        return permanent(reason, part.address)
    return None


def _unfit(view: View, ask: Ask, part: Part) -> Refusal | None:
    """Says why a function cannot be passed to a guest as it is."""
    obstacle = group_obstacle(view, ask.device, part)
    if obstacle is None and wanted_driver(ask.device, ask.treatment, part) is None:
        return permanent(f"{part.address} has no VFIO driver: load vfio-pci", part.address)
    if obstacle is None and ask.treatment.reset is Reset.REQUIRED and not reset_methods(ask.device, part.index):
        return permanent(f"{part.address} cannot be reset, which the policy requires", part.address)
    return obstacle


def reset_methods(device: Device, index: int | None) -> tuple[str, ...]:
    """Gives how the kernel can reset the device itself, whose `index` is None, or its VFs."""
    return device.function.reset_methods if index is None else device.function.vf_reset_methods


def _held(desk: Desk, device: Device, part: Part, *, shared: bool) -> Refusal | None:
    """A function is held itself, with the device that it is a VF of, or by those who have mediated devices of it."""
    mdevs = () if shared else desk.mdevs.get(part.address, ())
    consumers = desk.holdings.consumers
    for key in (part.address, device.address, *mdevs):
        if key in consumers:
            reason = f"{part.address} is held by consumer {consumers[key]}"
            return retry(reason, part.address, [Holder(consumers[key])])
    return None


def _changed(view: View, part: Part) -> Refusal | None:
    """Whose driver was changed since the look would be taken for one that has the wanted driver already, or has not."""
    if part.address in view.stale:
        return retry(f"{part.address} was changed since it was looked at", part.address)
    return None


def _used(device: Device, part: Part, *, shared: bool) -> Refusal | None:
    """A mediated device's process has its own node open, never its parent's."""
    users = device.users if part.index is None else dict(device.vf_users).get(part.index, ())
    if not users or shared:
        return None
    return busy(part.address, users)


def busy(address: str, users: tuple[User, ...]) -> Refusal:
    """Says which processes have a function open."""
    holders = [Holder(user.instance, user.pid, user.command) for user in users]
    return retry(f"{address} is in use by {', '.join(map(str, users))}", address, holders)
