# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Gives every described function its address, its path and its group."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from .description import Address, Device, Host, RootBus, VirtualFunctions
from .node import DescriptionError


@dataclass(frozen=True)
class Function:
    """A function at its place; a VF has its PF's device and its own index."""

    address: Address
    path: str
    node: int
    device: Device
    driver: str | None
    secondary: int | None = None
    subordinate: int | None = None
    virtfns: tuple[Address, ...] = ()
    vf_offset: int = 0
    physfn: Address | None = None
    vf_index: int = 0
    shares_with: Address | None = None
    group: int | None = None

    def named(self, template: str) -> str:
        """Returns the template with the function's own numbers in it.

        A VF is named by its PF's address and its index, as udev does: enp59s0f1v3.
        """
        place = self.physfn or self.address
        return template.format(
            address=self.address,
            domain=place.domain,
            bus=place.bus,
            slot=place.slot,
            function=place.function,
            vf=self.vf_index,
        )


@dataclass(frozen=True)
class _Bus:
    """A bus while it is being filled, and what its devices inherit."""

    domain: int
    number: int
    path: str
    node: int
    owner: Address | None = None

    def address(self, devfn: int) -> Address:
        return Address(self.domain, self.number, devfn)


@dataclass(frozen=True)
class _Spot:
    """A device at an address, before the buses behind it are numbered."""

    address: Address
    device: Device
    port: int

    def vf_offset(self, vfs: VirtualFunctions) -> int:
        """Returns the first VF's distance from this one of the ports.

        A stride over all ports interleaves their VFs, any other has them follow each other.
        """
        if vfs.stride >= self.device.functions:
            return vfs.offset
        return vfs.offset + self.port * (vfs.total * vfs.stride - 1)

    def virtfns(self, how_many: int) -> Iterator[Address]:
        vfs = self.device.vfs
        if vfs is not None:
            offset = self.vf_offset(vfs)
            yield from (self.address.plus(offset + vfs.stride * index) for index in range(how_many))


def place(host: Host) -> tuple[Function, ...]:
    """Returns all functions of the host in the order of their addresses."""
    placer = _Placer()
    for root in host.root_buses:
        placer.root_bus(root, "sys/devices", root.node, None)
    functions = tuple(sorted(placer.functions, key=lambda function: function.address.order))
    for one, other in pairwise(functions):
        if one.address == other.address:
            raise DescriptionError(host.name, f"two functions at {one.address}")
    return tuple(_grouped(functions, host.name)) if host.iommu else functions


class _Placer:
    """Walks the buses depth first, numbering them as firmware does."""

    def __init__(self) -> None:
        self.functions: list[Function] = []

    def root_bus(self, root: RootBus, parent: str, node: int, owner: Address | None) -> None:
        path = f"{parent}/pci{root.domain:04x}:{root.bus:02x}"
        self._fill(_Bus(root.domain, root.bus, path, node, owner), root.devices)

    def _fill(self, bus: _Bus, devices: Sequence[Device]) -> int:
        """Places the devices and returns the highest bus number in use."""
        spots = tuple(_spots(bus, devices))
        # Buses for all VFs that could be enabled are set aside before those behind bridges are numbered.
        highest = max((spot.address.bus for spot in _reserved(spots)), default=bus.number)
        for spot in spots:
            highest = max(highest, self._add(bus, spot, highest))
        if highest > 0xFF:
            raise DescriptionError(bus.path, "more buses than a domain has")
        return highest

    def _add(self, bus: _Bus, spot: _Spot, highest: int) -> int:
        path = f"{bus.path}/{spot.address}"
        function = Function(spot.address, path, bus.node, spot.device, spot.device.driver, shares_with=bus.owner)
        if spot.device.iommu_with is not None:
            function = replace(function, shares_with=bus.address(spot.device.iommu_with))
        if spot.device.is_bridge:
            secondary = spot.device.bus if spot.device.bus is not None else highest + 1
            highest = self._fill(replace(bus, number=secondary, path=path), spot.device.behind)
            function = replace(function, secondary=secondary, subordinate=highest)
        if spot.device.root_bus:
            self.root_bus(spot.device.root_bus, path, bus.node, spot.address)
        self._add_virtfns(bus, spot, function)
        return highest

    def _add_virtfns(self, bus: _Bus, spot: _Spot, function: Function) -> None:
        vfs = spot.device.vfs
        if vfs is None:
            self.functions.append(function)
            return
        virtfns = tuple(spot.virtfns(vfs.count))
        self.functions.append(replace(function, virtfns=virtfns, vf_offset=spot.vf_offset(vfs)))
        for index, address in enumerate(virtfns):
            # The kernel hangs a VF beside its PF, also where its bus number is a higher one.
            path = f"{bus.path}/{address}"
            driver = vfs.drivers.get(index)
            self.functions.append(
                Function(address, path, bus.node, spot.device, driver, physfn=spot.address, vf_index=index)
            )


def _spots(bus: _Bus, devices: Sequence[Device]) -> Iterator[_Spot]:
    slot = 0
    for device in devices:
        if device.at is not None:
            slot = device.at >> 3
        for _ in range(device.count):
            first = slot << 3 | (device.at or 0) & 7
            for port in range(device.functions):
                yield _Spot(_checked(bus, first + port), device, port)
            slot += 1


def _checked(bus: _Bus, devfn: int) -> Address:
    if bus.number > 0xFF or devfn > 0xFF:
        raise DescriptionError(bus.path, f"no room for {bus.number:02x}:{devfn >> 3:02x}.{devfn & 7}")
    return bus.address(devfn)


def _reserved(spots: Sequence[_Spot]) -> Iterator[_Spot]:
    for spot in spots:
        yield spot
        for address in spot.virtfns(spot.device.vfs.total if spot.device.vfs else 0):
            yield replace(spot, address=address)


def _grouped(functions: Sequence[Function], host: str) -> Iterator[Function]:
    # VFs get their groups when they are enabled, long after those found at boot.
    numbers: dict[Address, int] = {}
    for function in sorted(functions, key=lambda function: function.physfn is not None):
        if function.shares_with is None:
            numbers[function.address] = len(numbers)
    for function in functions:
        leader = function.shares_with or function.address
        if leader not in numbers:
            raise DescriptionError(host, f"{function.address} shares its group with {leader}, which has none")
        yield replace(function, group=numbers[leader])
