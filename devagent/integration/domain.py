# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads of a libvirt domain's XML which devices of the host it gets, for whom, and what its flavor says of them. Pure.

    <domain type='kvm'>
      <name>instance-0000001a</name>
      <uuid>5e1f0f6a-27d4-4a3c-9a3e-0c1d2e3f4a5b</uuid>
      <metadata>
        <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">
          <nova:flavor name="fpga.small">
            <nova:extraSpecs><nova:extraSpec name="devagent:bitstream">gzip-v2</nova:extraSpec></nova:extraSpecs>
      <devices>
        <hostdev mode='subsystem' type='pci' managed='yes'>
          <source><address domain='0x0000' bus='0x3b' slot='0x00' function='0x2'/></source>
        <interface type='hostdev' managed='yes'>
          <source><address type='pci' domain='0x0000' bus='0x3b' slot='0x00' function='0x3'/></source>
        <hostdev mode='subsystem' type='mdev' model='vfio-pci'>
          <source><address uuid='4b20d080-1b54-4048-85b3-a6a62d165c01'/></source>

The elements are those of libvirt's formatdomain and, for the metadata, of nova.virt.libvirt.config (Nova 34). Expat
alone, since a hook runs at each start of every domain, and ElementTree costs more to import than all of this; a
named tuple, since dataclasses cost as much again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, NoReturn
from xml.parsers import expat

from devagent.errors import DomainError

MAX_SIZE: Final = 8 << 20

_UUID: Final = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NUMBER: Final = re.compile("0[xX][0-9a-fA-F]{1,8}|[0-9]{1,9}")
_NOVA: Final = "http://openstack.org/xmlns/libvirt/nova/"
_DEPTH: Final = 64
_SOURCES: Final = tuple(("domain", "devices", kind, "source", "address") for kind in ("hostdev", "interface"))
_SPEC: Final = ("domain", "metadata", "instance", "flavor", "extraSpecs", "extraSpec")


class Domain(NamedTuple):
    """What counts of a domain: `functions` are the PCI addresses that it gets, `mdevs` the mediated devices' UUIDs.

    `extra_specs` are those of its flavor, as Nova writes them.
    """

    uuid: str
    name: str
    functions: tuple[str, ...] = ()
    mdevs: tuple[str, ...] = ()
    extra_specs: Mapping[str, str] = MappingProxyType({})


def read(text: bytes) -> Domain:
    """Gives what `text` says. Raises DomainError for what is no domain of libvirt's."""
    if len(text) > MAX_SIZE:
        raise DomainError(f"the domain's XML has {len(text)} bytes; no domain has more than {MAX_SIZE}")
    reader = _Reader()
    try:
        reader.parser.Parse(text, True)
    except expat.ExpatError as error:
        raise DomainError(f"the domain's XML cannot be read: {error}") from None
    return reader.domain()


class _Reader:
    """Follows the elements; `path` are their names from the root, without namespaces."""

    def __init__(self) -> None:
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        # libvirt declares none, and what expands without end would hold up the start of the domain.
        self.parser.StartDoctypeDeclHandler = _no_doctype
        self._path: list[str] = []
        self._kind = ""
        self._spec = ""
        self._texts: dict[str, list[str]] = {"name": [], "uuid": []}
        self._specs: dict[str, list[str]] = {}
        self._functions: list[str] = []
        self._mdevs: list[str] = []

    def domain(self) -> Domain:
        uuid = "".join(self._texts["uuid"]).strip().lower()
        if not _UUID.fullmatch(uuid):
            raise DomainError(f"the domain's XML has no UUID but {uuid[:40]!r}")
        specs = {name: "".join(text).strip() for name, text in self._specs.items()}
        name = "".join(self._texts["name"]).strip()
        return Domain(uuid, name, tuple(self._functions), tuple(self._mdevs), specs)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        space, _, local = name.rpartition(" ")
        self._path.append(local)
        path = tuple(self._path[: _DEPTH + 1])
        if len(path) > _DEPTH:
            raise DomainError(f"the domain's XML is more than {_DEPTH} elements deep")
        if path[:-1] == ("domain", "devices"):
            self._kind = _kind(local, attributes)
        elif path in _SOURCES and self._kind:
            self._device(attributes)
        elif path == _SPEC and space.startswith(_NOVA):
            self._spec = attributes.get("name", "")
            self._specs[self._spec] = []

    def _end(self, _: str) -> None:
        self._path.pop()
        self._spec = ""

    def _text(self, text: str) -> None:
        if len(self._path) == 2 and self._path[0] == "domain" and self._path[1] in self._texts:
            self._texts[self._path[1]].append(text)
        elif self._spec:
            self._specs[self._spec].append(text)

    def _device(self, attributes: dict[str, str]) -> None:
        if self._kind == "mdev":
            uuid = attributes.get("uuid", "").lower()
            if not _UUID.fullmatch(uuid):
                raise DomainError(f"a mediated device of the domain has no UUID but {uuid[:40]!r}")
            self._mdevs.append(uuid)
        else:
            self._functions.append(_address(attributes))


def _kind(element: str, attributes: Mapping[str, str]) -> str:
    """Gives `pci` or `mdev` for what takes a device of the host, nothing for all else."""
    if element == "interface" and attributes.get("type") == "hostdev":
        return "pci"
    if element != "hostdev" or attributes.get("mode", "subsystem") != "subsystem":
        return ""
    kind = attributes.get("type", "")
    return kind if kind in ("pci", "mdev") else ""


def _address(attributes: Mapping[str, str]) -> str:
    """Gives `0000:3b:00.2`; libvirt writes the four parts in hex with 0x, and takes decimal ones too."""
    numbers = []
    for part, largest in (("domain", 0xFFFFFFFF), ("bus", 0xFF), ("slot", 0x1F), ("function", 7)):
        text = attributes.get(part, "0")
        number = int(text, 0 if text[1:2] in "xX" else 10) if _NUMBER.fullmatch(text) else largest + 1
        if number > largest:
            raise DomainError(f"a device of the domain has the {part} {text[:40]!r}, which is none of PCI's")
        numbers.append(number)
    return "{:04x}:{:02x}:{:02x}.{:x}".format(*numbers)


def _no_doctype(*_: object) -> NoReturn:
    raise DomainError("the domain's XML has a DOCTYPE, which libvirt does not write")
