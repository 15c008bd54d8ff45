# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Finds the kernel drivers that could be bound to a function, and the best VFIO driver for it, in modules.alias.

    alias pci:v000015B3d0000101Dsv*sd*bc*sc*i* mlx5_core
    alias vfio_pci:v000015B3d0000101Esv*sd*bc*sc*i* mlx5_vfio_pci
    alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci

The second prefix marks drivers that are bound only on request; of those that match, the one with the
fewest wildcards is made for the device (the rule of libvirt, virpci.c). A kernel before 5.16 has none
of these, and a host in a container no such file at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Final, NamedTuple

from devagent.errors import Unreadable
from devagent.model.pci import Function
from devagent.model.snapshot import Problem
from devagent.sources.host import Tree

SOURCE: Final = "modules"
FOLDERS: Final = ("usr/lib/modules", "lib/modules")
DRIVERS: Final = "sys/bus/pci/drivers"
_VFIO: Final = "vfio-pci"

# Modules whose driver has another name (file names have no dashes); of one that is loaded the kernel tells.
_NAMES: Final = {
    "dfl_pci": "dfl-pci",
    "pci_pf_stub": "pci-pf-stub",
    "qat_420xx": "420xx",
    "qat_4xxx": "4xxx",
    "qat_6xxx": "6xxx",
    "qat_c3xxx": "c3xxx",
    "qat_c3xxxvf": "c3xxxvf",
    "qat_c62x": "c6xx",
    "qat_c62xvf": "c6xxvf",
    "qat_dh895xcc": "dh895xcc",
    "qat_dh895xccvf": "dh895xccvf",
    "vfio_pci": _VFIO,
    "virtio_pci": "virtio-pci",
    "xe_vfio_pci": "xe-vfio-pci",
}

_HEX8, _HEX2 = r"(\*|[0-9A-F]{8})", r"(\*|[0-9A-F]{2})"
_ALIAS: Final = re.compile(
    rf"alias (pci|vfio_pci):v{_HEX8}d{_HEX8}sv{_HEX8}sd{_HEX8}bc{_HEX2}sc{_HEX2}i{_HEX2}\*? ([\w-]+)\n"
)

_Fields = tuple[str | None, ...]
"""Vendor, device, subsystem's vendor and device, class, subclass, interface, as an alias has them; None: unknown."""


class _Alias(NamedTuple):
    """One line: what a function must have, and who then matches."""

    vfio: bool
    fields: tuple[str, ...]
    module: str

    def matches(self, fields: _Fields) -> bool:
        return all(own in ("*", theirs) for own, theirs in zip(self.fields, fields, strict=True))


def matched(
    host: Tree, kernel: str | None, functions: Iterable[Function], problems: list[Problem]
) -> dict[str, Function]:
    """Gives the functions, by address, with `drivers`, `vfio_driver` and `vf_vfio_driver` filled in."""
    functions = list(functions)
    if not functions:
        return {}
    try:
        drivers = _Drivers(host, _aliases(host, kernel, functions))
        return {function.address: drivers.matched(function) for function in functions}
    except Unreadable as error:
        problems.append(Problem(SOURCE, None, str(error)))
        return {each.address: replace(each, drivers=tuple(filter(None, (each.driver,)))) for each in functions}


class _Drivers:
    """The drivers of a host: those that the aliases name, and those that are loaded."""

    def __init__(self, host: Tree, aliases: list[_Alias]) -> None:
        self.host, self.aliases = host, aliases
        self.names: dict[str, str] = dict(_NAMES)
        self.fallback = _VFIO if host.has(f"{DRIVERS}/{_VFIO}") else None
        for module in {alias.module for alias in aliases}:
            loaded = host.names(f"sys/module/{module}/drivers", "pci:*")
            if loaded:
                self.names[module] = loaded[0].removeprefix("pci:")

    def matched(self, function: Function) -> Function:
        fields = _fields(function, function.device_id)
        drivers = {self._name(each) for each in self.aliases if not each.vfio and each.matches(fields)}
        if function.driver is not None:
            drivers.add(function.driver)
        sriov = function.sriov
        return replace(
            function,
            drivers=tuple(sorted(drivers)),
            vfio_driver=self._vfio(fields),
            vf_vfio_driver=self._vfio(_fields(function, sriov.vf_device_id)) if sriov else None,
        )

    def _vfio(self, fields: _Fields) -> str | None:
        matching = [each for each in self.aliases if each.vfio and each.matches(fields)]
        best = min(matching, key=lambda alias: alias.fields.count("*"), default=None)
        return self._name(best) if best else self.fallback

    def _name(self, alias: _Alias) -> str:
        return self.names.get(alias.module, alias.module)


def _aliases(host: Tree, kernel: str | None, functions: Iterable[Function]) -> list[_Alias]:
    if kernel is None or not re.fullmatch(r"\w[\w.+~-]*", kernel):
        return []
    wanted = _wanted(functions)
    for folder in FOLDERS:
        text = host.file(
            f"{folder}/{kernel}/modules.alias", lambda text: "".join(f"{line}\n" for line in wanted.findall(text))
        )
        if text:
            return [
                _Alias(prefix == "vfio_pci", tuple(fields), module) for prefix, *fields, module in _ALIAS.findall(text)
            ]
    return []


def _wanted(functions: Iterable[Function]) -> re.Pattern[str]:
    """Gives what finds the lines about these functions and their VFs: some ten of 30,000."""
    ids: dict[str, set[str]] = {}
    for function in functions:
        vf = function.sriov.vf_device_id if function.sriov else None
        ids.setdefault(function.vendor_id.upper(), set()).update(
            {function.device_id.upper(), (vf or "").upper()} - {""}
        )
    vendors = (rf"{vendor}d(?:\*|0000(?:{'|'.join(sorted(devices))}))" for vendor, devices in sorted(ids.items()))
    return re.compile(rf"alias (?:vfio_)?pci:v(?:\*d|0000(?:{'|'.join(vendors)}))[^\n]*")


def _fields(function: Function, device_id: str | None) -> _Fields:
    """Gives what an alias is compared with; a VF, which is only to be made, has its PF's subsystem and class."""
    ids = (function.vendor_id, device_id, function.subsystem_vendor_id, function.subsystem_device_id)
    code = function.class_code.upper()
    return (*(each and each.upper().zfill(8) for each in ids), code[:2], code[2:4], code[4:])
