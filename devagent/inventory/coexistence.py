# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Finds devices that Nova or Cyborg report already, by the names and traits of their providers.

Nova names a PCI device's provider `<host>_0000:81:00.0` (the PF's address for VFs too) and a vGPU's
`<host>_pci_0000_84_00_0`; Cyborg's drivers use Nova's first form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from devagent.model.provider import Provider, ProviderTree

_NAME: Final = re.compile(r"_(?:pci_)?([0-9a-f]{4,8})[:_]([0-9a-f]{2})[:_]([0-9a-f]{2})[._]([0-7])\Z", re.IGNORECASE)
_OWNERS: Final = {
    "OWNER_CYBORG": "Cyborg",
    "OWNER_NOVA": "Nova",
    "COMPUTE_MANAGED_PCI_DEVICE": "Nova",
}


@dataclass(frozen=True, slots=True)
class Owned:
    """A device that another service reports: it is left to that service, and the operator is told."""

    address: str
    service: str
    provider: str

    def __str__(self) -> str:
        return (
            f"{self.address}: {self.service} reports it already (provider {self.provider}), so devagent leaves it. "
            f"Either take it out of that service's configuration or give it `mode: ignore` in devices.yaml"
        )


def address_of(provider: Provider) -> str | None:
    """Gives the PCI address in the name of a provider that is not ours; None if it names no PCI device."""
    match = _NAME.search(provider.name)
    if provider.is_ours or match is None:
        return None
    domain, bus, device, function = (part.lower() for part in match.groups())
    return f"{domain}:{bus}:{device}.{function}"


def owned(tree: ProviderTree, foreign: Iterable[Provider]) -> list[Owned]:
    """Gives the devices of `tree` that `foreign` providers offer too; one that offers nothing owns nothing."""
    names = {address: provider for provider in foreign if provider.inventories and (address := address_of(provider))}
    found = []
    for addresses in tree.devices.values():
        provider = next((names[address] for address in addresses if address in names), None)
        if provider is not None:
            found.append(Owned(addresses[0], _service(provider), provider.name))
    return found


def without(tree: ProviderTree, left: Iterable[Owned]) -> ProviderTree:
    """Gives `tree` less the devices that are left to others."""
    addresses = {device.address for device in left}
    gone = {uuid for uuid, own in tree.devices.items() if own[0] in addresses}
    devices: Mapping[str, tuple[str, ...]] = {uuid: own for uuid, own in tree.devices.items() if uuid not in gone}
    return replace(tree, providers=tuple(p for p in tree.providers if p.uuid not in gone), devices=devices)


def _service(provider: Provider) -> str:
    return next((name for trait, name in _OWNERS.items() if trait in provider.traits), "Nova or Cyborg")
