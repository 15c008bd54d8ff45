# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Guards: what no rule may give away, and why. Each guard looks at a snapshot and gives a reason or None."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from devagent.inventory.nova_owned import NovaOwned, nova_owned
from devagent.model.claim import Claim
from devagent.model.pci import Function, VirtualFunction
from devagent.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the guards judge a device by: the host, its IOMMU groups, what else is a device, and what is Nova's."""

    snapshot: Snapshot
    claims: Mapping[str, Claim]
    groups: Mapping[int, tuple[str, ...]]
    nova: NovaOwned


def surroundings(snapshot: Snapshot, claims: Mapping[str, Claim]) -> Surroundings:
    """Collects the members of each IOMMU group, and what Nova takes, once for all devices."""
    groups: dict[int, list[str]] = {}
    for function in snapshot.functions.values():
        if function.iommu_group is not None:
            groups.setdefault(function.iommu_group, []).append(function.address)
    members = {group: tuple(addresses) for group, addresses in groups.items()}
    return Surroundings(snapshot, claims, members, nova_owned(snapshot))


def veto_whole(function: Function, around: Surroundings) -> str | None:
    """Says why the whole `function` must not be given to a virtual machine; None if nothing speaks against it."""
    return next(
        (
            reason
            for reason in (
                _boot_display(function),
                _host_use(function.address, around),
                _nova(function, around),
                _has_vfs(function),
                _no_iommu(function.iommu_group, around),
                _shared_group(function, around),
            )
            if reason is not None
        ),
        None,
    )


def veto_vfs(function: Function, around: Surroundings) -> str | None:
    """Says why none of the VFs of `function` can be given; None if nothing speaks against it."""
    if function.sriov is None:
        return "is no SR-IOV PF: it has no VFs to give"
    if not around.snapshot.host.iommu:
        return _no_iommu(None, around)
    # Nova would take the PF out from under its VFs.
    return around.nova.device(function)


def veto_new_vfs(function: Function, around: Surroundings) -> str | None:
    """Says why no VFs must be made of `function`, which is taken from its driver for that."""
    if not around.snapshot.host.iommu:
        return _no_iommu(None, around)
    return _boot_display(function) or veto_parts(function, around)


def veto_parts(function: Function, around: Surroundings) -> str | None:
    """Says why no mediated devices or vGPUs must be made of `function` or its VFs."""
    return _host_use(function.address, around) or _nova(function, around)


def veto_class(resource_class: str, around: Surroundings) -> str | None:
    """Says why a class must not be reported: Nova takes any provider of VGPU for one of its own parents."""
    enabled = around.snapshot.nova.mdev_types
    if resource_class != "VGPU" or not enabled:
        return None
    return f"VGPU is Nova's on this host, whose enabled_mdev_types has {enabled[0][0]}: name a class CUSTOM_..."


def veto_vf(vf: VirtualFunction, around: Surroundings) -> str | None:
    """Says why one VF must not be given."""
    reason = _host_use(vf.address, around) or _nova_vf(vf, around) or _no_iommu(vf.iommu_group, around)
    if reason is not None or vf.iommu_group is None:
        return reason
    functions = around.snapshot.functions
    members = [address for address in around.groups[vf.iommu_group] if not functions[address].is_bridge]
    # Only the number: VFs of one group then share one reason.
    return f"shares IOMMU group {vf.iommu_group} with {len(members) - 1} more" if len(members) > 1 else None


def _boot_display(function: Function) -> str | None:
    if function.attributes.get("boot_vga") == "1":
        return "is the boot display: the host's console would be lost"
    return None


def _host_use(address: str, around: Surroundings) -> str | None:
    use = around.snapshot.host_use.get(address)
    return f"is used by the host: {use}" if use else None


def _nova(function: Function, around: Surroundings) -> str | None:
    reason = around.nova.device(function)
    if reason is None and function.mdev_parent:
        return around.nova.mdevs(function.address, around.claims.get(function.address))
    return reason


def _nova_vf(vf: VirtualFunction, around: Surroundings) -> str | None:
    function = around.snapshot.functions[vf.address]
    pf = around.snapshot.functions[function.physfn or vf.address]
    reason = around.nova.vf(function, pf)
    if reason is None and pf.mdev_parent:
        return around.nova.mdevs(vf.address, around.claims.get(pf.address))
    return reason


def _has_vfs(function: Function) -> str | None:
    count = len(function.vfs)
    return f"has {count} VFs: it can be given whole only without any" if count else None


def _no_iommu(group: int | None, around: Surroundings) -> str | None:
    if not around.snapshot.host.iommu:
        return "the host has no IOMMU in use"
    return "is not behind the IOMMU: it has no IOMMU group" if group is None else None


def _shared_group(function: Function, around: Surroundings) -> str | None:
    """A group is the unit of isolation: whatever else is in it goes along, so it must be nobody else's."""
    foreign = list(_foreigners(function, around))
    return f"shares IOMMU group {function.iommu_group} with {_some(foreign)}" if foreign else None


def _foreigners(function: Function, around: Surroundings) -> Iterator[str]:
    """Gives the members of the group that cannot go along.

    Bridges take part in no DMA of their own, and a function of the same slot that is no device by
    itself, such as a GPU's audio, goes along with it.
    """
    members = around.groups.get(function.iommu_group, ()) if function.iommu_group is not None else ()
    for address in members:
        other = around.snapshot.functions[address]
        if address == function.address or other.is_bridge:
            continue
        # Of functions that no driver knows, none is the other's companion: each is a device to a rule.
        known = function.address in around.claims
        companion = known and other.slot == function.slot and address not in around.claims
        if not companion or address in around.snapshot.host_use:
            yield address


def _some(addresses: list[str]) -> str:
    more = f" and {len(addresses) - 3} more" if len(addresses) > 3 else ""
    return ", ".join(addresses[:3]) + more
