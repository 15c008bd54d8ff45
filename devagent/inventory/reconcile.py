# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Compares who has devices in Placement with who has them open, and says what does not fit. It never acts.

What a cycle finds counts only once the next finds it too: between an allocation and the start of its
virtual machine, or between its end and the release, things are apart for a while and nothing is wrong.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from devagent.inventory.build import device_uuid
from devagent.inventory.coexistence import address_of
from devagent.model.claim import Mode
from devagent.model.device import Device
from devagent.model.health import State
from devagent.model.policy import Policy
from devagent.model.provider import Provider, ProviderTree
from devagent.model.user import User

Key = tuple[str, "Kind", str]
"""Address, kind, and what tells several of a kind apart."""

Holding = Mapping[str, Mapping[str, int]]
"""What consumers hold of one provider: amounts by the consumer's UUID and the resource class."""

_DEVICE: Final = re.compile(r":([0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7])\Z")
_NAMED: Final = 3


class Kind(enum.StrEnum):
    """What does not fit."""

    UNALLOCATED = "unallocated"
    GONE = "gone"
    WITHDRAWN = "withdrawn"
    FENCED = "fenced"
    SHORT = "short"


@dataclass(frozen=True, slots=True)
class Scene:
    """What is compared: one look, the tree made of it, and the compute node's tree as Placement last listed it.

    `devices` have the health that counts; `desired` was built of them, under `policy`.
    """

    devices: tuple[Device, ...]
    desired: ProviderTree
    listed: Mapping[str, Provider]
    policy: Policy


@dataclass(frozen=True, slots=True)
class Unexplained:
    """One thing that does not fit; `what` says so in a sentence, and what to do.

    `about` tells several of a kind at one address apart (by PID or resource class); `provider` is the
    UUID of the device's provider.
    """

    address: str
    kind: Kind
    about: str
    provider: str
    what: str

    @property
    def key(self) -> Key:
        """What stays the same while only the words change."""
        return self.address, self.kind, self.about


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one cycle found; the providers `unjudged` are there, but too little is known of them now."""

    found: tuple[Unexplained, ...]
    unjudged: frozenset[str] = frozenset()


def watched(scene: Scene) -> dict[str, Provider]:
    """Gives our providers in Placement that stand, or stood, for a device, by UUID: those that can have consumers."""
    return {uuid: entry for uuid, entry in scene.listed.items() if entry.is_ours and _DEVICE.search(entry.lasting_name)}


def reconcile(scene: Scene, holdings: Mapping[str, Holding]) -> Verdict:
    """Judges each device of which it is known who holds it; `holdings` are by the provider's UUID.

    A device that is unknown now, or of which Nova or Cyborg have a provider too, is not judged.
    """
    devices = {device_uuid(scene.desired.root, device): device for device in scene.devices}
    foreign = frozenset(filter(None, map(address_of, scene.listed.values())))
    found: list[Unexplained] = []
    unjudged = set()
    for uuid, entry in watched(scene).items():
        device, holding = devices.get(uuid), holdings.get(uuid)
        if holding is None or _unknown(scene.desired, entry, device):
            unjudged.add(uuid)
        elif device is None:
            found += _gone(entry, holding)
        elif device.address not in foreign:
            found += _judge(scene, uuid, device, holding)
    return Verdict(tuple(sorted(found, key=lambda each: each.key)), frozenset(unjudged))


def held_addresses(scene: Scene, holdings: Mapping[str, Holding]) -> frozenset[str]:
    """Gives the addresses of the devices on this host that consumers have allocated, wholly or in part."""
    return frozenset(
        device.address for device in scene.devices if holdings.get(device_uuid(scene.desired.root, device))
    )


def _unknown(desired: ProviderTree, entry: Provider, device: Device | None) -> bool:
    if device is None:
        return desired.partial or entry.lasting_name in desired.kept
    return device.decision.unknown


def _judge(scene: Scene, uuid: str, device: Device, holding: Holding) -> Iterator[Unexplained]:
    wanted = scene.desired.by_uuid().get(uuid)
    if wanted is None:
        yield from _withdrawn(uuid, device, holding)
        return
    open_to_new = any(each.total > each.reserved for each in wanted.inventories.values())
    if holding and wanted.inventories and not open_to_new:
        yield _fenced(uuid, device, holding)
    offered = {name: each.total for name, each in wanted.inventories.items()}
    yield from _short(uuid, device, holding, offered)
    if open_to_new:  # else what a process has open cannot be given to anybody else
        yield from _unallocated(uuid, device, holding, scene.policy)


def _gone(entry: Provider, holding: Holding) -> Iterator[Unexplained]:
    match = _DEVICE.search(entry.lasting_name)
    if holding and match:
        what = (
            f"{_allocated(holding)}, but the device is gone from this host: stop or migrate the server, and see why "
            "the device went; if the server no longer exists, free it with `openstack resource provider allocation "
            f"unset --provider {entry.uuid} CONSUMER`"
        )
        yield Unexplained(match[1], Kind.GONE, entry.uuid, entry.uuid, what)


def _withdrawn(uuid: str, device: Device, holding: Holding) -> Iterator[Unexplained]:
    if holding:
        what = (
            f"{_allocated(holding)}, but it is no longer given ({device.decision.reason}): "
            "undo that, or stop or migrate the server"
        )
        yield Unexplained(device.address, Kind.WITHDRAWN, "", uuid, what)


def _fenced(uuid: str, device: Device, holding: Holding) -> Unexplained:
    health = device.health
    well = health.state in (State.HEALTHY, State.UNMONITORED)
    why = "" if well else f" ({'; '.join((health.state, *health.reasons))})"
    what = (
        f"{_allocated(holding)}, but it is fenced{why} and nobody new gets it: stop or migrate the server, "
        f"then mend the device; `devagent health show {device.address}` says more"
    )
    return Unexplained(device.address, Kind.FENCED, "", uuid, what)


def _short(uuid: str, device: Device, holding: Holding, offered: Mapping[str, int]) -> Iterator[Unexplained]:
    """A PF that lost VFs, or a device that is divided otherwise than when it was given away."""
    for name, held in _amounts(holding).items():
        there = offered.get(name, 0)
        if held > there:
            what = (
                f"{_allocated(holding, name)}, but this host has {there} to give ({device.decision.reason}): "
                "bring back what is missing, or stop or migrate the servers that have too much"
            )
            yield Unexplained(device.address, Kind.SHORT, name, uuid, what)


def _unallocated(uuid: str, device: Device, holding: Holding, policy: Policy) -> Iterator[Unexplained]:
    """Finds processes with something open that no consumer can have meant for them.

    First each virtual machine takes what is allocated to it. Whatever then is still open may belong to
    any consumer with something left: while a server migrates, Nova has its allocation on the source under
    the migration's UUID (nova/conductor/tasks/migrate.py, replace_allocation_with_migration).
    """
    left = {consumer: sum(amounts.values()) for consumer, amounts in holding.items()}
    unclaimed = []
    for address, users in _open(device, policy):
        owner = next((user.instance for user in users if user.instance and left.get(user.instance)), None)
        if owner is None:
            unclaimed.append((address, users))
        else:
            left[owner] -= 1
    for address, users in unclaimed[sum(left.values()) :]:
        by_pid = {user.pid: user for user in users}
        yield from (_open_by(uuid, address, user) for user in by_pid.values())


def _open(device: Device, policy: Policy) -> Iterator[tuple[str, tuple[User, ...]]]:
    """Gives what is given away of the device one by one, as far as processes have it open."""
    if device.decision.mode is Mode.WHOLE:
        if device.users:
            yield device.address, device.users
        return
    rule = policy.rule(device.decision.rule)
    by_host, users = dict(device.vf_use), dict(device.vf_users)
    for vf in device.vfs:
        if vf.index in users and vf.index not in by_host and (rule is None or rule.gives_vf(vf.index)):
            yield vf.address, users[vf.index]


def _open_by(uuid: str, address: str, user: User) -> Unexplained:
    what = f"{user} has {user.node} open, but in Placement it is allocated to nobody, so another server can be given it"
    if user.instance is not None:
        cure = (
            f"see `openstack server show {user.instance}`: a server that belongs here lost its allocation, "
            f"so stop or migrate it; of one that does not, end the process {user.pid}"
        )
    else:
        cure = "end the process, or give the host the device for good with `mode: ignore` in devices.yaml"
    return Unexplained(address, Kind.UNALLOCATED, str(user.pid), uuid, f"{what}: {cure}")


def _allocated(holding: Holding, only: str | None = None) -> str:
    """Says who has how much, of the class `only` or of all: `2 PGPU of it are allocated to A, B`."""
    amounts = {name: amount for name, amount in _amounts(holding).items() if only in (None, name)}
    consumers = sorted(consumer for consumer, held in holding.items() if amounts.keys() & held.keys())
    named = ", ".join(consumers[:_NAMED]) + (f" and {len(consumers) - _NAMED} more" if consumers[_NAMED:] else "")
    much = ", ".join(f"{amount} {name}" for name, amount in sorted(amounts.items()))
    return f"{much} of it {'is' if sum(amounts.values()) == 1 else 'are'} allocated to {named}"


def _amounts(holding: Holding) -> dict[str, int]:
    """Adds up what all consumers hold, by resource class."""
    names: Iterable[str] = {name for held in holding.values() for name in held}
    return {name: sum(held.get(name, 0) for held in holding.values()) for name in names}
