# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Counts what a device has of each type of mediated device or vGPU: those that exist, and those it still has room for.

All is computed from what the device says now. Its types share its memory, and most devices carry types of one size at
a time: what another type keeps from being made is still a part of a class's total, but a closed one.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from devagent.model.claim import Claim, Mode
from devagent.model.device import Share
from devagent.model.gpu import MigFacts, MigProfile, VgpuType
from devagent.model.mig import backing, profile_of
from devagent.model.pci import Function
from devagent.model.policy import Rule
from devagent.model.vgpu import creatable

_FILE: Final = re.compile(r"(?:virtfn([0-9]{1,5})/)?mdev_supported_types/([^/]+)/(name|available_instances)")
_MADE: Final = re.compile(r"(?:virtfn([0-9]{1,5})/)?mdev_supported_types/([^/]+)/devices/([^/]+)/uevent")

_ID: Final = re.compile("[0-9]{1,9}")
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NUMBER: Final = re.compile("[0-9]{1,6}")
_WITHOUT: Final = frozenset({"mdev_supported_types", "nvidia", "virtfn*", "answers"})
# devagent makes UUIDs from the consumer's (RFC 9562, version 5); Nova's, mdevctl's and uuidgen's are random.
_OURS: Final = 5


@dataclass(frozen=True, slots=True)
class Place:
    """One parent: a VF, or the device itself, whose `index` is None.

    `made` holds the types that exist on it by UUID (of an mdev) or address, `room` how many more fit by type; None:
    it does not say.
    """

    index: int | None
    made: Mapping[str, str] = field(default_factory=dict)
    room: Mapping[str, int | None] | None = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Count:
    """What a rule's classes come to, with what of the rule the device has not, and what of it cannot be told."""

    shares: tuple[Share, ...]
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Stock:
    """What there is of one type: `made` exist, `room` more can be made, `most` are ever possible; None: unknown."""

    made: int
    room: int | None
    most: int | None


def unread(function: Function) -> tuple[str, ...]:
    """Gives what could not be read of the files that say what exists and what can be made."""
    return tuple(sorted(name for name in function.unread if _WITHOUT & set(name.split("/"))))


def places(function: Function, mode: Mode) -> tuple[Place, ...]:
    """Gives the parents in index order; where VFs are parents, the device itself is none."""
    found = _mdev_places(function.attributes) if mode is Mode.MDEV else _vgpu_places(function)
    vfs = [place for index, place in sorted(found.items(), key=lambda item: item[0] or 0) if index is not None]
    return tuple(vfs or found.values())


def foreign(claim: Claim, rule: Rule, chosen: Iterable[Place]) -> list[str]:
    """Gives in words what exists in the `chosen` places and that devagent has not made.

    An mdev says so by its UUID. A vGPU on a VF has nothing of the kind: devagent makes only the types of the rule.
    """
    if rule.mode is Mode.MDEV:
        return [f"mediated device {uid}" for place in chosen for uid in place.made if not _is_ours(uid)]
    known = _types(claim, Mode.VGPU)
    if any(name is None for _, name in rule.types):
        return []
    named = {id for _, name in rule.types for id in _called(name, known)}
    strange = ((place, known[id].name) for place in chosen for id in place.made.values() if id in known.keys() - named)
    return [f"{name} on VF {place.index}" for place, name in strange]


def count(claim: Claim, rule: Rule, classes: Iterable[str], chosen: Collection[Place]) -> Count:
    """Counts those of the rule's types that stand for `classes`, in the `chosen` places."""
    known = _types(claim, rule.mode or Mode.MDEV)
    mig = claim.gpu.mig if claim.gpu else None
    stocks = {id: _stock(each, chosen, mig, known) for id, each in known.items()}
    shares: list[Share] = []
    missing: list[str] = []
    named: set[str] = set()
    unknown = [
        f"what type {id} is" for id in sorted({id for place in chosen for id in place.made.values()} - set(known))
    ]
    wanted = dict(rule.types)
    for resource_class in sorted(classes, key=lambda each: wanted[each] is None):
        name = wanted[resource_class]
        ids = known.keys() - named if name is None else _called(name, known)
        if not ids or (name is not None and (len(ids) > 1 or ids & named)):
            missing.append(f"{resource_class}: {_wanting(name, len(ids), known)}")
            continue
        stock = _together(stocks, ids) if name is None else stocks[next(iter(ids))]
        named |= ids
        if stock.room is None:
            unknown.append(f"how many more {resource_class} it has room for")
        else:
            shares.append(_share(resource_class, stock.made + stock.room, stock.most))
    return Count(tuple(shares), tuple(missing), tuple(unknown))


def _share(resource_class: str, possible: int, most: int | None) -> Share:
    total = max(possible, most or 0)
    return Share(resource_class, total, total - possible)


def _together(stocks: Mapping[str, _Stock], ids: Collection[str]) -> _Stock:
    """Gives what there is of a class whose consumers choose: any of `ids` exists for it, and any type can be made."""
    rooms = [stock.room for stock in stocks.values()]
    known = [room for room in rooms if room is not None]
    most = [stock.most for stock in stocks.values() if stock.most is not None]
    room = max(known) if len(known) == len(rooms) else None
    return _Stock(sum(stocks[id].made for id in ids), room, max(most, default=None))


def _stock(of: VgpuType, chosen: Collection[Place], mig: MigFacts | None, types: Mapping[str, VgpuType]) -> _Stock:
    profile = backing(of.name, mig)
    if mig is not None and profile is not None:
        return _backed(of, chosen, mig, profile, types)
    rooms = [place.room.get(of.id, 0) if place.room is not None else None for place in chosen]
    known = [room for room in rooms if room is not None]
    room = sum(known) if len(known) == len(rooms) else None
    if room is not None and of.available is not None:
        room = min(room, of.available)
    most = of.total
    if most is not None and all(place.index is not None for place in chosen):  # a VF carries one
        most = min(most, len(chosen))
    return _Stock(sum(id == of.id for place in chosen for id in place.made.values()), room, most)


def _backed(
    of: VgpuType, chosen: Collection[Place], mig: MigFacts, profile: MigProfile, types: Mapping[str, VgpuType]
) -> _Stock:
    """Counts a type that a MIG instance carries, which is made with it: the driver lists it only once there is one."""
    carried = [id for place in chosen for id in place.made.values()]
    of_profile = sum(id in types and profile_of(types[id].name) == profile.name for id in carried)
    ready = sum(each.profile == profile.name for each in mig.instances) - of_profile
    empty = sum(not place.made for place in chosen)
    room = None if profile.free is None else min(empty, profile.free + max(0, ready))
    return _Stock(carried.count(of.id), room, min(len(chosen), profile.total))


def _types(claim: Claim, mode: Mode) -> dict[str, VgpuType]:
    """Gives the types by id, with NVML's numbers where the device is a GPU."""
    vgpu = claim.gpu.vgpu if claim.gpu else None
    if vgpu is not None and vgpu.framework == ("mdev" if mode is Mode.MDEV else "vfio"):
        return {each.id: each for each in vgpu.types}
    types = claim.mdev.types if claim.mdev and mode is Mode.MDEV else ()
    return {each.id: VgpuType(each.name, each.id, available=each.available) for each in types}


def _called(name: str | None, known: Mapping[str, VgpuType]) -> set[str]:
    return {each.id for each in known.values() if name in (each.name, each.id)}


def _wanting(name: str | None, found: int, known: Mapping[str, VgpuType]) -> str:
    if found > 1:
        return f"{name!r} is the name of {found} types; write an id"
    if found:
        return f"{name!r} stands for another class already"
    have = ", ".join(sorted(each.name for each in known.values())) or "none"
    return f"the device has no type {name!r} now (it has {have})" if name else "the device has no types now"


def _is_ours(uid: str) -> bool:
    return uuid.UUID(uid).version == _OURS


def _mdev_places(attributes: Mapping[str, str]) -> dict[int | None, Place]:
    made: dict[int | None, dict[str, str]] = {}
    rooms: dict[int | None, dict[str, int | None]] = {}
    for place, type, file, text in _mdev_files(attributes):
        room = rooms.setdefault(place, {})
        if file == "name":
            room.setdefault(type, None)
        elif file == "available_instances":
            room[type] = int(text) if _NUMBER.fullmatch(text) else None
        else:
            made.setdefault(place, {})[file] = type
    return {place: Place(place, made.get(place, {}), room) for place, room in rooms.items()}


def _mdev_files(attributes: Mapping[str, str]) -> Iterator[tuple[int | None, str, str, str]]:
    """Gives parent, type, file (or the UUID of a device) and text of each file about mediated devices."""
    for path, text in attributes.items():
        match = _FILE.fullmatch(path) or _MADE.fullmatch(path)
        if match is not None and (match.re is _FILE or _UUID.fullmatch(match[3])):
            yield int(match[1]) if match[1] else None, match[2], match[3], text


def _vgpu_places(function: Function) -> dict[int | None, Place]:
    """Gives the VFs that say which vGPU they carry; a VF that carries one has no room for another."""
    found: dict[int | None, Place] = {}
    files = function.attributes
    for vf in function.vfs:
        folder = f"virtfn{vf.index}/nvidia"
        current, table = files.get(f"{folder}/current_vgpu_type"), files.get(f"{folder}/creatable_vgpu_types")
        if current is None or not _ID.fullmatch(current):
            continue
        if int(current):
            found[vf.index] = Place(vf.index, {vf.address: current})
        elif table is None:
            found[vf.index] = Place(vf.index, room=None)
        else:
            found[vf.index] = Place(vf.index, room=dict.fromkeys(creatable(table), 1))
    return found
