# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Hides in a capture which machine it is of: serial numbers, UUIDs, names, network addresses.

Discovery of a redacted capture finds the same devices in the same places and decides the same: ids, PCI
addresses, names of interfaces and ids of designs (`afu_id`, `interface_uuids`) stay. What one file tells
to be a serial number or a name is replaced in all others too.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Final

from devagent.sources.apart import FAILURES
from devagent.sources.captures import product_data, redaction_cuts, redaction_json
from devagent.sources.captures.archive import Folder, Link
from devagent.sources.captures.pseudonyms import Pseudonyms
from devagent.sources.processes import guest
from devagent.sources.roots import NAME

# Files that hold one secret and nothing else, in sysfs, /etc and DMI.
_SECRET: Final = re.compile(
    r"(?:.*/)?(?:serial(?:_num(?:ber)?)?|unique_id|hive_id|dna|fru_id|wwid|nguid|eui|subsysnqn|phys_switch_id"
    r"|(?:node|sys_image)_g?uid|(?:product|board|chassis)_(?:serial|uuid)|machine-id|boot_id|compute_id)"
)
# What names a design and not a card: every card with this bitstream has the same.
_DESIGN: Final = re.compile(r"(?:.*/)?(?:afu_id|compat_id|(?:interface|logic|ulp)_uuids|xclbinuuid|rom[^/]*/uuid)")
_HOSTNAMES: Final = ("proc/sys/kernel/hostname", "etc/hostname", NAME)
_KERNEL: Final = "proc/sys/kernel/osrelease"

# A guest's name that is shorter is replaced in its own place only: elsewhere it may mean anything.
_SHORTEST: Final = 6

_KFD_ID: Final = re.compile(r"(?m)^((?:unique|hive)_id )([0-9]+)$")
_IP: Final = re.compile(
    r"(?<![\w.:-])(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f:]*:[0-9A-Fa-f:]*:[0-9A-Fa-f.:]*)(?![\w:-])"
)


def redacted(top: Folder, pseudonyms: Pseudonyms | None = None) -> Folder:
    """Gives the directories of a capture with everything replaced that tells which machine it is of."""
    redaction = _Redaction(pseudonyms or Pseudonyms())
    for path, data in _files("", top):
        redaction.learn(path, data)
    return redaction.folder("", top)


def _is_json(path: str) -> bool:
    return path.endswith(".json") and not path.startswith("sys/")


def _files(start: str, folder: Folder) -> Iterator[tuple[str, bytes]]:
    for name, entry in folder.items():
        if isinstance(entry, dict):
            yield from _files(f"{start}{name}/", entry)
        elif isinstance(entry, bytes):
            yield start + name, entry


class _Redaction:
    """What is known of one capture, and what is done with its files."""

    def __init__(self, pseudonyms: Pseudonyms) -> None:
        self.pseudonyms = pseudonyms
        self.hosts: dict[str, str] = {}
        self.guests: dict[str, str] = {}

    def learn(self, path: str, data: bytes) -> None:
        """Finds the secrets that a file tells."""
        for secret in product_data.serials(path, data):
            self.pseudonyms.learn(secret)
        text = data.decode("latin-1")
        if _SECRET.fullmatch(path):
            self.pseudonyms.learn(text)
        elif path in _HOSTNAMES:
            self.hosts = self._longest_first(self.hosts | self._spellings(data.decode(errors="replace").strip()))
        elif _is_json(path):
            redaction_json.changed(data, self._learnt, str, str)
        elif re.fullmatch("proc/[0-9]+/cmdline", path):
            self._guest(data.decode(errors="replace").split("\0"))

    def folder(self, path: str, folder: Folder) -> Folder:
        """Gives a directory with other names, link targets and contents."""
        found: Folder = {}
        for name, entry in folder.items():
            new: bytes | Link | Folder
            if isinstance(entry, dict):
                new = self.folder(f"{path}{name}/", entry)
            elif isinstance(entry, Link):
                new = Link(self.pseudonyms.text(entry.target))
            else:
                new = self._data(path + name, entry)
            found[self.pseudonyms.text(name)] = new
        return found

    def _data(self, path: str, data: bytes) -> bytes:
        if _DESIGN.fullmatch(path) or path == _KERNEL:
            return data
        data = product_data.rewritten(path, data, self.pseudonyms)
        try:
            return self._text(path, data.decode()).encode()
        except UnicodeDecodeError:  # every byte is a character here, and stays one
            return self._text(path, data.decode("latin-1")).encode("latin-1")

    def _text(self, path: str, text: str) -> str:
        if _SECRET.fullmatch(path):
            return self.pseudonyms.whole(text)
        if _is_json(path) and (new := self._json(path, text)) is not None:
            return new
        text = self._plain(redaction_cuts.cut(path, text, self.pseudonyms))
        if path.endswith("/properties"):
            text = self._kfd(text)
        # In sysfs a word is never a host's name, though a host may be called as a driver is.
        if path.startswith("proc/"):
            return self._other_names(text, self.hosts | self.guests)
        return self._other_names(text, self.hosts) if path.startswith("etc/") or path == NAME else text

    def _json(self, path: str, text: str) -> str | None:
        value = self._failure if path == FAILURES else self._plain
        return redaction_json.changed(text, self.pseudonyms.whole, value, self._plain)

    def _plain(self, text: str) -> str:
        return self.pseudonyms.text(text)

    def _failure(self, text: str) -> str:
        """Replaces in what the kernel, a library or Python said also the names."""
        return self._other_names(self._plain(text), self.hosts | self.guests)

    def _learnt(self, secret: str) -> str:
        self.pseudonyms.learn(secret)
        return secret

    def _guest(self, arguments: list[str]) -> None:
        """Notes the name of a virtual machine."""
        for option, value in pairwise(arguments):
            if option == "-name" and (name := guest(value)) is not None:
                found = {each: new for each, new in self._spellings(name).items() if len(each) >= _SHORTEST}
                self.guests = self._longest_first(self.guests | found)

    def _spellings(self, name: str) -> dict[str, str]:
        """Gives what becomes of a name, also without its domain, and of the domain."""
        found: dict[str, str] = {}
        short, _, domain = name.partition(".")
        for each in (name, short, domain if "." in domain else ""):
            if each:
                new = self.pseudonyms.name(each)
                # As systemd spells it in the name of a scope.
                found |= {each: new, each.replace("-", r"\x2d"): new.replace("-", r"\x2d")}
        return found

    def _longest_first(self, names: Mapping[str, str]) -> dict[str, str]:
        return dict(sorted(names.items(), key=lambda item: -len(item[0])))

    def _other_names(self, text: str, names: Mapping[str, str]) -> str:
        for name, new in names.items():
            # In `qemu\x2d5\x2dinstance` a word may follow an escape.
            pieces = re.split(rf"(?:(?<![0-9A-Za-z])|(?<=\\x2d)){re.escape(name)}(?![0-9A-Za-z])", text)
            text = new.join(pieces)
        return _IP.sub(lambda match: self._ip(match[0]), text)

    def _ip(self, text: str) -> str:
        """Replaces an address by one of the networks that are for examples (RFC 2544, RFC 3849)."""
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return text
        if address.is_loopback or address.is_unspecified:
            return text
        if address.version == 4:
            return str(ipaddress.IPv4Address("198.18.0.0") + self.pseudonyms.number(text, 1 << 17))
        return str(ipaddress.IPv6Address("2001:db8::") + self.pseudonyms.number(address.exploded, 1 << 96))

    def _kfd(self, text: str) -> str:
        """Replaces the ids that KFD gives in decimal as those that sysfs gives in 16 hex digits."""

        def new(match: re.Match[str]) -> str:
            return match[1] + str(int(self.pseudonyms.of(f"{int(match[2]):016x}"), 16))

        return _KFD_ID.sub(new, text)
