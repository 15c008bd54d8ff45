# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the planner sees of the host: the devices by resource provider, their IOMMU groups, and the images at hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from devagent.inventory.build import device_uuid
from devagent.model.device import Device
from devagent.prepare.treatment import Treatment


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A function of an IOMMU group; `device`: it is one to give, not the mere companion of one (a GPU's audio)."""

    address: str
    driver: str | None
    device: bool


@dataclass(frozen=True, slots=True)
class Part:
    """One function of a device: the device's own, whose `index` is None, or a VF."""

    address: str
    index: int | None
    driver: str | None
    iommu_group: int | None


@dataclass(frozen=True, slots=True)
class Bitstream:
    """An image for an FPGA that is at hand and whole; `digest` is its sha256 in hex, both ids are 32 hex digits."""

    digest: str
    interface_id: str | None = None
    function_id: str | None = None


@dataclass(frozen=True, slots=True)
class View:
    """The host at one moment.

    `devices` and `treatments` are by the UUID of the resource provider, `groups` by IOMMU group without
    bridges, `bitstreams` by the name that a consumer uses. `vetoes` says of single functions, by address,
    why a guard keeps them from being given. `cards` are all devices by address, given or not, `parts` all
    their functions with the card of each. `stale` are the addresses of those that were changed since, `replaced` of
    those that were given where another device stands now, which is not shown.
    """

    devices: Mapping[str, Device]
    groups: Mapping[int, tuple[Neighbour, ...]] = field(default_factory=dict)
    treatments: Mapping[str, Treatment] = field(default_factory=dict)
    bitstreams: Mapping[str, Bitstream] = field(default_factory=dict)
    vetoes: Mapping[str, str] = field(default_factory=dict)
    cards: Mapping[str, Device] = field(default_factory=dict)
    parts: Mapping[str, tuple[Device, Part]] = field(default_factory=dict)
    stale: frozenset[str] = frozenset()
    replaced: frozenset[str] = frozenset()

    def treatment(self, provider: str) -> Treatment:
        """Gives what the policy says of a provider's device, which by default follows from its mode."""
        return self.treatments.get(provider) or Treatment.usual(self.devices[provider].decision.mode)

    def companions(self, part: Part) -> tuple[Neighbour, ...]:
        """Gives what else is in a part's IOMMU group."""
        members = self.groups[part.iommu_group] if part.iommu_group is not None else ()
        return tuple(each for each in members if each.address != part.address)


def view(
    found: Iterable[Device],
    root: str,
    treatments: Mapping[str, Treatment] | None = None,
    bitstreams: Mapping[str, Bitstream] | None = None,
    vetoes: Mapping[str, str] | None = None,
) -> View:
    """Makes a view of a look with every function, below the compute node's provider `root`.

    `treatments` are by the device's address; a device with one is given even where no rule gives it yet.
    """
    devices = list(found)
    wanted = treatments or {}
    uuids = {device.address: device_uuid(root, device) for device in devices}
    given = [device for device in devices if device.decision.managed or device.address in wanted]
    return View(
        devices={uuids[device.address]: device for device in given},
        groups=_groups(devices),
        treatments={uuids[address]: treatment for address, treatment in wanted.items() if address in uuids},
        bitstreams=bitstreams or {},
        vetoes=vetoes or {},
        cards={device.address: device for device in devices},
        parts={part.address: (device, part) for device in devices for part in functions(device)},
    )


def functions(device: Device) -> tuple[Part, ...]:
    """Gives the device's own function and its VFs."""
    own = device.function
    vfs = (Part(vf.address, vf.index, vf.driver, vf.iommu_group) for vf in device.vfs)
    return (Part(own.address, None, own.driver, own.iommu_group), *vfs)


def _groups(devices: Iterable[Device]) -> dict[int, tuple[Neighbour, ...]]:
    groups: dict[int, list[Neighbour]] = {}
    for device in devices:
        known = device.claim.driver != "none"
        for part in functions(device):
            if part.iommu_group is not None:
                neighbour = Neighbour(part.address, part.driver, known or part.index is not None)
                groups.setdefault(part.iommu_group, []).append(neighbour)
    return {group: tuple(members) for group, members in groups.items()}
