# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a consumer asks for, and the steps by which its devices get ready for it or are brought back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from devagent.model.handle import Handle

Arguments = Mapping[str, str | int | None]


@dataclass(frozen=True, slots=True)
class Group:
    """What a consumer was given of one resource provider, as Placement mapped it.

    `provider` is its UUID, `resources` maps resource classes to amounts. `address` asks for one function
    of that provider. `properties` say what it shall become: `bitstream`, `vgpu_type`, `mdev_type`,
    `mig_profile`, and of a NIC's VF `mac`, `vlan`, `trust`, `rate` (Mbit/s). `owner` `nova`: Nova's own PCI tracking
    gave it, and no allocation of `provider` stands for it.
    """

    provider: str
    resources: Mapping[str, int]
    address: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One change of the machine.

    `verb` is one of devagent.prepare.verbs, `target` the address of the function that it is done to.
    `undo` are the arguments with which the verb's inverse brings back what was before, on the same target;
    None where nothing can or need be brought back.
    """

    verb: str
    target: str
    arguments: Arguments = field(default_factory=dict)
    undo: Arguments | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps in their order, the handles that are true after the last, and what must be locked meanwhile.

    `locks` are sorted keys of PFs and IOMMU groups: `pf:0000:3b:00.0`, `group:42`. `wipes` has, by resource provider,
    how the policy wants wiped what was given of it: `how`, and of an FPGA the digest of the `image` that does it;
    `devices` what was given of it, by model and identity, as the book of health calls it, and `told` what that told of
    itself then, by source: `{"nvme": "S4EVNX0M"}`.
    """

    consumer: str
    steps: tuple[Step, ...] = ()
    handles: tuple[Handle, ...] = ()
    locks: tuple[str, ...] = ()
    wipes: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    devices: Mapping[str, str] = field(default_factory=dict)
    told: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
