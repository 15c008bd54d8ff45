# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Puts together what sysfs and NVML say of an NVIDIA GPU's virtual GPUs.

The vendor-specific VFIO framework has two files per VF; the list shrinks and grows with what the other VFs carry:

    virtfn3/nvidia/creatable_vgpu_types     ID    : vGPU Name
                                            1155  : NVIDIA L40S-1B
                                            1157  : NVIDIA L40S-8Q
    virtfn3/nvidia/current_vgpu_type        0

The mdev framework has the kernel's own files (mdev.py). Each VF counts for itself in both, though all share one
GPU's memory: what is available is what the VFs say, and no more than the GPU has room for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from devagent.model.claim import MdevFacts, MdevType
from devagent.model.gpu import VgpuFacts, VgpuType

_CREATABLE: Final = "nvidia/creatable_vgpu_types"
_CURRENT: Final = "nvidia/current_vgpu_type"

VGPU_ASKS: Final = (f"virtfn*/{_CREATABLE}", f"virtfn*/{_CURRENT}")
"""What a driver asks for to know these facts, besides what mdev.py asks for."""

_FILE: Final = re.compile(rf"virtfn[0-9]{{1,5}}/({_CREATABLE}|{_CURRENT})")
_ROW: Final = re.compile(r"\s*([0-9]{1,9})\s*:\s*(\S.*?)\s*")


def vgpu_facts(attributes: Mapping[str, str], mdev: MdevFacts | None, told: VgpuFacts | None) -> VgpuFacts | None:
    """Gives the facts of a function with what NVML `told`; None if nothing speaks of virtual GPUs."""
    files: dict[str, list[str]] = {}
    for path, text in attributes.items():
        match = _FILE.fullmatch(path)
        if match is not None:
            files.setdefault(match[1], []).append(text)
    known = told or VgpuFacts()
    if files:
        created = [text for text in files.get(_CURRENT, ()) if re.fullmatch("[1-9][0-9]{0,8}", text)]
        types = _by_vfio(files.get(_CREATABLE, ()), known.types, created)
        return replace(known, framework="vfio", types=types, active=max(known.active, len(created)))
    if mdev is not None:
        shared = any(path.startswith("virtfn") for path in attributes if "/mdev_supported_types/" in path)
        types = _by_mdev(mdev, known.types, shared)
        return replace(known, framework="mdev", types=types, active=max(known.active, len(mdev.devices)))
    return told


def creatable(table: str) -> dict[str, str]:
    """Gives name by id of what a VF's `creatable_vgpu_types` lists."""
    return {match[1]: match[2] for line in table.splitlines() if (match := _ROW.fullmatch(line))}


def _by_vfio(tables: Sequence[str], told: Iterable[VgpuType], created: Sequence[str]) -> tuple[VgpuType, ...]:
    """Gives all types that NVML or a VF knows; without a VF that says what can be created, NVML has the word."""
    rows = [row for table in tables for row in creatable(table).items()]
    places = Counter(id for id, _ in rows)
    types = {each.id: each for each in told}
    for id, name in rows:
        types.setdefault(id, VgpuType(name, id))
    if not tables:
        return tuple(types.values())
    return tuple(
        replace(types[id], available=_room(types[id], places[id], created, types)) for id in sorted(types, key=int)
    )


def _by_mdev(mdev: MdevFacts, told: Iterable[VgpuType], shared: bool) -> tuple[VgpuType, ...]:
    numbers = {f"nvidia-{each.id}": each for each in told}
    types = {each.id: _mdev_type(each, numbers.get(each.id)) for each in mdev.types}
    created = [id for _, id in mdev.devices]
    if not shared:  # the GPU itself is the parent, and counts right
        return tuple(types.values())
    return tuple(
        each if each.available is None else replace(each, available=_room(each, each.available, created, types))
        for each in types.values()
    )


def _mdev_type(mdev: MdevType, told: VgpuType | None) -> VgpuType:
    """Takes NVML's numbers, else those of `num_heads=4, frl_config=60, framebuffer=8192M, ..., max_instance=4`."""
    numbers = {key: int(value) for key, value in re.findall(r"(\w+)=([0-9]{1,9})", mdev.description or "")}
    return VgpuType(
        name=mdev.name,
        id=mdev.id,
        memory_mib=told.memory_mib if told and told.memory_mib is not None else numbers.get("framebuffer"),
        total=told.total if told and told.total is not None else numbers.get("max_instance"),
        available=mdev.available,
    )


def _room(of: VgpuType, places: int, created: Iterable[str], types: Mapping[str, VgpuType]) -> int:
    """Bounds `places` by what the GPU carries of this size; vGPUs of another size are not counted."""
    if of.total is None:
        return places
    sizes = {id: each.memory_mib for id, each in types.items()}
    same = sum(id == of.id or (of.memory_mib is not None and sizes.get(id) == of.memory_mib) for id in created)
    return max(0, min(places, of.total - same))
