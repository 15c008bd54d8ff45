# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Finds who has devices open, by the links in /proc/PID/fd. No device is ever opened: that alone excludes others.

    /proc/4711/fd/38 -> /dev/vfio/12                a group: every function in /sys/kernel/iommu_groups/12
    /proc/4711/fd/39 -> /dev/vfio/devices/vfio3     /sys/class/vfio-dev/vfio3
    /proc/815/fd/7   -> /dev/nvidia0                "Device Minor" in /proc/driver/nvidia/gpus/ADDRESS/information
    /proc/815/fd/9   -> /dev/dri/renderD128         /sys/class/drm/renderD128

What else a process has open is nobody's business: it is searched unrecorded, and a capture gets the links
to devices alone.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import Final

from devagent.errors import Unreadable
from devagent.model.pci import is_address
from devagent.model.snapshot import Problem
from devagent.model.user import User
from devagent.sources.apart import Ask, Look
from devagent.sources.device_path import pci_address
from devagent.sources.host import Tree

SOURCE: Final = "processes"
_LIMIT: Final = 2.0

_GROUPS: Final = "sys/kernel/iommu_groups"
_NVIDIA: Final = "proc/driver/nvidia/gpus"
_VDPA: Final = "sys/bus/vdpa/devices"
_CLASSES: Final = "sys/class"
# QEMU's command line is some ten kilobytes long; what matters stands near its beginning.
_COMMAND_LINE: Final = 1 << 16

_GONE: Final = ("no such process", "no such file or directory")

Found = list[tuple[str, User]]


def look(host: Tree, problems: list[Problem]) -> Look:
    """Asks each process; the answers are lists of (address, User), None for one that may not be looked at."""

    @contextmanager
    def opened(tree: Tree) -> Iterator[Ask]:
        nodes = _Nodes(tree)
        yield lambda pid: _ask(tree, pid, nodes)

    pids: list[str] = []
    try:
        pids = [name for name in host.unrecorded.names("proc") if re.fullmatch("[0-9]{1,10}", name)]
    except Unreadable as error:
        with suppress(Unreadable):
            host.names("proc")  # so that a capture knows it, too
        problems.append(Problem(SOURCE, None, f"{error}: who uses the devices is unknown"))
    return Look(SOURCE, tuple(sorted(pids, key=int)), opened, _LIMIT)


def _ask(tree: Tree, pid: str, nodes: _Nodes) -> Found | None:
    try:
        opened = _opened(tree, pid, nodes)
        return _users(tree, pid, opened) if opened else []
    except Unreadable as error:
        if error.denied:
            nodes.note_hidden(pid)
            return None
        if error.reason in _GONE:
            return []
        raise


def _opened(tree: Tree, pid: str, nodes: _Nodes) -> dict[str, tuple[str, ...]]:
    """Gives the device nodes that a process has open, with the addresses of the functions behind each."""
    opened = {}
    for name in tree.unrecorded.names(f"proc/{pid}/fd"):
        path = f"proc/{pid}/fd/{name}"
        target = tree.unrecorded.link(path)
        if target is None or not target.startswith("/dev/") or target in opened:
            continue
        addresses = nodes.behind(target)
        if addresses and tree.link(path) == target:
            opened[target] = addresses
    return opened


def _users(tree: Tree, pid: str, opened: dict[str, tuple[str, ...]]) -> Found:
    command = tree.text(f"proc/{pid}/comm") or "?"
    instance, domain = _machine(tree, pid) if command.startswith(("qemu", "kvm")) else (None, None)
    return [
        (address, User(int(pid), command, node, instance, domain))
        for node, addresses in opened.items()
        for address in addresses
    ]


def _machine(tree: Tree, pid: str) -> tuple[str | None, str | None]:
    """Gives UUID and name of the virtual machine that this QEMU runs, and keeps nothing else in a capture."""
    path = f"proc/{pid}/cmdline"
    data = tree.unrecorded.data(path, _COMMAND_LINE) or b""
    arguments = data.decode("utf-8", "replace").split("\0")
    found = {option: value for option, value in pairwise(arguments) if option in _OPTIONS}
    instance, domain = _uuid(found.get("-uuid", "")), guest(found.get("-name", ""))
    kept = ("-name", named(domain)) if domain else ()
    tree.keep(path, "\0".join((*kept, *(("-uuid", instance) if instance else ()))))
    return instance, domain


_OPTIONS: Final = ("-uuid", "-name")


def _uuid(text: str) -> str | None:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None


def guest(text: str) -> str | None:
    """Gives the name in `guest=instance-0000001a,debug-threads=on`, or `instance-0000001a`; `,,` is a comma."""
    parts = [part.replace("\0", ",") for part in text.replace(",,", "\0").split(",")]
    name = next((part.removeprefix("guest=") for part in parts if part.startswith("guest=")), None)
    return name or (parts[0] if "=" not in parts[0] else None) or None


def named(name: str) -> str:
    """Gives the argument of QEMU's `-name` that `guest` understands."""
    return "guest=" + name.replace(",", ",,")


class _Nodes:
    """Device nodes by path, each followed once."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.known: dict[str, tuple[str, ...]] = {}
        self.minors: dict[str, str] | None = None
        self.noted = False

    def note_hidden(self, pid: str) -> None:
        """Lets a capture know of one process that may not be looked at, so that it says so, too."""
        if not self.noted:
            self.noted = True
            with suppress(Unreadable):
                self.tree.names("proc", pid)
                self.tree.names(f"proc/{pid}/fd")

    def behind(self, node: str) -> tuple[str, ...]:
        """Gives the addresses of the PCI functions behind `node`; none if it is no device of this kind."""
        node = node.removesuffix(" (deleted)")
        if node not in self.known:
            self.known[node] = ()
            for pattern, follow in _FOLLOW.items():
                if match := re.fullmatch(pattern, node):
                    with suppress(Unreadable):
                        self.known[node] = tuple(follow(self, match[1]))
                    break
        return self.known[node]

    def group(self, number: str) -> Iterable[str]:
        """Follows a VFIO group: its functions, and the parents of its mediated devices."""
        for name in self.tree.names(f"{_GROUPS}/{number}/devices"):
            yield from (name,) if is_address(name) else self.path(f"{_GROUPS}/{number}/devices/{name}")

    def nvidia(self, minor: str) -> Iterable[str]:
        """Follows /dev/nvidiaN by what the driver says of each GPU."""
        if self.minors is None:
            self.minors = {}
            for address in self.tree.names(_NVIDIA):
                text = self.tree.file(f"{_NVIDIA}/{address}/information") or ""
                match = re.search(r"^Device Minor:\s*([0-9]+)$", text, re.MULTILINE)
                if match:
                    self.minors[match[1]] = address.lower()
        return (self.minors[minor],) if minor in self.minors else ()

    def vdpa(self, name: str) -> Iterable[str]:
        """Follows /dev/vhost-vdpa-N, which is a child of its vDPA device."""
        for device in self.tree.names(_VDPA):
            if self.tree.has(f"{_VDPA}/{device}/{name}"):
                return self.path(f"{_VDPA}/{device}")
        return ()

    def any_class(self, name: str) -> Iterable[str]:
        """Follows a node of a vendor's own driver, whose class can have any name."""
        for folder in self.tree.names(_CLASSES):
            if addresses := self.path(f"{_CLASSES}/{folder}/{name}"):
                return addresses
        return ()

    def path(self, link: str) -> tuple[str, ...]:
        """Gives the last PCI address in the path that a link of sysfs leads to."""
        address = pci_address(self.tree.link(link))
        return () if address is None else (address,)


def _in(folder: str) -> Callable[[_Nodes, str], Iterable[str]]:
    return lambda nodes, name: nodes.path(f"{folder}/{name}")


_FOLLOW: Final[dict[str, Callable[[_Nodes, str], Iterable[str]]]] = {
    r"/dev/vfio/(?:noiommu-)?([0-9]+)": _Nodes.group,
    r"/dev/vfio/devices/(vfio[0-9]+)": _in(f"{_CLASSES}/vfio-dev"),
    r"/dev/nvidia([0-9]+)": _Nodes.nvidia,
    r"/dev/dri/(card[0-9]+|renderD[0-9]+)": _in(f"{_CLASSES}/drm"),
    r"/dev/accel/(accel[0-9]+)": _in(f"{_CLASSES}/accel"),
    r"/dev/(dfl-(?:fme|port)\.[0-9]+)": _in("sys/bus/platform/devices"),
    r"/dev/(nvme[0-9]+)": _in(f"{_CLASSES}/nvme"),
    r"/dev/(nvme[0-9]+n[0-9]+(?:p[0-9]+)?)": _in(f"{_CLASSES}/block"),
    r"/dev/infiniband/(uverbs[0-9]+)": _in(f"{_CLASSES}/infiniband_verbs"),
    r"/dev/(vhost-vdpa-[0-9]+)": _Nodes.vdpa,
    r"/dev/((?:xclmgmt|davinci|hl|neuron)[0-9]+)": _Nodes.any_class,
}
