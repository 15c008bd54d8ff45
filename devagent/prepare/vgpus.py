# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Plans parts of a device that are made when asked for: mediated devices and NVIDIA's vGPUs, with MIG below them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Final

from devagent.model.claim import MdevType
from devagent.model.gpu import GpuFacts, MigProfile, VgpuFacts, VgpuType
from devagent.model.handle import Handle, MdevHandle, PciHandle
from devagent.model.mig import backing, profile_of
from devagent.model.plan import Step
from devagent.model.preparation import Holder, Refusal
from devagent.model.vgpu import creatable
from devagent.prepare.functions import Ask, Desk, choose, group_obstacle, parts
from devagent.prepare.refused import Refused, invalid, permanent, retry
from devagent.prepare.view import Part

NAMES: Final = ("vgpu_type", "mdev_type", "mig_profile")

_NAMESPACE: Final = uuid.UUID("0d1c4be5-6f0a-5b0e-a8a5-2f1f3c7be0d4")


_Types = tuple[VgpuType, ...] | tuple[MdevType, ...]


def vgpus(desk: Desk, ask: Ask, resource_class: str, count: int, consumer: str) -> tuple[list[Step], list[Handle]]:
    """Gives steps and handles for `count` parts of a device; raises Refused where they cannot be made."""
    gpu = ask.device.claim.gpu or GpuFacts()
    profile = _profile(desk, ask, _profile_name(ask, resource_class, gpu), count)
    numbered = gpu.vgpu if gpu.vgpu and gpu.vgpu.framework == "vfio" else None
    if numbered is None and ask.device.claim.mdev is None:
        reason = f"{ask.device.address} carries no virtual devices now: an NVIDIA GPU needs its VFs first"
        raise Refused(permanent(reason, ask.device.address))
    instances = [_mig_step(ask, profile) for _ in range(count)] if profile else []
    if numbered is not None:
        steps, handles = _by_number(desk, ask, resource_class, count, numbered, profile)
    else:
        steps, handles = _mdevs(desk, ask, resource_class, count, consumer, profile)
    return [*instances, *steps], handles


def _by_number(
    desk: Desk, ask: Ask, resource_class: str, count: int, facts: VgpuFacts, profile: MigProfile | None
) -> tuple[list[Step], list[Handle]]:
    """Plans vGPUs on VFs that stay with NVIDIA's driver, which is their VFIO driver too."""
    wanted = _type(ask, resource_class, facts.types, profile)
    if profile is None:  # of a GPU instance that is yet to be made, nothing is available yet
        _room(desk, ask, wanted, count)
    found = choose(desk, ask, count, lambda part: _vf_obstacle(desk, ask, part, wanted, fresh=profile is not None))
    steps = [Step("set_vgpu_type", part.address, {"type": int(wanted.id)}, {"type": 0}) for part in found]
    return steps, [PciHandle(ask.group.provider, resource_class, part.address) for part in found]


def _vf_obstacle(desk: Desk, ask: Ask, part: Part, wanted: VgpuType | MdevType, *, fresh: bool) -> Refusal | None:
    files = ask.device.function.attributes
    current = files.get(f"virtfn{part.index}/nvidia/current_vgpu_type")
    if current is None:
        return permanent(f"{part.address} does not say which vGPU it carries", part.address)
    if current != "0":
        return retry(f"{part.address} carries a vGPU of type {current} that no consumer holds", part.address)
    if not fresh and wanted.id not in creatable(files.get(f"virtfn{part.index}/nvidia/creatable_vgpu_types", "")):
        return retry(f"{part.address} has no room for a vGPU {wanted.name} now", part.address, _neighbours(desk, ask))
    return group_obstacle(desk.view, ask.device, part)


def _mdevs(
    desk: Desk, ask: Ask, resource_class: str, count: int, consumer: str, profile: MigProfile | None
) -> tuple[list[Step], list[Handle]]:
    """Plans mediated devices: on VFs one each, on a function that is a parent itself as many as it makes."""
    facts = ask.device.claim.mdev
    wanted = _type(ask, resource_class, facts.types if facts else (), profile)
    if profile is None:
        _room(desk, ask, wanted, count)
    itself = any(part.index is None for part in parts(ask.device, ask.treatment.mode))
    each = count if itself else 1
    found = choose(
        desk, ask, count // each, lambda part: _parent_obstacle(desk, ask, part, wanted, profile), shared=itself
    )
    handles: list[Handle] = [
        MdevHandle(ask.group.provider, resource_class, _uuid(desk, consumer), part.address, wanted.id)
        for part in found
        for _ in range(each)
    ]
    steps = []
    for handle in handles:
        arguments = {"type": wanted.id, "uuid": handle.key}
        steps.append(Step("create_mdev", handle.function, arguments, arguments))
    return steps, handles


def _parent_obstacle(
    desk: Desk, ask: Ask, part: Part, wanted: VgpuType | MdevType, profile: MigProfile | None
) -> Refusal | None:
    """Says why one VF cannot become the parent of a mediated device of this type now."""
    if part.index is None or profile is not None:
        return None
    folder = f"virtfn{part.index}/mdev_supported_types/{wanted.id}"
    if ask.device.function.attributes.get(f"{folder}/available_instances") in ("0", None):
        reason = f"{part.address} has no room for a {wanted.name} now"
        return retry(reason, part.address, _neighbours(desk, ask))
    return None


def _room(desk: Desk, ask: Ask, wanted: VgpuType | MdevType, count: int) -> None:
    """Bounds what is planned by what the device as a whole has room for, less what is promised but not yet made."""
    address, key = ask.device.address, (ask.device.address, wanted.id)
    if isinstance(wanted, VgpuType) and wanted.total is not None and count > wanted.total:
        raise Refused(
            permanent(f"{address} never has more than {wanted.total} {wanted.name}, {count} asked for", address)
        )
    if wanted.available is not None:
        left = max(0, wanted.available - desk.promised[key] - _unmade(desk, ask))
        if count > left:
            reason = f"{address} has room for {left} more {wanted.name}, {count} asked for"
            raise Refused(retry(reason, address, _neighbours(desk, ask)))
    desk.promised[key] += count


def _unmade(desk: Desk, ask: Ask) -> int:
    """Counts what consumers hold of the device that the look does not show yet."""
    device, files = ask.device, ask.device.function.attributes
    made = {uid for uid, _ in device.claim.mdev.devices} if device.claim.mdev else set()
    mdevs = sum(uid not in made for place in device.addresses for uid in desk.mdevs.get(place, ()))
    bare = (vf for vf in device.vfs if files.get(f"virtfn{vf.index}/nvidia/current_vgpu_type") == "0")
    return mdevs + sum(vf.address in desk.holdings.consumers for vf in bare)


def _neighbours(desk: Desk, ask: Ask) -> Iterable[Holder]:
    """Gives the consumers that have something of the same device, in a lasting order."""
    places = ask.device.addresses
    keys = (*places, *(uid for place in places for uid in desk.mdevs.get(place, ())))
    found = {desk.holdings.consumers[key] for key in keys if key in desk.holdings.consumers}
    return [Holder(consumer) for consumer in sorted(found)]


def _type(ask: Ask, resource_class: str, types: _Types, profile: MigProfile | None) -> VgpuType | MdevType:
    """Gives the type that the class stands for or the consumer names, by name or by the kernel's id."""
    address, fixed = ask.device.address, ask.treatment.types.get(resource_class)
    properties = ask.group.properties
    asked = properties.get("vgpu_type", properties.get("mdev_type"))
    if fixed is not None and asked is not None and asked != fixed:
        raise Refused(invalid(f"{resource_class} is {fixed!r}: it cannot be {asked!r}", address))
    fitting = [each for each in types if profile is None or _is_of(each.name, profile.name, any_series=asked or fixed)]
    name = asked or fixed
    found = [each for each in fitting if name in (each.name, each.id)] if name or not profile else fitting
    if len(found) == 1:
        return found[0]
    known = ", ".join(sorted(each.name for each in fitting)) or "none"
    if name is None:
        raise Refused(invalid(f"which type of {address} is not said: it has {known}", address))
    raise Refused(permanent(f"{address} has no type {name!r}: it has {known}", address))


def _is_of(name: str, profile: str, *, any_series: object) -> bool:
    """Tells whether a vGPU's type is of a MIG profile: `NVIDIA H100-1-10C` of `1g.10gb`, its `CME` of `1g.10gb+me`.

    C is the series for computing, taken where no type is asked for; Q, A and B are of the same profile.
    """
    return profile_of(name) == profile and (bool(any_series) or name.removesuffix("ME").endswith("C"))


def _profile_name(ask: Ask, resource_class: str, gpu: GpuFacts) -> str | None:
    """Gives the MIG profile that is asked for, or that the type needs of which no instance is ready."""
    properties = ask.group.properties
    asked = ask.treatment.types.get(resource_class) or properties.get("vgpu_type") or properties.get("mdev_type")
    types = gpu.vgpu.types if gpu.vgpu else ()
    implied = [each for each in types if asked in (each.name, each.id) and backing(each.name, gpu.mig)]
    if "mig_profile" in properties or len(implied) != 1 or _is_ready(ask, implied[0]):
        return properties.get("mig_profile")
    return profile_of(implied[0].name)


def _is_ready(ask: Ask, wanted: VgpuType) -> bool:
    """Tells whether a VF could carry the type at once: somebody has made an instance for it beforehand."""
    files = ask.device.function.attributes
    tables = (text for path, text in files.items() if path.endswith("/nvidia/creatable_vgpu_types"))
    room = (text for path, text in files.items() if path.endswith(f"/{wanted.id}/available_instances"))
    return any(wanted.id in creatable(text) for text in tables) or any(text != "0" for text in room)


def _profile(desk: Desk, ask: Ask, name: str | None, count: int) -> MigProfile | None:
    """Gives the MIG profile of that name, of which `count` more fit; None without a name."""
    if name is None:
        return None
    address, mig = ask.device.address, ask.device.claim.gpu.mig if ask.device.claim.gpu else None
    if mig is None or not mig.enabled or not mig.pending:
        reason = f"{address} has MIG off: it must be on before the VFs are made (nvidia-smi -i {address} -mig 1)"
        raise Refused(permanent(reason, address))
    profile = next((each for each in mig.profiles if each.name == name), None)
    if profile is None:
        known = ", ".join(each.name for each in mig.profiles) or "none"
        raise Refused(permanent(f"mig_profile: {address} has no {name!r}: it has {known}", address))
    if count > profile.total:
        raise Refused(
            permanent(f"{address} never has more than {profile.total} MIG {name}, {count} asked for", address)
        )
    left = None if profile.free is None else max(0, profile.free - desk.promised[address, name])
    if left is not None and count > left:
        reason = f"{address} has room for {left} more MIG {name}, {count} asked for"
        raise Refused(retry(reason, address, _neighbours(desk, ask)))
    desk.promised[address, name] += count
    return profile


def _mig_step(ask: Ask, profile: MigProfile) -> Step:
    """Leaves the placement open: which are possible hangs on what else is there at that moment."""
    arguments = {"profile": profile.name, "placement": None}
    return Step("create_mig", ask.device.address, arguments, arguments)


def _uuid(desk: Desk, consumer: str) -> str:
    """Makes a UUID that is the same whenever the same consumer asks again, and that nothing on this host has."""
    known = {uid for card in desk.view.cards.values() if card.claim.mdev for uid, _ in card.claim.mdev.devices}
    number = 0
    while (made := str(uuid.uuid5(_NAMESPACE, f"{consumer}/{number}"))) in known | desk.taken | {
        *desk.holdings.parents
    }:
        number += 1
    desk.taken.add(made)
    return made
