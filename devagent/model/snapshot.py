# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""One look at a host: everything that discovery read, and what it could not read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from devagent.model.known import Known
from devagent.model.nova import NOTHING, NovaDevices
from devagent.model.pci import Function
from devagent.model.user import User


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Something that could not be read or understood; `device` is an address, or None for the host."""

    source: str
    device: str | None
    problem: str


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What is known of the host as a whole; None is unknown.

    `compute_id` is the UUID of Nova's compute node, which is also its root provider's (Nova 2023.1 on).
    `node_cpus` are each NUMA node's CPUs as the kernel lists them: `0-31,64-95`.
    """

    hostname: str | None = None
    kernel: str | None = None
    boot_id: str | None = None
    compute_id: str | None = None
    iommu: bool = False
    numa_nodes: tuple[int, ...] = ()
    node_cpus: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The host's functions by address, in bus order.

    `host_use` says, by address, what the host itself uses a function for: `default route (ens3f0)`; with
    `host_use_known` false there may be more. `unknown` are functions that are there but could not be
    identified; with `complete` false there may be functions that were not seen at all.
    `users` are the processes that have a function open. `names` gives vendor and device names of
    `vvvv:dddd` from the system's pci.ids. `known` are the identities that were settled on in earlier looks.
    `nova` is what Nova's configuration on this host takes for itself. `notes` say what could not be seen
    for lack of rights, which is nothing wrong with the host.
    """

    host: HostFacts
    functions: Mapping[str, Function] = field(default_factory=dict)
    host_use: Mapping[str, str] = field(default_factory=dict)
    host_use_known: bool = True
    unknown: frozenset[str] = frozenset()
    complete: bool = True
    problems: tuple[Problem, ...] = ()
    users: Mapping[str, tuple[User, ...]] = field(default_factory=dict)
    names: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    known: tuple[Known, ...] = ()
    nova: NovaDevices = NOTHING
    notes: tuple[str, ...] = ()
