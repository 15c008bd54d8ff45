# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Looks up the names of vendors and devices in the system's pci.ids."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final

from devagent.errors import Unreadable
from devagent.model.pci import Function
from devagent.model.snapshot import Problem
from devagent.sources.host import LINK, Tree

SOURCE: Final = "names"
PATHS: Final = ("usr/share/hwdata/pci.ids", "usr/share/misc/pci.ids", "var/lib/pciutils/pci.ids")

_Wanted = Mapping[str, frozenset[str]]

# A vendor's devices end where the next line is neither indented nor a comment.
_NEXT_VENDOR: Final = re.compile(r"\n[^\t#\n]")


def names(host: Tree, functions: Iterable[Function], problems: list[Problem]) -> dict[str, tuple[str, str]]:
    """Gives vendor and device names of the functions' `vvvv:dddd`; what pci.ids lacks is left out.

    The device's name is empty where it knows only the vendor.
    """
    ids: dict[str, frozenset[str]] = {}
    for function in functions:
        ids[function.vendor_id] = ids.get(function.vendor_id, frozenset()) | {function.device_id}
    text = _read(host, ids, problems) if ids else ""
    return {
        f"{vendor}:{device}": (name, devices.get(device, ""))
        for vendor, (name, devices) in _vendors(text, ids).items()
        for device in ids[vendor]
    }


def _read(host: Tree, ids: _Wanted, problems: list[Problem]) -> str:
    for path in PATHS:
        try:
            text = host.file(path, partial(_excerpt, ids))
        except Unreadable as error:
            if error.reason != LINK:  # one of these paths is often a link to another
                problems.append(Problem(SOURCE, None, str(error)))
            continue
        if text:
            return text
    return ""


def _excerpt(ids: _Wanted, text: str) -> str:
    """Leaves the lines of the wanted vendors and devices."""
    lines = []
    for vendor, (name, devices) in _vendors(text, ids).items():
        lines.append(f"{vendor}  {name}\n")
        lines += (f"\t{device}  {found}\n" for device, found in devices.items())
    return "".join(lines)


def _vendors(text: str, ids: _Wanted) -> dict[str, tuple[str, dict[str, str]]]:
    """Finds the wanted vendors with the wanted devices, without looking at the other 30,000 lines.

    10de  NVIDIA Corporation
    <tab>20f1  GA100 [A100 PCIe 40GB]
    <tab><tab>10de 145f  (a subsystem)
    """
    found = {}
    text = f"\n{text}\n"
    end = 0
    for vendor, devices in sorted(ids.items()):
        # The vendors stand in order; a file that was edited by hand costs another pass.
        start = text.find(f"\n{vendor}  ", end)
        if start < 0:
            start = text.find(f"\n{vendor}  ")
        if start < 0:
            continue
        name = text[start + 7 : text.index("\n", start + 1)]
        following = _NEXT_VENDOR.search(text, start + 1)
        end = following.start() if following else len(text)
        found[vendor] = (name.strip(), dict(_devices(text, start, end, devices)))
    return found


def _devices(text: str, start: int, end: int, devices: frozenset[str]) -> Iterable[tuple[str, str]]:
    for device in sorted(devices):
        line = text.find(f"\n\t{device}  ", start, end)
        if line >= 0:
            yield device, text[line + 8 : text.index("\n", line + 1)].strip()
