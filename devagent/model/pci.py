# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""PCI functions as the kernel shows them: plain functions, PFs and their VFs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

# The domain has more than four digits behind Intel VMD and Hyper-V (10000:01:00.0).
_ADDRESS: Final = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([01][0-9a-f])\.([0-7])")


def is_address(text: str) -> bool:
    """Tells whether `text` is a PCI address in the kernel's own spelling, such as `0000:3b:00.1`."""
    return _ADDRESS.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class VirtualFunction:
    """One VF of a PF; `index` (the N of virtfnN) identifies it, never its address."""

    index: int
    address: str
    driver: str | None = None
    iommu_group: int | None = None


@dataclass(frozen=True, slots=True)
class Sriov:
    """What a PF can be divided into; `vfs` are those that exist now, in index order."""

    total_vfs: int
    vf_device_id: str | None = None
    vfs: tuple[VirtualFunction, ...] = ()


@dataclass(frozen=True, slots=True)
class Function:
    """One PCI function.

    Ids are lower-case hex without 0x: `vendor_id` 4 digits, `class_code` 6 (base, sub, interface).
    `pcie_path` holds the bridges above it, root port first. `attributes` maps the sysfs files that
    drivers asked for, relative to the function's directory, to their text, stripped. `unread` names the
    files and links that are there but could not be read or understood: what they say is unknown.
    """

    address: str
    vendor_id: str
    device_id: str
    class_code: str
    subsystem_vendor_id: str | None = None
    subsystem_device_id: str | None = None
    driver: str | None = None
    iommu_group: int | None = None
    numa_node: int | None = None
    root_bus: str | None = None
    pcie_path: tuple[str, ...] = ()
    physfn: str | None = None
    sriov: Sriov | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    unread: frozenset[str] = frozenset()

    @property
    def is_bridge(self) -> bool:
        """Whether the function is a host, PCI or other bridge (base class 06): never a device to give."""
        return self.class_code.startswith("06")

    @property
    def slot(self) -> str:
        """The address without its function: what sits in one slot, such as `0000:3b:00`."""
        return self.address.rpartition(".")[0]

    def names(self, directory: str) -> tuple[str, ...]:
        """Gives the sorted names directly below `directory` of which an attribute was read."""
        start = directory + "/"
        return tuple(sorted({key[len(start) :].split("/", 1)[0] for key in self.attributes if key.startswith(start)}))
