# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Where the devices of a plan are now: cards change slots, drives are replaced, a boot may number the buses anew."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace

from devagent.inventory.build import device_uuid
from devagent.inventory.identity import agrees, told
from devagent.model.device import Device
from devagent.model.handle import Handle, PciHandle
from devagent.model.plan import Plan
from devagent.model.preparation import Preparation
from devagent.prepare.view import functions


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """What does not stand where it was given.

    `strangers` are, by address, the devices that stand now where another one was given, with a function of that.
    `moved` gives, by its address of then, where a device stands that was given whole and is to be wiped.
    """

    strangers: Mapping[str, str]
    moved: Mapping[str, str]

    def near(self, devices: Iterable[Device]) -> tuple[Device, ...]:
        """Leaves out the strangers."""
        kept = self.moved.values()
        return tuple(each for each in devices if each.address not in self.strangers or each.address in kept)

    def followed(self, preparation: Preparation) -> Preparation:
        """Gives the preparation with its handles where the devices are now."""
        handles = tuple(self._now(handle) for handle in preparation.handles)
        return replace(preparation, handles=handles)

    def _now(self, handle: Handle) -> Handle:
        place = self.moved.get(handle.function)
        return replace(handle, address=place) if isinstance(handle, PciHandle) and place is not None else handle


def whereabouts(plan: Plan, devices: Iterable[Device], root: str, listed: Container[str]) -> Whereabouts:
    """Compares what a plan gave with what a look shows: what the devices tell, else what was settled on about them.

    A plan of an earlier version does not say what it gave: then the UUIDs of the providers below `root` do, of those
    that are `listed` in Placement. Of a compute node that was made anew there, none can be told from its device.
    """
    cards = {part.address: device for device in devices for part in functions(device)}
    places = {device.key: device.address for device in cards.values()}

    def is_given(handle: Handle, device: Device) -> bool:
        same = agrees(plan.told.get(handle.provider, {}), told(device))
        name = plan.devices.get(handle.provider)
        if same is not None or name is not None:
            return device.key == name if same is None else same
        return handle.provider not in listed or device_uuid(root, device) == handle.provider

    at_home = {
        each.function for each in plan.handles if each.function in cards and is_given(each, cards[each.function])
    }
    away = [handle for handle in plan.handles if handle.function not in at_home]
    whole = [each for each in away if each.provider in plan.wipes and f"pf:{each.function}" in plan.locks]
    found = {each.function: places.get(plan.devices.get(each.provider, "")) for each in whole}
    return Whereabouts(
        strangers={cards[each.function].address: each.function for each in away if each.function in cards},
        moved={function: place for function, place in found.items() if place is not None},
    )
