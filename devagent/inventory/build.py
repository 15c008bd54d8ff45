# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Builds the desired provider tree: devices below NUMA nodes (and PCIe switches) below the compute node."""

from __future__ import annotations

import enum
import hashlib
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from devagent.model.claim import Mode
from devagent.model.custom import custom
from devagent.model.device import Device
from devagent.model.health import State
from devagent.model.provider import PREFIX, Inventory, Provider, ProviderTree
from devagent.model.snapshot import HostFacts
from devagent.model.vendors import VENDORS

OURS: Final = "CUSTOM_DEVAGENT"
NUMA_ROOT: Final = "HW_NUMA_ROOT"
PCIE_SWITCH: Final = "CUSTOM_DEVAGENT_PCIE_SWITCH"
SICK: Final = {
    State.SUSPECT: "CUSTOM_DEVAGENT_SUSPECT",
    State.UNHEALTHY: "CUSTOM_DEVAGENT_UNHEALTHY",
    State.LOST: "CUSTOM_DEVAGENT_LOST",
    State.UNMONITORED: "CUSTOM_DEVAGENT_UNMONITORED",
}
"""The trait that says what is wrong with a device. What was never monitored has none: nothing is known to be wrong."""

# The resets that give a device back clean, in the kernel's words (Documentation/ABI, reset_method).
_RESETS: Final = ("flr", "af_flr", "bus", "pm", "device_specific")
_NAME_LENGTH: Final = 200
# Stands in for the compute node's UUID where nova-compute has not made one that we can read.
_NAMESPACE: Final = uuid.UUID("6a4f2c7e-1b1d-5c55-9f3e-0d9b7a4a3c11")


class Nest(enum.StrEnum):
    """What stands between the compute node and its devices ([inventory] nest)."""

    NUMA = "numa"
    PCIE = "pcie"
    FLAT = "flat"


def root_uuid(host: HostFacts, hostname: str) -> str:
    """Gives the UUID of the compute node's provider: Nova's, or one made from the name until it is known."""
    return host.compute_id or str(uuid.uuid5(_NAMESPACE, hostname))


def device_uuid(root: str, device: Device) -> str:
    """Gives the UUID of a device's provider: of this host, this model and this identity, and nothing else."""
    return provider_uuid(root, device.key)


def provider_uuid(root: str, key: str) -> str:
    """Gives the UUID of what `key` names below `root`: of a device, as `Device.key` has it."""
    return str(uuid.uuid5(uuid.UUID(root), key))


def build(
    devices: Iterable[Device],
    root: str,
    hostname: str,
    nest: Nest = Nest.NUMA,
    *,
    unknown: Iterable[str] = (),
    complete: bool = True,
    returning: Mapping[str, Mapping[str, int]] | None = None,
) -> ProviderTree:
    """Gives the providers that Placement should have below `root` for the managed ones of `devices`.

    Providers of unknown devices, and of the `unknown` addresses, are kept as they are; unless the look
    was `complete`, so are all others. `returning` is what no consumer has and the host has not back yet, by the
    provider's UUID and the class: so much of it is reserved.
    """
    builder = _Builder(root, hostname, nest, returning or {})
    kept = {builder.name(address) for address in unknown}
    for device in devices:
        if device.decision.managed:
            builder.add(device)
        elif device.decision.unknown:
            kept.add(builder.name(device.address))
    return ProviderTree(root, tuple(builder.providers.values()), builder.devices, frozenset(kept), not complete)


@dataclass(slots=True)
class _Builder:
    """The tree while it grows; a parent enters it before its first child."""

    root: str
    hostname: str
    nest: Nest
    returning: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    providers: dict[str, Provider] = field(default_factory=dict)
    devices: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def add(self, device: Device) -> None:
        uid = device_uuid(self.root, device)
        self._put(uid, device.address, self._parent(device), device)
        self.devices[uid] = device.addresses

    def _parent(self, device: Device) -> str:
        parent = self.root
        node = device.function.numa_node
        if self.nest is not Nest.FLAT and node is not None:
            parent = self._group(f"numa{node}", f"numa:{node}", parent, NUMA_ROOT)
        switch = _switch(device)
        if self.nest is Nest.PCIE and switch is not None:
            address, topology = switch
            parent = self._group(f"pcie-{address}", f"pcie:{topology}", parent, PCIE_SWITCH)
        return parent

    def _group(self, name: str, key: str, parent: str, trait: str) -> str:
        uid = provider_uuid(self.root, key)
        if uid not in self.providers:
            self.providers[uid] = Provider(uid, self.name(name), parent, traits=frozenset({OURS, trait}))
        return uid

    def _put(self, uid: str, name: str, parent: str, device: Device) -> None:
        # Closed, it stays with those who have it, and nobody new gets any: not of a PF's VFs either.
        fenced, returning = device.health.state.is_fenced, self.returning.get(uid, {})
        inventories = {}
        for each in device.decision.given:
            closed = each.total if fenced else each.closed + returning.get(each.resource_class, 0)
            if each.total > 0:
                inventories[each.resource_class] = Inventory(each.total, min(closed, each.total), max_unit=each.total)
        self.providers[uid] = Provider(
            uid, self.name(name), parent, inventories, _traits(device), undetermined=_undetermined(device)
        )

    def name(self, suffix: str) -> str:
        """Gives devagent:<hypervisor hostname>:<suffix>, 200 characters at most and still unique."""
        name = f"{PREFIX}{self.hostname}:{suffix}".lower()
        if len(name) <= _NAME_LENGTH:
            return name
        digest = hashlib.sha256(self.hostname.lower().encode()).hexdigest()[:16]
        room = _NAME_LENGTH - len(PREFIX) - len(suffix) - len(digest) - 2
        return f"{PREFIX}{self.hostname[:room]}~{digest}:{suffix}".lower()


def _switch(device: Device) -> tuple[str, str] | None:
    """Gives address and topology of the nearest switch's upstream port, or of the root port without one.

    A path is root port, or root port, upstream port, downstream port (and so on for stacked switches).
    """
    function = device.function
    if not function.pcie_path or function.root_bus is None:
        return None
    position = len(function.pcie_path) - 2 if len(function.pcie_path) >= 3 else 0
    steps = (address.rpartition(":")[2] for address in function.pcie_path[: position + 1])
    return function.pcie_path[position], "/".join((function.root_bus, *steps))


def _traits(device: Device) -> frozenset[str]:
    function, claim = device.function, device.claim
    traits = {
        OURS,
        custom("VENDOR", VENDORS.get(function.vendor_id, function.vendor_id)),
        custom("PRODUCT", function.vendor_id, function.device_id),
        *claim.traits,
        *device.decision.traits,
    }
    # What is reset between two consumers is what they were given; what is made for one is not reset, but ends.
    mode = device.decision.mode
    given = function.vf_reset_methods if mode is Mode.VF else function.reset_methods
    methods = () if mode is not None and mode.is_made else given
    traits.update(custom("RESET", method) for method in methods if method in _RESETS)
    if device.health.reasons and device.health.state in SICK:
        traits.add(SICK[device.health.state])
    return frozenset(traits)


def _undetermined(device: Device) -> frozenset[str]:
    """Gives the parts of the provider that hang on something unread.

    The node decides on the parent. What decides on the inventory makes the whole device unknown
    (policy.py), so everything else can only be about traits.
    """
    unread = device.function.unread
    parts = {"parent"} if "numa_node" in unread else set()
    return frozenset(parts | ({"traits"} if unread - {"numa_node"} else set()))
