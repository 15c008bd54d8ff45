# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""One look at a host: everything that discovery read, and what it could not read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from devagent.model.pci import Function


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
    """

    hostname: str | None = None
    kernel: str | None = None
    boot_id: str | None = None
    compute_id: str | None = None
    iommu: bool = False
    numa_nodes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The host's functions by address, in bus order.

    `host_use` says, by address, what the host itself uses a function for: `default route (ens3f0)`; with
    `host_use_known` false there may be more. `unknown` are functions that are there but could not be
    identified; with `complete` false there may be functions that were not seen at all.
    """

    host: HostFacts
    functions: Mapping[str, Function] = field(default_factory=dict)
    host_use: Mapping[str, str] = field(default_factory=dict)
    host_use_known: bool = True
    unknown: frozenset[str] = frozenset()
    complete: bool = True
    problems: tuple[Problem, ...] = ()
