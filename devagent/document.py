# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""All that is known of a host as one JSON document; schemas/discover.schema.json describes it and its version."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from devagent.inventory.build import device_uuid
from devagent.model.claim import NetFacts
from devagent.model.device import Device
from devagent.model.pci import Link
from devagent.model.provider import Provider
from devagent.model.user import User
from devagent.view import Look

SCHEMA_VERSION: Final = 1


def document(seen: Look) -> dict[str, Any]:
    """Gives the document: devices in bus order, what is unknown as None."""
    tree, host = seen.tree(), seen.found.host
    names = {provider.uuid: provider.name for provider in tree.providers} | {tree.root: seen.hostname}
    placements = {provider.uuid: _placement(provider, names) for provider in tree.providers}
    uuids = {device.address: device_uuid(tree.root, device) for device in seen.found.devices}
    return {
        "schema_version": SCHEMA_VERSION,
        "host": {
            "hostname": host.hostname,
            "kernel": host.kernel,
            "boot_id": host.boot_id,
            "iommu": host.iommu,
            "numa_nodes": list(host.numa_nodes),
            "numa_cpus": {str(node): cpus for node, cpus in host.node_cpus},
        },
        "devices": [
            _device(device, uuids[device.address], placements.get(uuids[device.address]))
            for device in seen.found.devices
        ],
        "problems": [asdict(problem) for problem in seen.found.problems],
        "notes": list(seen.found.notes),
    }


def _device(device: Device, uid: str, placement: dict[str, Any] | None) -> dict[str, Any]:
    function, claim = device.function, device.claim
    return {
        "id": uid,
        "kind": claim.kind,
        "address": function.address,
        "vendor_id": function.vendor_id,
        "device_id": function.device_id,
        "subsystem_vendor_id": function.subsystem_vendor_id,
        "subsystem_device_id": function.subsystem_device_id,
        "class": function.class_code,
        "vendor": claim.vendor,
        "model": claim.model,
        "driver": function.driver,
        "drivers_available": list(function.drivers),
        "vfio_driver": function.vfio_driver,
        "numa_node": function.numa_node,
        "iommu_group": function.iommu_group,
        "pcie_path": list(function.pcie_path),
        "link": _link(function.link),
        "reset_methods": list(function.reset_methods),
        "sriov": _sriov(device),
        "gpu": asdict(claim.gpu) if claim.gpu else None,
        "fpga": asdict(claim.fpga) if claim.fpga else None,
        "mdev": asdict(claim.mdev) if claim.mdev else None,
        "net": _net(claim.net, device.physical_network),
        "facts": dict(claim.facts),
        "identity": asdict(device.identity),
        "health": {"state": device.health.state, "reasons": list(device.health.reasons)},
        "in_use_by": _in_use(device.in_use_by, device.users),
        "decision": {
            "managed": device.decision.managed,
            "rule": device.decision.rule,
            "reason": device.decision.reason,
            "owner": device.decision.owner,
        },
        "placement": placement,
    }


def _link(link: Link | None) -> dict[str, Any] | None:
    if link is None:
        return None
    return {
        "speed_gt_s": link.speed,
        "width": link.width,
        "max_speed_gt_s": link.max_speed,
        "max_width": link.max_width,
    }


def _sriov(device: Device) -> dict[str, Any] | None:
    sriov = device.function.sriov
    if sriov is None:
        return None
    uses, users = dict(device.vf_use), dict(device.vf_users)
    return {
        "total_vfs": sriov.total_vfs,
        "num_vfs": len(sriov.vfs),
        "vf_device_id": sriov.vf_device_id,
        "vfio_driver": device.function.vf_vfio_driver,
        "vfs": [{**asdict(vf), "in_use_by": _in_use(uses.get(vf.index), users.get(vf.index, ()))} for vf in sriov.vfs],
    }


def _net(net: NetFacts | None, physical_network: str | None) -> dict[str, Any] | None:
    return {**asdict(net), "physical_network": physical_network} if net else None


def _in_use(use: str | None, users: tuple[User, ...]) -> str | None:
    """Gives what the host uses it for, then the processes that have it open; None if nobody is seen."""
    return "; ".join(filter(None, (use, *map(str, users)))) or None


def _placement(provider: Provider, names: dict[str, str]) -> dict[str, Any]:
    return {
        "name": provider.name,
        "parent": names.get(provider.parent or "", provider.parent),
        "inventories": {name: asdict(inventory) for name, inventory in sorted(provider.inventories.items())},
        "traits": sorted(provider.traits),
    }
