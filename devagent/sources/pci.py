# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Scans the PCI functions in two phases: every function by its uevent, details only where wanted.

One `uevent` gives ids, class and driver in one read from the kernel's memory:

    DRIVER=mlx5_core
    PCI_CLASS=20000
    PCI_ID=15B3:101D
    PCI_SUBSYS_ID=15B3:0083
    PCI_SLOT_NAME=0000:5e:00.0
    MODALIAS=pci:v000015B3d0000101Dsv000015B3sd00000083bc02sc00i00

VFs are found by their PF's virtfnN links, which costs one link per VF. `sriov_numvfs` is never read:
it waits for the PF's device lock, for ever if VFs are being removed from under a virtual machine.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from devagent.errors import Unreadable
from devagent.model.pci import Function, Sriov, VirtualFunction, is_address
from devagent.model.snapshot import Problem
from devagent.sources.host import Tree

DEVICES: Final = "sys/bus/pci/devices"
SOURCE: Final = "pci"

Reads = Callable[[Function], frozenset[str] | None]
"""Tells which further attributes are wanted of a function; None: no details at all."""

# In the kernel's own order (drivers/base/core.c, drivers/pci/pci-driver.c); DRIVER only if one is bound.
_UEVENT: Final = re.compile(
    r"(?:DRIVER=(\S+)\n)?PCI_CLASS=([0-9A-Fa-f]{1,6})\n"
    r"PCI_ID=([0-9A-Fa-f]{4}):([0-9A-Fa-f]{4})\nPCI_SUBSYS_ID=([0-9A-Fa-f]{4}):([0-9A-Fa-f]{4})(?:\n|$)"
)
_VIRTFN: Final = re.compile(r"virtfn(0|[1-9][0-9]{0,4})")
# Linux numbers nodes below MAX_NUMNODES (1 << CONFIG_NODES_SHIFT, at most 10); IOMMU groups are an ida.
_MAX_NODE: Final = 1023
_MAX_GROUP: Final = 1 << 30
_MAX_VFS: Final = 0xFFFF
# More files than this for one pattern is no device but a broken tree.
_MAX_MATCHES: Final = 256


def scan(host: Tree, reads: Reads, problems: list[Problem]) -> tuple[dict[str, Function], frozenset[str]]:
    """Gives every PCI function of `host` by address, in bus order, and the addresses of those that are unknown.

    Unknown are functions that are there but do not say what they are; what is amiss goes to `problems`.
    Raises Unreadable if the list of functions itself cannot be read.
    """
    if not host.has(DEVICES):
        return {}, frozenset()
    with host.below(DEVICES) as devices:
        return _Scan(devices, reads, problems).run()


class _Basics(NamedTuple):
    """What phase one knows of a function."""

    vendor_id: str
    device_id: str
    class_code: str
    subsystem_vendor_id: str | None
    subsystem_device_id: str | None
    driver: str | None
    iommu_group: int | None


class _Scan:
    """One scan: what has been found so far."""

    def __init__(self, devices: Tree, reads: Reads, problems: list[Problem]) -> None:
        self.devices, self.reads, self.problems = devices, reads, problems
        self.basics: dict[str, _Basics] = {}
        self.physfn: dict[str, str] = {}
        self.unread: dict[str, set[str]] = {}
        self.unknown: set[str] = set()

    def run(self) -> tuple[dict[str, Function], frozenset[str]]:
        for address in self._addresses():
            basics = self._identify(address)
            if basics is not None:
                self.basics[address] = basics
        functions: dict[str, Function] = {}
        for address, basics in self.basics.items():
            physfn = self.physfn.get(address)
            function = Function(address, *basics, physfn=physfn)
            functions[address] = function if physfn or function.is_bridge else self._detail(function)
        # A VF's routing id is above its PF's, so its PF came before it; if the tree says otherwise, it is a VF still.
        for address, pf in self.physfn.items():
            if functions[address].physfn is None:
                functions[address] = replace(functions[address], physfn=pf)
        for address in self.unread.keys() & functions.keys():
            functions[address] = replace(functions[address], unread=frozenset(self.unread[address]))
        return functions, frozenset(self.unknown)

    def _addresses(self) -> list[str]:
        addresses = []
        for name in self.devices.names():
            if is_address(name):
                addresses.append(name)
            else:
                self._problem(None, f"{DEVICES}/{name!r} is not a PCI address; left out")
        # Bus order: hex digits of fixed width, and only a domain above ffff has more of them.
        return sorted(addresses, key=lambda address: (len(address), address))

    def _identify(self, address: str) -> _Basics | None:
        """Phase one: a function by its uevent alone, or by single files where that is missing or odd."""
        match = _UEVENT.match(self._text(address, "uevent"))
        if match is None:
            return self._identify_slowly(address)
        driver, class_code, vendor, device, subvendor, subdevice = match.groups()
        class_code = class_code.lower().zfill(6)
        group = self._group(address)
        return _Basics(vendor.lower(), device.lower(), class_code, subvendor.lower(), subdevice.lower(), driver, group)

    def _identify_slowly(self, address: str) -> _Basics | None:
        vendor, device = self._hex(address, "vendor"), self._hex(address, "device")
        class_code = self._hex(address, "class", digits=6)
        if vendor is None or device is None or class_code is None:
            if self.devices.has(address):  # else it was unplugged while we looked: nothing is wrong
                self._problem(address, "has no readable vendor, device and class; left out")
                self.unknown.add(address)
            return None
        subvendor, subdevice = self._hex(address, "subsystem_vendor"), self._hex(address, "subsystem_device")
        driver = _last(self._link(address, "driver"))
        return _Basics(vendor, device, class_code, subvendor, subdevice, driver, self._group(address))

    def _detail(self, function: Function) -> Function:
        """Phase two: what only devices need, read only where a driver wants it."""
        function = replace(function, sriov=self._sriov(function.address))
        patterns = self.reads(function)
        if patterns is None:
            return function
        address = function.address
        physfn = _last(self._link(address, "physfn"))
        root_bus, bridges = self._path(address)
        return replace(
            function,
            physfn=physfn,
            numa_node=self._number(address, "numa_node", -1, _MAX_NODE, unknown=-1),
            root_bus=root_bus,
            pcie_path=bridges,
            attributes={
                path: text for pattern in sorted(patterns) for path, text in self._attributes(address, pattern)
            },
        )

    def _sriov(self, address: str) -> Sriov | None:
        total = self._number(address, "sriov_totalvfs", 0, _MAX_VFS)
        if total is None:
            return None
        device = self._text(address, "sriov_vf_device").lower() or None
        if device is not None and not re.fullmatch("[0-9a-f]{1,4}", device):
            self._unread(address, "sriov_vf_device", f"is {device!r}, not a device id")
            device = None
        return Sriov(total, device.zfill(4) if device else None, tuple(self._vfs(address)))

    def _vfs(self, pf: str) -> Iterator[VirtualFunction]:
        links = {int(m[1]): m[0] for m in map(_VIRTFN.fullmatch, self._names(pf, "")) if m}
        for index, name in sorted(links.items()):
            address = _last(self._link(pf, name)) or ""
            vf = self.basics.get(address)
            if vf is None:  # being created or removed at this very moment, or a broken link
                self._unread(pf, "virtfn", f"{index} leads to no function; left out")
            elif address in self.physfn or address == pf:
                self._unread(pf, "virtfn", f"{index} leads to {address}, which cannot be its VF; left out")
            else:
                self.physfn[address] = pf
                yield VirtualFunction(index, address, vf.driver, vf.iommu_group)

    def _path(self, address: str) -> tuple[str | None, tuple[str, ...]]:
        """Gives the root bus and the bridges above, from ../../../devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0."""
        target = self._link(address, "path", address)
        if target is None:
            return None, ()
        parts = target.split("/")
        root_bus = next((part for part in parts if part.startswith("pci") and ":" in part), None)
        return root_bus, tuple(part for part in parts[:-1] if is_address(part))

    def _attributes(self, address: str, pattern: str) -> Iterator[tuple[str, str]]:
        paths = self._expand(address, "", pattern.split("/"))
        for count, path in enumerate(paths):
            if count == _MAX_MATCHES:
                self._unread(address, pattern, f"matches more than {_MAX_MATCHES} files; the rest left out")
                return
            text = self._try_text(address, path)
            if text is not None:
                yield path, text

    def _expand(self, address: str, start: str, parts: list[str]) -> Iterator[str]:
        head, rest = parts[0], parts[1:]
        names = fnmatch.filter(self._names(address, start), head) if "*" in head else [head]
        for name in names:
            path = f"{start}/{name}" if start else name
            if rest:
                yield from self._expand(address, path, rest)
            else:
                yield path

    def _group(self, address: str) -> int | None:
        name = _last(self._link(address, "iommu_group"))
        if name is None or (name.isascii() and name.isdigit() and int(name) < _MAX_GROUP):
            return None if name is None else int(name)
        self._unread(address, "iommu_group", f"leads to {name!r}, which is no group")
        return None

    def _number(self, address: str, name: str, low: int, high: int, unknown: int | None = None) -> int | None:
        text = self._try_text(address, name)
        if text is None:
            return None
        if re.fullmatch(r"-?[0-9]{1,10}", text) and low <= (number := int(text)) <= high:
            return None if number == unknown else number
        self._unread(address, name, f"is {text[:40]!r}, not a number from {low} to {high}")
        return None

    def _hex(self, address: str, name: str, digits: int = 4) -> str | None:
        """Gives the digits of `0x10de` or `0x030200` in lower case."""
        match = re.fullmatch(f"0x([0-9A-Fa-f]{{{digits}}})", self._text(address, name))
        return match[1].lower() if match else None

    def _text(self, address: str, name: str) -> str:
        return self._try_text(address, name) or ""

    def _try_text(self, address: str, name: str) -> str | None:
        try:
            return self.devices.text(f"{address}/{name}")
        except Unreadable as error:
            self._unread(address, name, error.reason)
            return None

    def _link(self, address: str, name: str, path: str | None = None) -> str | None:
        try:
            return self.devices.link(path or f"{address}/{name}")
        except Unreadable as error:
            self._unread(address, "virtfn" if name.startswith("virtfn") else name, error.reason)
            return None

    def _names(self, address: str, directory: str) -> list[str]:
        try:
            return self.devices.names(f"{address}/{directory}" if directory else address)
        except Unreadable as error:
            # Of the function's own directory only the virtfn links are wanted.
            self._unread(address, directory or "virtfn", error.reason)
            return []

    def _unread(self, address: str, name: str, problem: str) -> None:
        self.unread.setdefault(address, set()).add(name)
        self._problem(address, f"{name} {problem}")

    def _problem(self, device: str | None, problem: str) -> None:
        self.problems.append(Problem(SOURCE, device, problem))


def _last(target: str | None) -> str | None:
    return target.rpartition("/")[2] if target else None
