# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""PCI functions as the kernel shows them: plain functions, PFs and their VFs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from devagent.model.gpu import KfdNode, NvmlGpu

# The domain has more than four digits behind Intel VMD and Hyper-V (10000:01:00.0).
_ADDRESS: Final = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([01][0-9a-f])\.([0-7])")


def is_address(text: str) -> bool:
    """Tells whether `text` is a PCI address in the kernel's own spelling, such as `0000:3b:00.1`."""
    return _ADDRESS.fullmatch(text) is not None


def is_vfio(driver: str | None) -> bool:
    """Tells whether a driver is vfio-pci or one of its variants (`mlx5_vfio_pci`), which all have it in their name."""
    return driver is not None and "vfio" in driver


def routed(address: str, further: int) -> str:
    """Gives the address whose routing id (bus, device, function) is so much `further` than that of `address`."""
    domain, bus, slot = address.split(":")
    device, function = slot.split(".")
    number = (int(bus, 16) << 8 | int(device, 16) << 3 | int(function)) + further
    return f"{domain}:{number >> 8:02x}:{number >> 3 & 31:02x}.{number & 7}"


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
class Link:
    """A PCIe link: GT/s and lanes, now and at best. None is unknown; a GPU at rest runs slower than it can."""

    speed: float | None = None
    width: int | None = None
    max_speed: float | None = None
    max_width: int | None = None


@dataclass(frozen=True, slots=True)
class Function:
    """One PCI function.

    Ids are lower-case hex without 0x: `vendor_id` 4 digits, `class_code` 6 (base, sub, interface).
    `pcie_path` holds the bridges above it, root port first. `attributes` maps the sysfs files that
    drivers asked for, relative to the function's directory, to their text, stripped. `unread` names the
    files and links that are there but could not be read or understood: what they say is unknown.

    `detailed`: more was read than ids, driver and IOMMU group. `mdev_parent`: it or one of its VFs can
    make mediated devices. `nvml` and `kfd` are what the GPU's own driver says. `drivers` are the kernel
    drivers that are or could be bound by its ids, `vfio_driver` the best one to give the function away
    with (its VFs: `vf_vfio_driver`).
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
    detailed: bool = False
    mdev_parent: bool = False
    nvml: NvmlGpu | None = None
    kfd: tuple[KfdNode, ...] = ()
    drivers: tuple[str, ...] = ()
    vfio_driver: str | None = None
    vf_vfio_driver: str | None = None

    @property
    def is_bridge(self) -> bool:
        """Whether the function is a host, PCI or other bridge (base class 06): never a device to give."""
        return self.class_code.startswith("06")

    @property
    def slot(self) -> str:
        """The address without its function: what sits in one slot, such as `0000:3b:00`."""
        return self.address.rpartition(".")[0]

    @property
    def vfs(self) -> tuple[VirtualFunction, ...]:
        """The VFs that exist now."""
        return self.sriov.vfs if self.sriov else ()

    @property
    def is_divisible(self) -> bool:
        """Whether it is a PF of which VFs exist or could be made."""
        return self.sriov is not None and (self.sriov.total_vfs > 0 or bool(self.sriov.vfs))

    @property
    def vf_device_id(self) -> str:
        """The device id of its VFs; its own where the kernel does not say."""
        return (self.sriov.vf_device_id if self.sriov else None) or self.device_id

    @property
    def link(self) -> Link | None:
        """The PCIe link; None if the function has none or it could not be read."""
        link = Link(
            _speed(self.attributes.get("current_link_speed", "")),
            _width(self.attributes.get("current_link_width", "")),
            _speed(self.attributes.get("max_link_speed", "")),
            _width(self.attributes.get("max_link_width", "")),
        )
        return None if link == Link() else link

    @property
    def reset_methods(self) -> tuple[str, ...]:
        """How the kernel can reset it, in the order in which it tries: `flr`, `bus`; none: it cannot."""
        return tuple(self.attributes.get("reset_method", "").split())

    @property
    def vf_reset_methods(self) -> tuple[str, ...]:
        """The same of its VFs, of which the first speaks for all."""
        return tuple(self.attributes.get("virtfn0/reset_method", "").split())

    @property
    def topology(self) -> str | None:
        """The path of device and function numbers from the root bus, without the bus numbers in between.

        So it stays the same when the firmware numbers the buses anew; None if the path is unknown.
        """
        if self.root_bus is None:
            return None
        steps = (address.rpartition(":")[2] for address in (*self.pcie_path, self.address))
        return "/".join((self.root_bus, *steps))

    def names(self, directory: str) -> tuple[str, ...]:
        """Gives the sorted names directly below `directory` of which an attribute was read."""
        start = directory + "/"
        return tuple(sorted({key[len(start) :].split("/", 1)[0] for key in self.attributes if key.startswith(start)}))

    def texts(self, pattern: str) -> Iterator[str]:
        """Gives the texts of the attributes that fit a pattern as `Driver.reads` has it, sorted by path."""
        spelling = re.compile("[^/]*".join(map(re.escape, pattern.split("*"))))
        return (text for path, text in sorted(self.attributes.items()) if spelling.fullmatch(path))


def _speed(text: str) -> float | None:
    """Reads `16.0 GT/s PCIe`, or `8 GT/s` of older kernels; `Unknown` is unknown."""
    match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9])?) GT/s(?: PCIe)?", text)
    return float(match[1]) if match else None


def _width(text: str) -> int | None:
    """Reads a number of lanes; 0, as VFs say, is unknown, and so is 255 of a device that fell off the bus."""
    return int(text) if re.fullmatch("[0-9]{1,2}", text) and 0 < int(text) <= 32 else None
