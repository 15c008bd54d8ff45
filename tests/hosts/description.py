# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a host description may say, as frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Address:
    """A PCI address; VFs are found by adding to it as hardware does."""

    domain: int
    bus: int
    devfn: int

    def __str__(self) -> str:
        """Returns the address as sysfs names it, 0000:3b:00.1."""
        return f"{self.domain:04x}:{self.bus:02x}:{self.slot:02x}.{self.function}"

    @property
    def slot(self) -> int:
        """The device number on the bus."""
        return self.devfn >> 3

    @property
    def function(self) -> int:
        """The function number in the slot."""
        return self.devfn & 7

    @property
    def order(self) -> tuple[int, int, int]:
        """The key that sorts addresses as the kernel enumerates them."""
        return (self.domain, self.bus, self.devfn)

    def plus(self, routing: int) -> "Address":
        """Returns the address whose routing id is that much higher."""
        total = (self.bus << 8 | self.devfn) + routing
        return Address(self.domain, total >> 8, total & 0xFF)


@dataclass(frozen=True)
class VirtualFunctions:
    """The SR-IOV capability of a PF and the VFs that are enabled."""

    total: int
    device: int
    count: int
    offset: int
    stride: int
    drivers: Mapping[int, str]
    net: str | None
    attributes: Mapping[str, str]


@dataclass(frozen=True)
class Disk:
    """A block device of an NVMe or virtio function."""

    name: str
    partitions: int


@dataclass(frozen=True)
class Port:
    """A DFL port that its card's PF still holds; a disabled one has no afu_id to read."""

    number: int
    afu_id: str | None


@dataclass(frozen=True)
class Dfl:
    """A DFL card: its FME, one reconfigurable region, and the PF's ports."""

    bitstream_id: str
    bitstream_metadata: str
    compat_id: str
    ports_num: int
    ports: tuple[Port, ...]


@dataclass(frozen=True)
class FpgaManager:
    """An fpga_manager directly on a function, such as altera-cvp makes."""

    name: str
    state: str
    status: str


@dataclass(frozen=True)
class Mdev:
    """What a parent, or with `vfs` each of its VFs, can make: files by type; and the devices, by UUID their type.

    With `vfs` each VF carries one of the devices.
    """

    types: Mapping[str, Mapping[str, str]]
    devices: Mapping[str, str]
    vfs: bool


@dataclass(frozen=True)
class KfdNode:
    """A node of KFD's topology: a GPU or a partition of it, and the nodes it has links to; a CPU has no address."""

    name: str
    address: Address | None
    partition: int
    gfx_version: int
    xccs: int
    render_minor: int
    unique_id: int
    hive_id: int
    xgmi: tuple[int, ...]
    pcie: tuple[int, ...]


@dataclass(frozen=True)
class Device:
    """One line of the PCI tree: a function, a slot of them, or a bridge."""

    vendor: int
    device: int
    subsystem_vendor: int
    subsystem_device: int
    class_code: int
    revision: int
    at: int | None
    count: int
    functions: int
    driver: str | None
    driver_override: str | None
    link_speed: str
    link_width: int
    reset: tuple[str, ...]
    boot_vga: bool
    iommu_with: int | None
    attributes: Mapping[str, str]
    net: tuple[str, ...]
    disk: Disk | None
    vfs: VirtualFunctions | None
    dfl: Dfl | None
    fpga_manager: FpgaManager | None
    mdev: Mdev | None
    bus: int | None
    behind: tuple["Device", ...]
    root_bus: "RootBus | None"

    @property
    def is_bridge(self) -> bool:
        """Whether a bus lies behind the function."""
        return self.class_code >> 8 == 0x0604

    @property
    def is_display(self) -> bool:
        """Whether the kernel gives the function a boot_vga file."""
        return self.class_code >> 8 == 0x0300


@dataclass(frozen=True)
class RootBus:
    """A root bus, its NUMA node, and what is plugged into it."""

    domain: int
    bus: int
    node: int
    devices: tuple[Device, ...]


@dataclass(frozen=True)
class Route:
    """The default route, and the network of the interface it leaves by."""

    interface: str
    address: str
    gateway: str
    gateway6: str | None


@dataclass(frozen=True)
class Host:
    """A whole described host."""

    name: str
    hostname: str
    kernel: str
    machine_id: str
    boot_id: str
    compute_id: str | None
    iommu: bool
    nodes: tuple[str, ...]
    drivers: tuple[str, ...]
    root: str | None
    bonds: Mapping[str, tuple[str, ...]]
    route: Route | None
    kfd: tuple[KfdNode, ...]
    nvml: Mapping[str, Mapping[str, object]]
    files: Mapping[str, str]
    root_buses: tuple[RootBus, ...]
