# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The operator's policy: ordered rules of which the first that matches a device decides."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from devagent.model.claim import Kind, Mode

ALL_VFS: Final = -1
"""For `vf_count`: as many VFs as the device can have."""


@dataclass(frozen=True, slots=True)
class Match:
    """What a rule looks for; an empty or None field matches everything, all given ones must match.

    `class_code` holds prefixes of the six hex digits; `address`, `slot` (an address without its function),
    `serial`, `interface` and `driver` are shell patterns. `serial` fits whatever number the device was given for
    good: a UUID, a MAC address, a serial number. `vfs` asks whether VFs exist on the device now.
    """

    kind: tuple[Kind, ...] = ()
    vendor: tuple[str, ...] = ()
    device: tuple[str, ...] = ()
    class_code: tuple[str, ...] = ()
    address: tuple[str, ...] = ()
    slot: tuple[str, ...] = ()
    serial: tuple[str, ...] = ()
    driver: tuple[str, ...] = ()
    interface: tuple[str, ...] = ()
    numa_node: tuple[int, ...] = ()
    vfs: bool | None = None


@dataclass(frozen=True, slots=True)
class Prepare:
    """What is done to a device between two consumers, in the words of devices.yaml.

    `driver` is the VFIO driver to give it with, None for what the kernel offers; `keep`: it stays on that. `reset` is
    never, possible or required; `scrub` names what is wiped, `blank` the digest of the image that wipes an FPGA.
    """

    driver: str | None = None
    keep: bool = False
    reset: str = "possible"
    scrub: str | None = None
    blank: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; a `mode` of None means: leave the device alone.

    `resource_class` None takes the driver's; `vf_indexes` None gives every VF; `vf_count` is how many
    VFs the operator wants to exist, or ALL_VFS. `physical_network` is the network, by Neutron's name, that a NIC's
    ports are on. `types` names by resource class what is made for modes mdev and vgpu; None: the
    consumer says. `owner` `nova` leaves the device to Nova's own PCI tracking: it is only made ready.
    """

    name: str
    match: Match
    mode: Mode | None
    resource_class: str | None = None
    traits: frozenset[str] = frozenset()
    vf_indexes: frozenset[int] | None = None
    vf_count: int | None = None
    physical_network: str | None = None
    types: tuple[tuple[str, str | None], ...] = ()
    prepare: Prepare = Prepare()
    owner: str | None = None

    def wanted_vfs(self, total: int) -> int | None:
        """Gives how many VFs a device that can have `total` shall have; None: the rule does not say."""
        return total if self.vf_count == ALL_VFS else self.vf_count

    def gives_vf(self, index: int) -> bool:
        """Tells whether it gives the VF of this index, if it gives VFs at all."""
        return self.vf_indexes is None or index in self.vf_indexes

    @property
    def placement_traits(self) -> frozenset[str]:
        """The traits that a device gets by this rule, with the one of its physical network as Neutron spells it."""
        if self.physical_network is None:
            return self.traits
        # neutron_lib.placement.utils.physnet_trait, which ends in `_` where the name ends in a sign
        name = re.sub("[^0-9A-Za-z]+", "_", f"PHYSNET_{self.physical_network}").upper()
        return self.traits | {f"CUSTOM_{name}"}


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules in order, and where they come from (a path, or `built in`)."""

    rules: tuple[Rule, ...]
    origin: str

    def rule(self, name: str | None) -> Rule | None:
        """Gives the rule of that name."""
        return next((rule for rule in self.rules if rule.name == name), None)
