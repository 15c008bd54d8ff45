# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a check-up of a host looks at besides its devices: firmware, modules, and what was set by hand."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class Module(enum.StrEnum):
    """Where a kernel module is."""

    LOADED = "loaded"
    BUILT_IN = "built in"
    LOADABLE = "can be loaded"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Vitals:
    """The facts of one host; None is unknown.

    `machine`: it is this machine itself, no captured one. `cpu` is the vendor as the CPU says it
    (`GenuineIntel`), `virtual` whether a hypervisor is below, `firmware_iommu` whether the firmware
    describes an IOMMU (its table DMAR, IVRS or IORT). `groups` is the number of IOMMU groups, `shared` has
    the members, bridges left out, of those with several.

    `overrides` has the driver_override of each function that has one set. `num_vfs` is what sriov_numvfs
    says by PF, `no_answer` why it says nothing. `driverctl` maps addresses to the driver that each boot
    binds, `mdevctl` parents to how many mediated devices each boot makes. `unread` says, by the name of a
    check, what could not be read for it.
    """

    machine: bool = False
    kernel: str | None = None
    command_line: tuple[str, ...] | None = None
    cpu: str | None = None
    virtual: bool = False
    firmware_iommu: bool | None = None
    groups: int | None = None
    shared: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    modules: Mapping[str, Module | None] = field(default_factory=dict)
    nvidia_module: str | None = None
    nvidia_library: str | None = None
    overrides: Mapping[str, str] | None = None
    num_vfs: Mapping[str, int] = field(default_factory=dict)
    no_answer: Mapping[str, str] = field(default_factory=dict)
    driverctl: Mapping[str, str] = field(default_factory=dict)
    mdevctl: Mapping[str, int] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)
