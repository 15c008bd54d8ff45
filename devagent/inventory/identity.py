# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Settles what identifies each device, and keeps it: an identity, once given, stays with its device.

What the vendor made immutable is best, then PCIe's serial number, then the one of the vital product data,
then the place in the PCIe tree. But a GPU on vfio-pci tells no UUID, and a newer kernel tells more: so
what an earlier look settled on stays, as long as the device is found again, by anything that it tells.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from devagent.model.claim import Claim
from devagent.model.device import Device
from devagent.model.gpu import GpuFacts
from devagent.model.identity import Identity
from devagent.model.known import Known
from devagent.model.pci import Function
from devagent.model.snapshot import Problem, Snapshot

SOURCE: Final = "identity"
# What is away may come back; but a state file does not grow for ever.
_MOST_KNOWN: Final = 1024


@dataclass(frozen=True, slots=True)
class Settled:
    """The identity of each claimed device by address, what the next look should know, and duplicates.

    The `claims` have what an earlier look knew of a GPU that tells nothing now.
    """

    identities: Mapping[str, Identity]
    claims: Mapping[str, Claim]
    known: tuple[Known, ...]
    problems: tuple[Problem, ...]


def settle(snapshot: Snapshot, claims: Mapping[str, Claim]) -> Settled:
    """Finds each claimed device among those of earlier looks, and gives the new ones an identity."""
    functions = [snapshot.functions[address] for address in claims]
    told = {each.address: dict(_told(each, claims[each.address])) for each in functions}
    found = _recognised(functions, told, snapshot.known)
    identities = {
        each.address: found[each.address].identity if each.address in found else first(each, claims[each.address])
        for each in functions
    }
    identities, problems = _told_apart(functions, identities, found)
    filled = {address: _filled(claim, found.get(address)) for address, claim in claims.items()}
    known = [
        _known(each, identities[each.address], told[each.address], found.get(each.address), filled[each.address])
        for each in functions
    ]
    away = [each for each in snapshot.known if not any(each is one for one in found.values())]
    return Settled(identities, filled, tuple([*known, *away][:_MOST_KNOWN]), tuple(problems))


def first(function: Function, claim: Claim | None = None) -> Identity:
    """Gives the strongest identity that the device tells now."""
    told = next(iter(_told(function, claim)), None)
    if told is not None:
        return Identity(*told)
    if function.topology is not None:
        return Identity("topology", function.topology)
    return Identity("address", function.address)


def _told(function: Function, claim: Claim | None) -> Iterator[tuple[str, str]]:
    """Gives what identifies the device by source, strongest first, but for its place."""
    for identity in claim.identities if claim else ():
        yield identity.source, identity.value
    # All functions of a card have the same serial number.
    number = function.address.rpartition(".")[2]
    for source in ("dsn", "vpd"):
        value = function.attributes.get(f"serials/{source}")
        if value:
            yield source, f"{value}/{number}"


def told(device: Device) -> dict[str, str]:
    """Gives what identifies a device as it was looked at, by source, strongest first; nothing of its place.

    An NVMe drive that no driver claims has its serial number here, too, where the look has read that.
    """
    found = dict(_told(device.function, device.claim))
    for path, text in device.function.attributes.items():
        if re.fullmatch("nvme/nvme[0-9]+/serial", path) and text.strip().strip("0"):
            found.setdefault("nvme", text.strip())
    return found


def agrees(before: Mapping[str, str], now: Mapping[str, str]) -> bool | None:
    """Tells whether the strongest of `now` that `before` has too is the same; None if they have nothing in common.

    A weaker one may be equal by chance: cards whose vendor did not number them.
    """
    return next((before[source] == value for source, value in now.items() if source in before), None)


def _ids(function: Function) -> str:
    subsystem = (function.subsystem_vendor_id or "", function.subsystem_device_id or "")
    return ":".join((function.vendor_id, function.device_id, *subsystem))


def _recognised(
    functions: list[Function], told: Mapping[str, Mapping[str, str]], known: tuple[Known, ...]
) -> dict[str, Known]:
    """Finds the devices of earlier looks: by what a device tells, then by its place if nothing tells otherwise."""
    found: dict[str, Known] = {}
    left = list(known)
    for same in (_is_both, _tells_the_same, _is_in_its_place):
        for function in functions:
            if function.address in found:
                continue
            match = next((each for each in left if same(each, function, told[function.address])), None)
            if match is not None:
                found[function.address] = match
                left = [each for each in left if each is not match]
    return found


def _is_both(known: Known, function: Function, told: Mapping[str, str]) -> bool:
    """Two cards with one serial number are told apart by their places, as long as they stay there."""
    return _tells_the_same(known, function, told) and _is_in_its_place(known, function, told)


def _tells_the_same(known: Known, function: Function, told: Mapping[str, str]) -> bool:
    return known.ids == _ids(function) and agrees(known.others, told) is True


def _is_in_its_place(known: Known, function: Function, told: Mapping[str, str]) -> bool:
    same = known.ids == _ids(function) and known.topology == function.topology
    return same and agrees(known.others, told) is not False


def _told_apart(
    functions: list[Function], identities: dict[str, Identity], found: Mapping[str, Known]
) -> tuple[dict[str, Identity], list[Problem]]:
    """Adds its place to the identity of each device but one that was known; some vendors ship duplicates.

    What that gives may be the identity of another, which was told apart where this one is now: then once more.
    """
    apart, problems = dict(identities), []
    while twins := _twins(functions, apart):
        for same in twins:
            places = Counter(each.topology for each in same)
            known = (each for each in same if each.address in found)
            kept = next((each for each in known if apart[each.address] == identities[each.address]), None)
            for function in same:
                if function is kept:
                    continue
                identity, place = apart[function.address], function.topology
                if place is None or places[place] > 1:
                    place = function.address  # a card that is moved during the look may show itself twice in one place
                others = ", ".join(each.address for each in same if each is not function)
                text = f"has the same {identity.source} {identity.value} as {others}; told apart by its place"
                problems.append(Problem(SOURCE, function.address, text))
                apart[function.address] = Identity(identity.source, f"{identity.value}@{place}")
    return apart, problems


def _twins(functions: list[Function], identities: Mapping[str, Identity]) -> list[list[Function]]:
    """Gives those that are of one model and have one identity."""
    owners: dict[tuple[str, str, Identity], list[Function]] = {}
    for function in functions:
        key = (function.vendor_id, function.device_id, identities[function.address])
        owners.setdefault(key, []).append(function)
    return [same for same in owners.values() if len(same) > 1]


def _filled(claim: Claim, known: Known | None) -> Claim:
    """Gives the claim with what was known of a GPU before its driver was taken from it."""
    if known is None or known.gpu is None or claim.gpu is None:
        return claim
    now, before = claim.gpu, known.gpu
    gpu = replace(
        now,
        uuid=now.uuid or before.uuid,
        serial=now.serial or before.serial,
        memory_mib=now.memory_mib if now.memory_mib is not None else before.memory_mib,
    )
    return replace(claim, gpu=gpu)


def _known(
    function: Function, identity: Identity, told: Mapping[str, str], before: Known | None, claim: Claim
) -> Known:
    others = {**(before.others if before else {}), **told}
    gpu = claim.gpu
    return Known(
        ids=_ids(function),
        topology=function.topology or (before.topology if before else function.address),
        identity=identity,
        others=others,
        gpu=GpuFacts(uuid=gpu.uuid, serial=gpu.serial, memory_mib=gpu.memory_mib) if gpu else None,
    )
