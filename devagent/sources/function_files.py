# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads single files and links of PCI functions, and notes what is there and cannot be read or understood."""

from __future__ import annotations

import re
from typing import Final

from devagent.errors import Unreadable
from devagent.model.pci import is_address
from devagent.model.snapshot import Problem
from devagent.sources.host import Tree

SOURCE: Final = "pci"

# IOMMU groups are an ida.
_MAX_GROUP: Final = 1 << 30


class Files:
    """The files of the functions below `devices`; `unread` are by address the names of what could not be read."""

    def __init__(self, host: Tree, devices: Tree, problems: list[Problem]) -> None:
        self.host, self.devices, self.problems = host, devices, problems
        self.unread: dict[str, set[str]] = {}

    def place(self, address: str) -> tuple[str | None, tuple[str, ...]]:
        """Gives the root bus and the bridges above, from ../../../devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0."""
        target = self.link(address, "path", address)
        if target is None:
            return None, ()
        parts = target.split("/")
        root_bus = next((part for part in parts if part.startswith("pci") and ":" in part), None)
        return root_bus, tuple(part for part in parts[:-1] if is_address(part))

    def driver(self, address: str) -> str | None:
        """Gives the kernel driver that is bound; None if none is, or it is unread."""
        target = self.link(address, "driver")
        if target is None:
            return None
        name = target.rpartition("/")[2]
        if name in ("", ".", ".."):
            self.note_unread(address, "driver", f"leads to {target!r}, which is no driver")
            return None
        return name

    def group(self, address: str) -> int | None:
        """Gives the number of the IOMMU group; None if it has none, or it is unread."""
        try:
            target = self.devices.link(f"{address}/iommu_group")
        except Unreadable as error:
            self.note_unread(address, "iommu_group", error.reason)
            return None
        if target is None:
            return None
        name = target.rpartition("/")[2]
        if re.fullmatch("[0-9]{1,10}", name) and (group := int(name)) < _MAX_GROUP:
            return group
        self.note_unread(address, "iommu_group", f"leads to {name!r}, which is no group")
        return None

    def number(self, address: str, name: str, low: int, high: int, unknown: int | None = None) -> int | None:
        """Gives a decimal number from `low` to `high`; None if it is absent, unread, or the one that is `unknown`."""
        text = self.text_or_none(address, name)
        if text is None:
            return None
        if re.fullmatch(r"-?[0-9]{1,10}", text) and low <= (number := int(text)) <= high:
            return None if number == unknown else number
        self.note_unread(address, name, f"is {text[:40]!r}, not a number from {low} to {high}")
        return None

    def hex(self, address: str, name: str, digits: int = 4) -> str | None:
        """Gives the digits of `0x10de` or `0x030200` in lower case."""
        match = re.fullmatch(f"0x([0-9A-Fa-f]{{{digits}}})", self.text(address, name))
        return match[1].lower() if match else None

    def text(self, address: str, name: str) -> str:
        """Gives a file's text; empty if it is absent or unread."""
        return self.text_or_none(address, name) or ""

    def text_or_none(self, address: str, name: str) -> str | None:
        """Gives a file's text; None if it is absent or unread."""
        try:
            return self.devices.text(f"{address}/{name}")
        except Unreadable as error:
            self.note_unread(address, name, error.reason)
            return None

    def link(self, address: str, name: str, path: str | None = None) -> str | None:
        """Gives what the link `name` (or the one at `path`) says; None if it is absent or unread."""
        try:
            return self.devices.link(path or f"{address}/{name}")
        except Unreadable as error:
            self.note_unread(address, name, error.reason)
            return None

    def on_host(self, path: str, pattern: str = "*") -> list[str] | None:
        """Lists a directory of the host that is no function's; None if it is unread."""
        try:
            return self.host.names(path, pattern)
        except Unreadable as error:
            self.problem(None, str(error))
            return None

    def note_unread(self, address: str, name: str, problem: str) -> None:
        """Notes that `name` of a function is there, and what is wrong with it."""
        self.unread.setdefault(address, set()).add(name)
        self.problem(address, f"{name} {problem}")

    def problem(self, device: str | None, problem: str) -> None:
        """Notes a problem of a function, or of the host."""
        self.problems.append(Problem(SOURCE, device, problem))


def last(target: str | None) -> str | None:
    """Gives what a link leads to, without the way there."""
    return target.rpartition("/")[2] if target else None
