# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads what Nova's configuration on this host takes for itself.

    [pci]
    device_spec = {"vendor_id": "10de", "product_id": "20f1", "address": "0000:3b:*"}
    device_spec = [{"devname": "ens1f0", "physical_network": "physnet1"}]
    [devices]
    enabled_mdev_types = nvidia-558, nvidia-559
    [mdev_nvidia-559]
    device_addresses = 0000:84:00.0,0000:85:00.0

By the rules of oslo.config, whose import alone would take longer than the whole scan: a repeated option
adds a value, in the same file or another, and a line that begins with a blank continues the one above.
Only what is wanted of a file is ever kept: nova.conf holds passwords.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from devagent.errors import Unreadable
from devagent.model.nova import DeviceSpec, NovaDevices
from devagent.model.pci import is_address
from devagent.model.snapshot import Problem
from devagent.sources.host import Tree

SOURCE: Final = "nova"

# In the order in which they count: where nova-compute looks by itself, DevStack's, Kolla's and TripleO's.
FILES: Final = (
    "etc/nova/nova.conf",
    "etc/nova/nova-compute.conf",
    "etc/nova/nova.conf.d/*.conf",
    "etc/nova/nova-compute.conf.d/*.conf",
    "etc/nova/nova-cpu.conf",
    "etc/kolla/nova-compute/nova.conf",
    "var/lib/config-data/puppet-generated/nova_libvirt/etc/nova/nova.conf",
)

_SPECS: Final = (("pci", "device_spec"), ("pci", "passthrough_whitelist"), ("DEFAULT", "pci_passthrough_whitelist"))
_TYPES: Final = (("devices", "enabled_mdev_types"), ("devices", "enabled_vgpu_types"))
_ADDRESSES: Final = "device_addresses"

_Option = tuple[str, str]

# The largest value of each part of an address, and its digits (nova/pci/devspec.py).
_PARTS: Final = {"domain": (0xFFFF, 4), "bus": (0xFF, 2), "slot": (0x1F, 2), "function": (7, 1)}


@dataclass(slots=True)
class _Settings:
    """The values of each option that is wanted, with the file that each is from."""

    values: dict[_Option, list[tuple[str, str]]] = field(default_factory=dict)

    def add(self, text: str, origin: str) -> None:
        for section, option, value in _assignments(text):
            self.values.setdefault((section, option), []).append((value, origin))

    def all(self, *options: _Option) -> list[tuple[str, str]]:
        return [each for option in options for each in self.values.get(option, ())]

    def items(self, *options: _Option) -> list[str]:
        """Gives the comma-separated items of the last value; of an option's names the first that is there counts."""
        value = next((self.values[option][-1][0] for option in options if option in self.values), "")
        return [item.strip() for item in value.split(",") if item.strip()]


def devices(host: Tree, problems: list[Problem], notes: dict[str, None]) -> NovaDevices:
    """Gives what Nova's configuration takes for itself; that it may not be read is a note."""
    settings, denied = _read(host, problems)
    if denied:
        notes[f"what Nova's configuration takes (/{denied[0]}): only root or nova may read that"] = None
    specs = [_found(host, spec) for value, origin in settings.all(*_SPECS) for spec in _specs(value, origin, problems)]
    types = {
        name: settings.items((f"mdev_{name}".lower(), _ADDRESSES), (f"vgpu_{name}".lower(), _ADDRESSES))
        for name in settings.items(*_TYPES)
    }
    unique: dict[str, DeviceSpec] = {}
    for spec in specs:  # DevStack's file for the compute service repeats what the host's own says
        unique.setdefault(json.dumps(spec.keys, sort_keys=True), spec)
    return NovaDevices(
        specs=tuple(unique.values()),
        mdev_types=tuple((name, tuple(address.lower() for address in found)) for name, found in types.items()),
    )


def _read(host: Tree, problems: list[Problem]) -> tuple[_Settings, list[str]]:
    """Gives the settings of all files, and the paths that may not be read."""
    settings, denied = _Settings(), []
    for pattern in FILES:
        folder, _, name = pattern.rpartition("/")
        try:
            for found in host.names(folder, name) if "*" in name else [name]:
                settings.add(host.file(f"{folder}/{found}", _excerpt) or "", f"/{folder}/{found}")
        except Unreadable as error:
            if error.denied:
                denied.append(error.path)
            else:
                problems.append(Problem(SOURCE, None, f"/{error}: what Nova takes for itself may be given twice"))
    return settings, denied


def _excerpt(text: str) -> str:
    """Leaves the options that are wanted, each below its section."""
    lines = []
    for section, option, value in _assignments(text):
        lines += [f"[{section}]", f"{option} = " + value.replace("\n", "\n ")]
    return "".join(f"{line}\n" for line in lines)


def _assignments(text: str) -> Iterator[tuple[str, str, str]]:
    """Gives section, option and value of what is wanted; lines that make no sense are left out."""
    section, option, value = "", "", ""
    for line in (*text.split("\n"), ""):
        line = line.rstrip()
        if line.startswith((" ", "\t")) and option:
            value += f"\n{line.lstrip()}"
            continue
        if option and _wanted(section, option):
            yield section, option, value
        option = ""
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1] if line == "[DEFAULT]" else line[1:-1].lower()
        elif match := re.match(r"([^\s#;\[=:][^=:]*)[=:](.*)", line):
            option, value = match[1].strip(), _unquoted(match[2].strip())


def _wanted(section: str, option: str) -> bool:
    if option == _ADDRESSES:
        return section.startswith(("mdev_", "vgpu_"))
    return (section, option) in _SPECS or (section, option) in _TYPES


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def _specs(value: str, origin: str, problems: list[Problem]) -> Iterator[DeviceSpec]:
    """Gives the specs of one value, which is a mapping or a list of such; a broken one is a problem."""
    text = " ".join(value.split())
    try:
        content = json.loads(value)
    except (ValueError, RecursionError):
        problems.append(_broken(text, origin, "is not JSON"))
        return
    alone = not isinstance(content, list)
    for keys in [content] if alone else content:
        shown = text if alone else json.dumps(keys)
        try:
            yield DeviceSpec(shown, origin, _selectors(keys))
        except ValueError as error:
            problems.append(_broken(shown, origin, str(error)))


def _broken(text: str, origin: str, why: str) -> Problem:
    return Problem(SOURCE, None, f"{origin}: device_spec {text[:200]} {why}; nova-compute will not start with it")


def _selectors(keys: object) -> Mapping[str, object]:
    """Gives the keys that name devices, as Nova understands them: ids and addresses in full and in lower case."""
    if not isinstance(keys, dict):
        raise ValueError("is no mapping")
    if keys.get("address") and keys.get("devname"):
        raise ValueError("has both address and devname")
    found: dict[str, object] = {}
    for name in ("vendor_id", "product_id"):
        if (text := _hex(name, keys.get(name, "*"), 0xFFFF, 4)) != "*":
            found[name] = text
    if address := keys.get("address"):
        found["address"] = _address(address)
    if devname := keys.get("devname"):
        found["devname"] = str(devname)
    return found


def _found(host: Tree, spec: DeviceSpec) -> DeviceSpec:
    """Adds the address of the interface that the spec names; as for Nova, one that is not there is nothing."""
    name = str(spec.keys.get("devname", ""))
    if not re.fullmatch(r"[^/\s]{1,15}", name):
        return spec
    target = None
    with suppress(Unreadable):
        target = host.link(f"sys/class/net/{name}/device")
    address = (target or "").rpartition("/")[2]
    return replace(spec, keys={**spec.keys, "address": address}) if is_address(address) else spec


def _address(address: object) -> str | dict[str, str]:
    if isinstance(address, str):
        return _pattern(address)
    if not isinstance(address, dict) or not all(isinstance(each, str) for each in address.values()):
        raise ValueError("has an address that is neither a pattern nor a mapping of regular expressions")
    parts: dict[str, str] = {part: address.get(part, ".*") for part in _PARTS}
    for expression in parts.values():
        try:
            re.compile(expression)
        except re.error as error:
            raise ValueError(f"has the regular expression {expression!r}, which is wrong: {error}") from None
    return parts


def _pattern(address: str) -> str:
    """Gives `0000:3b:*.*` for `0:3b:`, since what is left out of a pattern may be anything."""
    rest, _, function = address.partition(".")
    steps = rest.split(":") if rest else []
    if len(steps) > 3:
        raise ValueError(f"has the address {address!r}, which has too many parts")
    texts = [*["*"] * (3 - len(steps)), *steps, function]
    domain, bus, slot, number = (
        _hex(part, text.strip() or "*", *_PARTS[part]) for part, text in zip(_PARTS, texts, strict=True)
    )
    return f"{domain}:{bus}:{slot}.{number}"


def _hex(name: str, value: object, most: int, digits: int) -> str:
    text = value.strip() if isinstance(value, str) else repr(value)
    if text == "*":
        return text
    try:
        number = int(text, 16)
    except ValueError:
        number = -1
    if not isinstance(value, str) or not 0 <= number <= most:
        raise ValueError(f"has {name} {value!r}, which is no number from 0 to {most:x} (hex)")
    return f"{number:0{digits}x}"
