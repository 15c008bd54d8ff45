# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads the mediated devices of a parent from its sysfs attributes (ABI/testing/sysfs-bus-vfio-mdev).

    mdev_supported_types/nvidia-558/name                   NVIDIA A40-8Q
    mdev_supported_types/nvidia-558/device_api             vfio-pci
    mdev_supported_types/nvidia-558/available_instances    6
    mdev_supported_types/nvidia-558/description            num_heads=4, frl_config=60, framebuffer=8192M, ...
    mdev_supported_types/nvidia-558/devices/4b20d080-1b54-4048-85b3-a6a62d165c01/uevent

The same stands below `virtfnN/` where each VF is a parent of its own, with one device at most.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from devagent.model.claim import MdevFacts, MdevType

_FOLDERS: Final = ("mdev_supported_types", "virtfn*/mdev_supported_types")
_FILES: Final = ("name", "device_api", "available_instances", "description", "devices/*/uevent")

MDEV_ASKS: Final = tuple(f"{folder}/*/{file}" for folder in _FOLDERS for file in _FILES)
"""What a driver asks for to know these facts: the parent's own kernel driver answers most of it."""

_FILE: Final = re.compile(r"(?:virtfn[0-9]{1,5}/)?mdev_supported_types/([^/]+)/([^/]+)(?:/([^/]+)/uevent)?")
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def mdev_facts(attributes: Mapping[str, str]) -> MdevFacts | None:
    """Gives the types and the existing devices of a function and its VFs; None if it can make none.

    What is available is added up over the VFs, and unknown as soon as one of them does not say.
    """
    texts: dict[str, dict[str, list[str]]] = {}
    devices = set()
    for path, text in attributes.items():
        match = _FILE.fullmatch(path)
        if match is None:
            continue
        files = texts.setdefault(match[1], {})
        if match[3] is None:
            files.setdefault(match[2], []).append(text)
        elif _UUID.fullmatch(match[3]):
            devices.add((match[3], match[1]))
    if not texts:
        return None
    return MdevFacts(tuple(_type(id, files) for id, files in sorted(texts.items())), tuple(sorted(devices)))


def _type(id: str, files: Mapping[str, list[str]]) -> MdevType:
    return MdevType(
        id=id,
        name=_first(files.get("name", ())) or id,
        device_api=_first(files.get("device_api", ())),
        available=_total(files.get("available_instances", ()), len(files.get("name", ()))),
        description=_first(files.get("description", ())),
    )


def _first(texts: Iterable[str]) -> str | None:
    return next(filter(None, texts), None)


def _total(texts: Iterable[str], parents: int) -> int | None:
    """Adds up the numbers of all `parents`, which all have a `name`; None if one is missing or no number."""
    numbers = [int(text) if re.fullmatch("[0-9]{1,6}", text) else None for text in texts]
    known = [number for number in numbers if number is not None]
    return sum(known) if known and len(known) == max(len(numbers), parents) else None
