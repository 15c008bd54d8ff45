# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Hides what is known by its place in a file: gateways, mount points, volumes, names of processes and machines.

What is read of these files stays, and what has one name in two files has one name still.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Final

from devagent.sources.captures.pseudonyms import Pseudonyms
from devagent.sources.processes import guest, named

# Folders that many hosts mount something on; the names below them are their owners'.
_USUAL: Final = frozenset(
    {"boot", "efi", "home", "var", "tmp", "lib", "log", "opt", "srv", "mnt", "media", "usr", "nova", "instances"}
)
# Folders of /dev that the kernel or udev makes, whatever the disks are called.
_FOLDERS: Final = frozenset({"mapper", "disk", "md", "cciss", "ida", "rd", "zvol"})
_ARRAY: Final = re.compile("by-[a-z]+|c[0-9]+d[0-9]+(?:p[0-9]+)?")
_ESCAPED: Final = " \t\n\\#"
_DELETED: Final = " (deleted)"

_EMULATOR: Final = re.compile("qemu-system-[a-z0-9_]*|qemu-kvm|qemu|kvm|")
_OPTION: Final = re.compile("[a-z0-9_.-]*(?:iommu|vfio|pci|sriov|hugepage|blacklist)[a-z0-9_.-]*(?:=.*)?")


def cut(path: str, text: str, pseudonyms: Pseudonyms) -> str:
    """Gives the text of a file without what its place tells to be a secret; that of most files as it is."""
    for pattern, change in _CUTS:
        if pattern.fullmatch(path):
            return change(text, pseudonyms)
    return text


# Destinations and masks of 0.0.0.0/0, 0.0.0.0/1 and 128.0.0.0/1, on hosts of either byte order.
_HALVES: Final = frozenset({"00000000", "00000080", "80000000"})


def _route(text: str, pseudonyms: Pseudonyms) -> str:
    """Leaves of /proc/net/route the default routes, halves of one too, with other gateways; see host_use/nics.py."""
    lines = text.splitlines(keepends=True)
    defaults = [line for line in lines if len(line.split()) > 7 and _HALVES.issuperset(line.split()[1:8:6])]
    return "".join(
        re.sub(r"^(\S+\s+\S+\s+)(\S+)", lambda match: match[1] + pseudonyms.of(match[2]), line) for line in defaults
    )


def _ipv6_route(text: str, pseudonyms: Pseudonyms) -> str:
    """Leaves of /proc/net/ipv6_route the default routes, with other next hops."""
    starts = ("0" * 32 + " 00 ", "0" * 32 + " 01 ", "8" + "0" * 31 + " 01 ")
    defaults = [line for line in text.splitlines(keepends=True) if line.startswith(starts)]
    return "".join(
        re.sub(r"^((?:\S+ ){4})(\S+)", lambda match: match[1] + pseudonyms.of(match[2]), line) for line in defaults
    )


def _mountinfo(text: str, pseudonyms: Pseudonyms) -> str:
    """Leaves of each mount the number, where it is, the file system and the disk; see host_use/mounts.py.

    36 35 259:1 / /mnt rw,noatime - ext4 /dev/nvme0n1p1 rw
    """

    def line(each: str) -> str:
        match = re.match(r"(\S+ \S+ [0-9]+:[0-9]+) \S+ (\S+)(?:.*? - (\S+)(?: (\S+))?)?", each)
        if match is None:
            return pseudonyms.of(each)
        head, point, kind, source = match.groups()
        point = _within(point, lambda path: _place(path, pseudonyms))
        source = _within(source or "none", lambda path: _device(path, pseudonyms))
        return f"{head} / {point} rw - {kind or 'none'} {source} rw"

    return "".join(f"{line(each)}\n" for each in text.split("\n") if each)


def _swaps(text: str, pseudonyms: Pseudonyms) -> str:
    """Replaces in /proc/swaps the names of volumes and files."""
    return re.sub(r"(?m)^/\S+", lambda match: _within(match[0], lambda path: _device(path, pseudonyms)), text)


def _within(text: str, change: Callable[[str], str]) -> str:
    r"""Changes a name in which the kernel has written a space as \040."""
    plain = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
    return "".join(f"\\{ord(each):03o}" if each in _ESCAPED else each for each in change(plain))


def _place(path: str, pseudonyms: Pseudonyms) -> str:
    return "/".join(part if part in _USUAL else pseudonyms.name(part) for part in path.split("/"))


def _device(source: str, pseudonyms: Pseudonyms) -> str:
    """Replaces what owners have named: volumes, arrays, pools, servers; bcachefs gives several disks in one."""
    return ":".join(_node(path, pseudonyms) for path in re.split(":(?=/dev/)", source))


def _node(path: str, pseudonyms: Pseudonyms) -> str:
    plain = path.removesuffix(_DELETED)
    match = re.fullmatch("/dev/(mapper/)?(.+)", plain)
    if match is None:
        new = _place(plain, pseudonyms)
    elif match[1]:
        new = f"/dev/mapper/{_mapped(match[2], pseudonyms)}"
    elif "/" in match[2]:
        parts = match[2].split("/")
        new = "/dev/" + "/".join(
            part if part in _FOLDERS or _ARRAY.fullmatch(part) else pseudonyms.name(part) for part in parts
        )
    else:
        new = plain
    return new + path[len(plain) :]


def _mapped(text: str, pseudonyms: Pseudonyms) -> str:
    """Replaces the device mapper's name part by part: vg--a-root is /dev/vg-a/root, too."""
    return "-".join(pseudonyms.name(part) for part in re.split("(?<!-)-(?!-)", text.rstrip("\n")))


def _mapped_id(text: str, pseudonyms: Pseudonyms) -> str:
    """Leaves of the device mapper's UUID who made it: LVM-..., CRYPT-LUKS2-..."""
    kind, dash, rest = text.rstrip("\n").partition("-")
    return kind + dash + pseudonyms.name(rest)


def _cmdline(text: str, pseudonyms: Pseudonyms) -> str:
    """Leaves of QEMU's command line another name, and the UUID."""
    found = {option: value for option, value in pairwise(text.split("\0")) if option in ("-name", "-uuid")}
    name = guest(found.pop("-name", ""))
    kept = ["-name", named(pseudonyms.name(name))] if name else []
    return "\0".join((*kept, *(each for pair in found.items() for each in pair)))


def _comm(text: str, pseudonyms: Pseudonyms) -> str:
    """Leaves of a process's name that it is QEMU."""
    name = text.rstrip("\n")
    match = _EMULATOR.match(name)
    head = match[0] if match else ""
    return head + pseudonyms.name(name[len(head) :]) + text[len(name) :]


def _kernel_options(text: str, _: Pseudonyms) -> str:
    """Leaves of the kernel's command line what is about devices, not where it boots from."""
    return " ".join(filter(_OPTION.fullmatch, text.split())) + "\n"


def _version(text: str, _: Pseudonyms) -> str:
    """Leaves the release, not who built it where."""
    return " ".join(text.split()[:3]) + "\n"


_CUTS: Final[tuple[tuple[re.Pattern[str], Callable[[str, Pseudonyms], str]], ...]] = (
    (re.compile("proc/(?:self/)?net/route"), _route),
    (re.compile("proc/(?:self/)?net/ipv6_route"), _ipv6_route),
    (re.compile("proc/self/mountinfo"), _mountinfo),
    (re.compile("proc/swaps"), _swaps),
    (re.compile("proc/[0-9]+/cmdline"), _cmdline),
    (re.compile("proc/[0-9]+/comm"), _comm),
    (re.compile("proc/cmdline"), _kernel_options),
    (re.compile("proc/version"), _version),
    (re.compile("sys/.*/dm/name"), _mapped),
    (re.compile("sys/.*/dm/uuid"), _mapped_id),
)
