# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""How the devices are now that are about to be changed: fresh looks at them, one for all who ask at the same time.

The look process behind it sees every function, also those that no driver knows: what shares an IOMMU group with a
device goes with it. It has nothing to do with the agent's other looks, of which a slow one holds up nobody here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from devagent.discovery import Discovery
from devagent.errors import LookFailed
from devagent.inventory.identity import agrees, told
from devagent.model.device import Decision, Device
from devagent.model.policy import Policy
from devagent.prepare.view import functions
from devagent.service.facts import Facts, Seen
from devagent.service.settings import Settings

_ANOTHER: Final = Decision(
    False, "another device is in its place since the last look: it is given after the next one", unknown=True
)
_SLOWEST: Final = 20.0
"""Seconds for a look at a few devices; what hangs in the kernel is left behind much sooner."""


class Eyes(Protocol):
    """What looks: see Looker."""

    def look(self, policy: Policy, only: Iterable[str] | None, *, timeout: float, every: bool) -> Discovery:
        """Looks at the host, with `only` at the devices of these addresses. Raises LookFailed."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """Every function of the host, and when the look at those that were asked for began (time.monotonic)."""

    devices: tuple[Device, ...]
    began: float


@dataclass(slots=True)
class _Batch:
    addresses: set[str] = field(default_factory=set)
    outcome: Sighting | LookFailed | None = None


class Sight:
    """Looks for as many at once as want to see something."""

    def __init__(self, eyes: Eyes, facts: Facts, settings: Callable[[], Settings]) -> None:
        self._eyes, self._facts, self._settings = eyes, facts, settings
        self._guard, self._looking = threading.Lock(), threading.Lock()
        self._next = _Batch()
        self._found: Discovery | None = None
        self._full_until = 0.0

    def look(self, addresses: Iterable[str]) -> Sighting:
        """Gives what a look shows that began after this call, at these functions and all that goes with them.

        Raises LookFailed.
        """
        with self._guard:
            batch = self._next
            batch.addresses.update(addresses)
        with self._looking:
            if batch.outcome is None:  # else somebody who waited, too, has taken everybody's along
                with self._guard:
                    self._next = _Batch()
                try:
                    batch.outcome = self._look(batch.addresses)
                except LookFailed as error:
                    batch.outcome = error
        if isinstance(batch.outcome, LookFailed):
            raise batch.outcome
        return batch.outcome

    def _look(self, addresses: set[str]) -> Sighting:
        settings, began = self._settings(), time.monotonic()
        before = self._found if began < self._full_until else None
        only = None if before is None else addresses | companions(before.devices, addresses)
        timeout = max(settings.look_timeout, _SLOWEST) if only is None else _SLOWEST
        self._found = None
        found = self._found = self._eyes.look(settings.policy, only, timeout=timeout, every=True)
        if only is None:
            self._full_until = began + settings.scan_interval
        seen = self._facts.seen
        devices = found.devices if seen is None else tuple(_settled(found.devices, seen))
        return Sighting(devices, began)


def companions(devices: Iterable[Device], addresses: Iterable[str]) -> set[str]:
    """Gives the devices that share a slot or an IOMMU group with one of `addresses`, or have it as their VF."""
    parts = {part.address: (device, part) for device in devices for part in functions(device)}
    known = [parts[address] for address in addresses if address in parts]
    groups = {part.iommu_group for device, _ in known for part in functions(device)} - {None}
    slots = {device.function.slot for device, _ in known}
    return {
        device.address for device, part in parts.values() if part.iommu_group in groups or device.function.slot in slots
    }


def _settled(devices: Iterable[Device], seen: Seen) -> Iterable[Device]:
    """Gives the devices with what only the agent's own looks settle: who they are, how they are, and what is withheld.

    A look at a device says nothing of the checks that it has passed before. What has been put in the place of another
    one since has passed none.
    """
    known = {device.address: device for device in seen.devices}
    for device in devices:
        own = known.get(device.address)
        if own is None:
            yield device
        elif agrees(_told(own, seen), told(device)) is False:
            yield replace(device, decision=_ANOTHER)
        elif own.decision.unknown:
            yield replace(device, identity=own.identity, health=own.health, decision=own.decision)
        else:
            yield replace(device, identity=own.identity, health=own.health)


def _told(device: Device, seen: Seen) -> dict[str, str]:
    """Gives all that a device ever told of itself: on a VFIO driver most tell nothing."""
    function, found = device.function, seen.view.found
    own = (each for each in found.known if each.identity == device.identity)
    ids = f"{function.vendor_id}:{function.device_id}:"
    before = next((each.others for each in own if each.ids.startswith(ids)), {})
    return {**before, **told(device)}
