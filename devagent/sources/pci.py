# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Scans the PCI functions in two phases: every function by its modalias, details only where wanted.

One `modalias` gives ids and class in one read from the kernel's memory, and the link `driver` the rest:

    pci:v000015B3d0000101Dsv000015B3sd00000083bc02sc00i00

`uevent` would give both, but since "drivers: core: synchronize really_probe() and dev_uevent()" some kernels
let its reader wait for the device's lock (seen on Debian's 6.1.176). `sriov_numvfs` always does; the lock is
held while VFs are made or removed, for ever if one is removed from under a virtual machine.

VFs are found by their PF's virtfnN links. Of a PF's first VF the modalias is read too, but not of the others:
the kernel gives all of them the ids of the first (pci_read_vf_config_common in drivers/pci/iov.c), and lists
those that have a driver in the driver's own directory. A VF that is being removed has no links any more, but
stays for as long as somebody holds it: it is told by its routing id.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Final, NamedTuple

from devagent.errors import Unreadable
from devagent.model.pci import Function, Sriov, VirtualFunction, is_address, routed
from devagent.model.snapshot import Problem
from devagent.sources.attributes import attributes
from devagent.sources.function_files import Files, last
from devagent.sources.host import Tree
from devagent.sources.quick import maker
from devagent.sources.stamps import FILE

DEVICES: Final = "sys/bus/pci/devices"
DRIVERS: Final = "sys/bus/pci/drivers"
MDEV_PARENTS: Final = "sys/class/mdev_bus"

Reads = Callable[[Function], frozenset[str] | None]
"""Tells which further attributes are wanted of a function; None: no details at all."""

# drivers/pci/pci-sysfs.c, modalias_show.
_MODALIAS: Final = re.compile(
    "pci:v0000([0-9A-F]{4})d0000([0-9A-F]{4})sv0000([0-9A-F]{4})sd0000([0-9A-F]{4})"
    "bc([0-9A-F]{2})sc([0-9A-F]{2})i([0-9A-F]{2})"
)
_VIRTFN: Final = re.compile("virtfn(?:0|[1-9][0-9]{0,4})")
# Linux numbers nodes below MAX_NUMNODES (1 << CONFIG_NODES_SHIFT, at most 10).
_MAX_NODE: Final = 1023
_MAX_VFS: Final = 0xFFFF
_MANY: Final = 512
# One for all that have none: a dictionary for each would cost a tenth of the scan.
_NO_ATTRIBUTES: Final[Mapping[str, str]] = {}


def scan(
    host: Tree, reads: Reads, problems: list[Problem], stamps: dict[str, object] | None = None
) -> tuple[dict[str, Function], frozenset[str]]:
    """Gives every PCI function of `host` by address, in bus order, and the addresses of those that are unknown.

    Unknown are functions that are there but do not say what they are; what is amiss goes to `problems`, what each
    device was before it was read to `stamps`.
    Raises Unreadable if the list of functions itself cannot be read.
    """
    if not host.has(DEVICES):
        return {}, frozenset()
    with host.below(DEVICES) as devices:
        return Scan(host, devices, reads, problems, {} if stamps is None else stamps).run()


class _Said(NamedTuple):
    """What a function says of what it is."""

    vendor_id: str
    device_id: str
    class_code: str
    subsystem_vendor_id: str | None
    subsystem_device_id: str | None


class Scan(Files):
    """One scan: what has been found so far; a function that does not say what it is is found as None."""

    def __init__(
        self, host: Tree, devices: Tree, reads: Reads, problems: list[Problem], stamps: dict[str, object]
    ) -> None:
        super().__init__(host, devices, problems)
        self.reads, self.stamps = reads, stamps
        self.mdev_parents = frozenset(self.on_host(MDEV_PARENTS) or ())
        self.addresses = self.listed()
        self.there = set(self.addresses)
        self.make: Callable[..., Function] = maker(Function) if len(self.addresses) > _MANY else Function
        self.found: dict[str, Function | None] = {}
        self.vfs: set[str] = set()
        self.unknown: set[str] = set()

    def run(self) -> tuple[dict[str, Function], frozenset[str]]:
        """Gives the functions in bus order, and the addresses of those that are unknown."""
        self._read(self.addresses)
        self._read(self.related())
        self._find_going()
        if len(self.found) > len(self.addresses):  # VFs were made while we looked
            self.addresses = in_bus_order(self.found)
        functions = {address: function for address in self.addresses if (function := self.found[address]) is not None}
        for address in self.unread.keys() & functions.keys():
            functions[address] = replace(functions[address], unread=frozenset(self.unread[address]))
        return functions, frozenset(self.unknown)

    def _read(self, addresses: Iterable[str]) -> None:
        """Reads these functions, which stand in bus order: a VF's routing id is above its PF's, which finds it."""
        for address in addresses:
            if address not in self.found:
                function = self._function(address)
                self.found[address] = function if function is None or function.is_bridge else self._detail(function)

    def related(self) -> Iterable[str]:
        """Gives what else is to be read, once the rest is: nothing, where that is all."""
        return ()

    def listed(self) -> list[str]:
        """Gives the addresses of what is to be read, in bus order."""
        names = self.devices.names()
        addresses = [name for name in names if is_address(name)]
        for name in names if len(addresses) < len(names) else ():
            if not is_address(name):
                self.problem(None, f"{DEVICES}/{name!r} is not a PCI address; left out")
        return sorted(addresses, key=len)  # the names come sorted: now they are in bus order

    def _function(self, address: str, physfn: str | None = None) -> Function | None:
        """Phase one: a function by its modalias, or by single files where that is missing or odd."""
        self.stamps[address] = self.devices.stamp(f"{address}/{FILE}")
        match = _MODALIAS.fullmatch(self.text(address, "modalias"))
        said = self._said_slowly(address) if match is None else _said(match)
        if said is None:
            return None
        driver, group = self.driver(address), self.group(address)
        return self.make(address, *said, driver, group, physfn=physfn, attributes=_NO_ATTRIBUTES)

    def _said_slowly(self, address: str) -> _Said | None:
        vendor, device = self.hex(address, "vendor"), self.hex(address, "device")
        class_code = self.hex(address, "class", digits=6)
        if vendor is None or device is None or class_code is None:
            if self.devices.has(address):  # else it was unplugged while we looked: nothing is wrong
                self.problem(address, "has no readable vendor, device and class; left out")
                self.unknown.add(address)
            return None
        subvendor, subdevice = self.hex(address, "subsystem_vendor"), self.hex(address, "subsystem_device")
        return _Said(vendor, device, class_code, subvendor, subdevice)

    def _detail(self, function: Function) -> Function:
        """Phase two: what only devices need, read only where a driver wants it."""
        sriov = self._sriov(function)
        parents = {function.address, *(vf.address for vf in (sriov.vfs if sriov else ()))} & self.mdev_parents
        # They were listed before the function was stamped.
        is_parent = any(self.host.has(f"{MDEV_PARENTS}/{each}") for each in parents)
        function = replace(function, sriov=sriov, mdev_parent=is_parent)
        patterns = self.reads(function)
        if patterns is None:
            return function
        address = function.address
        physfn = last(self.link(address, "physfn"))
        root_bus, bridges = self.place(address)
        found = attributes(
            self.devices, address, patterns, lambda name, error: self.note_unread(address, name, error.reason)
        )
        if found.get("boot_vga", "0") not in ("0", "1"):
            self.note_unread(address, "boot_vga", f"is {found['boot_vga'][:40]!r}, neither 0 nor 1")
        return replace(
            function,
            detailed=True,
            physfn=physfn,
            numa_node=self.number(address, "numa_node", -1, _MAX_NODE, unknown=-1),
            root_bus=root_bus,
            pcie_path=bridges,
            attributes=found,
        )

    def _sriov(self, pf: Function) -> Sriov | None:
        address = pf.address
        total = self.number(address, "sriov_totalvfs", 0, _MAX_VFS)
        if total is None:
            if self.link(address, "virtfn0") is not None or "virtfn0" in self.unread.get(address, ()):
                self.note_unread(address, "sriov_totalvfs", "is missing or unread, though there are VFs")
            return None
        device = self.text(address, "sriov_vf_device").lower() or None
        if device is not None and not re.fullmatch("[0-9a-f]{1,4}", device):
            self.note_unread(address, "sriov_vf_device", f"is {device!r}, not a device id")
            device = None
        return Sriov(total, device.zfill(4) if device else None, tuple(self._vfs(pf)))

    def _find_going(self) -> None:
        """Finds the VFs that are being removed while somebody holds them: their links have gone first."""
        functions = [each for each in self.found.values() if each is not None and each.physfn is None]
        pfs = [(each, each.sriov.vf_device_id) for each in functions if each.sriov and each.sriov.vf_device_id]
        ids = {(pf.vendor_id, device) for pf, device in pfs}
        orphans = {each.address: each for each in functions if (each.vendor_id, each.device_id) in ids}
        orphans = {address: each for address, each in orphans.items() if each.sriov is None}
        for pf, device in pfs if orphans else ():
            for index, address in self._places(pf):
                vf = orphans.get(address)
                if vf is not None and (vf.vendor_id, vf.device_id) == (pf.vendor_id, device):
                    self.found[address] = replace(vf, physfn=pf.address)
                    text = f"{index} is gone, but {address} is still there: it is in use"
                    self.note_unread(pf.address, "virtfn", text)

    def _places(self, pf: Function) -> Iterator[tuple[int, str]]:
        """Gives the addresses that the VFs of a PF can have, by their indexes."""
        offset, stride = (self.number(pf.address, f"sriov_{name}", 0, _MAX_VFS) for name in ("offset", "stride"))
        for index in range(pf.sriov.total_vfs if pf.sriov and offset else 0):
            yield index, routed(pf.address, (offset or 0) + index * (stride or 0))

    def _vfs(self, pf: Function) -> Iterator[VirtualFunction]:
        like, listed = None, True
        for index, address in self._virtfns(pf.address):
            vf = self.found[address] = self._vf(address, pf, like)
            if vf is None:
                if self.devices.has(address):  # else it went away at this very moment: nothing is wrong
                    self.note_unread(pf.address, "virtfn", f"{index} leads to no function; left out")
                continue
            self.vfs.add(address)
            yield VirtualFunction(index, address, vf.driver, vf.iommu_group)
            if like is None and listed:
                listed = self._are_listed(pf, vf)
                like = vf if listed else None

    def _vf(self, address: str, pf: Function, like: Function | None) -> Function | None:
        """Gives a VF with the ids of the one that it is `like`; a driver or a group proves that it is there."""
        if address in self.found:  # before its PF, which no kernel does
            before = self.found[address]
            return before and replace(before, physfn=pf.address)
        if like is None:
            return self._function(address, pf.address)
        driver = self.driver(address) if self.bound is None else self.bound.get(address)
        group = self.group(address)
        if driver is None and group is None:
            return self._function(address, pf.address)
        return self.make(
            address,
            like.vendor_id,
            like.device_id,
            like.class_code,
            like.subsystem_vendor_id,
            like.subsystem_device_id,
            driver,
            group,
            physfn=pf.address,
            attributes=_NO_ATTRIBUTES,
        )

    def _are_listed(self, pf: Function, vf: Function) -> bool:
        """Tells whether the drivers' directories say the same as the links; in some captures they are missing."""
        bound = self.bound
        return bound is None or (pf.driver is not None and all(bound.get(e.address) == e.driver for e in (pf, vf)))

    @cached_property
    def bound(self) -> Mapping[str, str] | None:
        """The driver of each function that has one: in the driver's directory is a link called like the function.

        None: the directories are not read, but each VF's own link.
        """
        drivers = {name: self.on_host(f"{DRIVERS}/{name}", "*:*.*") for name in self.on_host(DRIVERS) or ()}
        if None in drivers.values():
            return {}
        return {address: name for name, addresses in drivers.items() for address in addresses or ()}

    def _virtfns(self, pf: str) -> Iterator[tuple[int, str]]:
        """Gives the VFs in the order of their indexes: virtfn0 -> ../0000:3b:00.2 and so on."""
        try:
            with self.devices.below(pf) as folder:
                names = [name for name in folder.names(pattern="virtfn*") if _VIRTFN.fullmatch(name)]
                for index, name in sorted((int(name[len("virtfn") :]), name) for name in names):
                    try:
                        address = (folder.link(name) or "").rpartition("/")[2]
                    except Unreadable as error:
                        self.note_unread(pf, "virtfn", error.reason)
                        continue
                    if address not in self.there and is_address(address) and self.devices.has(address):
                        self.there.add(address)  # made since the functions were listed
                    if address not in self.there:
                        if folder.has(name):  # else it was removed at this very moment: nothing is wrong
                            self.note_unread(pf, "virtfn", f"{index} leads to no function; left out")
                    elif address in self.vfs or address == pf:
                        self.note_unread(pf, "virtfn", f"{index} leads to {address}, which cannot be its VF; left out")
                    else:
                        yield index, address
        except Unreadable as error:
            self.note_unread(pf, "virtfn", error.reason)


def _said(match: re.Match[str]) -> _Said:
    vendor, device, subvendor, subdevice, *class_code = (text.lower() for text in match.groups())
    return _Said(vendor, device, "".join(class_code), subvendor, subdevice)


def in_bus_order(addresses: Iterable[str]) -> list[str]:
    """Sorts addresses: hex digits of fixed width, and only a domain above ffff has more of them."""
    return sorted(addresses, key=lambda address: (len(address), address))
