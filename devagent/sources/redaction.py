# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Hides in a capture which machine it is of: serial numbers, UUIDs, names, network addresses.

Discovery of a redacted capture finds the same devices in the same places and decides the same: ids, PCI
addresses, names of interfaces and ids of designs (`afu_id`, `interface_uuids`) stay. What one file tells
to be a serial number or a name is replaced in all others too.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from devagent.sources import product_data
from devagent.sources.archive import Folder, Link
from devagent.sources.capture import NAME
from devagent.sources.pseudonyms import Pseudonyms

# Files that hold one secret and nothing else, in sysfs, /etc and DMI.
_SECRET: Final = re.compile(
    r"(?:.*/)?(?:serial(?:_num(?:ber)?)?|unique_id|hive_id|dna|fru_id|wwid|nguid|eui|subsysnqn|phys_switch_id"
    r"|(?:node|sys_image)_g?uid|(?:product|board|chassis)_(?:serial|uuid)|machine-id|boot_id|compute_id)"
)
# What names a design and not a card: every card with this bitstream has the same.
_DESIGN: Final = re.compile(r"(?:.*/)?(?:afu_id|compat_id|(?:interface|logic|ulp)_uuids|xclbinuuid|rom[^/]*/uuid)")
_HOSTNAMES: Final = ("proc/sys/kernel/hostname", "etc/hostname", NAME)
_KERNEL: Final = "proc/sys/kernel/osrelease"

# Keys of the JSON files, ours and NVML's answers, whose texts are secrets.
_KEYS: Final = frozenset({"uuid", "uuids", "serial", "cluster", "unique_id", "hive_id", "board_serial", "pdi"})
_PLACES: Final = ("topology", "address")

_GUEST: Final = re.compile(r"(?:guest=|-name\0)([^,=\0]+)(?=[,\0]|\Z)")
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
        self.names: dict[str, str] = {}

    def learn(self, path: str, data: bytes) -> None:
        """Finds the secrets that a file tells."""
        for secret in product_data.serials(path, data):
            self.pseudonyms.learn(secret)
        text = data.decode("latin-1")
        if _SECRET.fullmatch(path):
            self.pseudonyms.learn(text)
        elif path in _HOSTNAMES:
            self._name(text.strip())
        elif path.endswith(".json") and not path.startswith("sys/"):
            for secret in _told(_parsed(data)):
                self.pseudonyms.learn(secret)
        elif path.startswith("proc/") and path.endswith("/cmdline"):
            for guest in _GUEST.findall(text):
                self._name(guest)

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
        for pattern, cut in _CUTS:
            if pattern.fullmatch(path):
                text = cut(text, self.pseudonyms)
        text = self.pseudonyms.text(text)
        if path.endswith("/properties"):
            text = self._kfd(text)
        # In sysfs a word is never a host's name, though a host may be called as a driver is.
        return self._other_names(text) if path.startswith(("proc/", "etc/")) or path == NAME else text

    def _name(self, name: str) -> None:
        """Notes the name of a host or a virtual machine, a host's also without its domain, and the domain."""
        short, _, domain = name.partition(".")
        for each in (name, short, domain if "." in domain else ""):
            if each:
                new = self.pseudonyms.name(each)
                # As systemd spells it in the name of a scope.
                self.names |= {each: new, each.replace("-", r"\x2d"): new.replace("-", r"\x2d")}
        self.names = dict(sorted(self.names.items(), key=lambda item: -len(item[0])))

    def _other_names(self, text: str) -> str:
        for name, new in self.names.items():
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


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _told(value: Any, key: str = "") -> Iterator[str]:
    """Gives the secrets in a JSON document: by their keys, and whatever identifies a device but its place."""
    if isinstance(value, list):
        for each in value:
            yield from _told(each, key)
    elif isinstance(value, dict):
        identity = value.keys() == {"source", "value"} and value["source"] not in _PLACES
        for name, each in value.items():
            if (identity and name == "value") or (key == "others" and name not in _PLACES):
                yield from (part for part in re.split("[/@: ]", str(each)) if part)
            else:
                yield from _told(each, name)
    elif isinstance(value, str) and key in _KEYS:
        yield value


def _route(text: str, pseudonyms: Pseudonyms) -> str:
    """Leaves of /proc/net/route the default routes, with other gateways."""
    defaults = [line for line in text.splitlines(keepends=True) if line.split()[1:8:6] == ["00000000", "00000000"]]
    return "".join(
        re.sub(r"^(\S+\s+\S+\s+)(\S+)", lambda match: match[1] + pseudonyms.of(match[2]), line) for line in defaults
    )


def _ipv6_route(text: str, pseudonyms: Pseudonyms) -> str:
    """Leaves of /proc/net/ipv6_route the default routes, with other next hops."""
    defaults = [line for line in text.splitlines(keepends=True) if line.startswith("0" * 32 + " 00 ")]
    return "".join(
        re.sub(r"^((?:\S+ ){4})(\S+)", lambda match: match[1] + pseudonyms.of(match[2]), line) for line in defaults
    )


def _mountinfo(text: str, _: Pseudonyms) -> str:
    """Leaves the mounts of disks, without the directories and options of any; see sources/users.py.

    36 35 259:1 / /mnt rw,noatime - ext4 /dev/nvme0n1p1 rw
    """
    pattern = r"(?m)^(\S+ \S+ (?:0:[0-9]+(?= .* - \S+ /dev/)|[1-9][0-9]*:[0-9]+)) \S+ (\S+).*? - (\S+ \S+).*\n?"
    return "".join(f"{head} / {point} rw - {source} rw\n" for head, point, source in re.findall(pattern, text))


def _version(text: str, _: Pseudonyms) -> str:
    """Leaves the release, not who built it where."""
    return " ".join(text.split()[:3]) + "\n"


_CUTS: Final[tuple[tuple[re.Pattern[str], Callable[[str, Pseudonyms], str]], ...]] = (
    (re.compile("proc/(?:self/)?net/route"), _route),
    (re.compile("proc/(?:self/)?net/ipv6_route"), _ipv6_route),
    (re.compile("proc/self/mountinfo"), _mountinfo),
    (re.compile("proc/version"), _version),
)
