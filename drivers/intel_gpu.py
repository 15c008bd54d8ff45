# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Intel GPUs (Flex, Max, Arc Pro and integrated), by PCI ids and what xe and i915 tell in sysfs.

xe since Linux 6.19 (ABI/testing/sysfs-driver-intel-xe-sriov); its vf1 is the PCI core's virtfn0:

    sriov_admin/pf/profile/sched_priority        low [normal] high
    sriov_admin/vf1/profile/exec_quantum_ms      20
    sriov_admin/vf1/profile/preempt_timeout_us   20000
    sriov_admin/vf1/profile/vram_quota           4294967296

Intel's own i915 has `drm/card0/iov/` or `drm/card0/prelim_iov/` instead, and `drm/card0/lmem_total_bytes`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from devagent.driver import Driver, Specificity
from devagent.model.claim import Claim, Kind, Mode
from devagent.model.custom import custom, pci_class
from devagent.model.gpu import GpuFacts
from devagent.model.health import Health, State
from devagent.model.mdev import MDEV_ASKS, mdev_facts
from devagent.model.pci import Function
from devagent.model.ranges import format_ranges
from devagent.model.vendors import vendor_name

# pci.ids 2026.10.24 and the xe driver's table.
MODELS: Final = {
    "0bd4": "Data Center GPU Max 1550",
    "0bd5": "Data Center GPU Max 1550",
    "0bd6": "Data Center GPU Max 1550",
    "0bda": "Data Center GPU Max 1100",
    "56c0": "Data Center GPU Flex 170",
    "56c1": "Data Center GPU Flex 140",
    "56c2": "Data Center GPU Flex 170V",
    "e211": "Arc Pro B60",
    "e212": "Arc Pro B50",
}
# Ponte Vecchio (Max): no driver makes VFs of it.
_NO_SRIOV: Final = re.compile("0bd[4-9ab]|0b69|0b6e|0be[015]")

_VRAM: Final = ("tile*/physical_vram_size_bytes", "drm/card*/lmem_total_bytes")
_PROFILE: Final = {
    "exec_quantum_ms": ("execution quantum", "ms"),
    "preempt_timeout_us": ("preemption timeout", "us"),
    "vram_quota": ("VRAM", "MiB"),
}
_ADMIN: Final = "sriov_admin/pf/profile/sched_priority"
_IOV: Final = ("drm/card*/iov/pf/auto_provisioning", "drm/card*/prelim_iov/pf/auto_provisioning")


class IntelGpu(Driver):
    """Claims display controllers of vendor 8086."""

    name = "intel_gpu"
    specificity = Specificity.FAMILY
    asks = (
        _ADMIN,
        *_IOV,
        *_VRAM,
        *(f"sriov_admin/vf*/profile/{name}" for name in _PROFILE),
        "survivability_mode",
        *MDEV_ASKS,
    )

    def recognises(self, function: Function) -> bool:
        """Tells whether it is an Intel function of class 0300, 0302 or 0380."""
        return function.vendor_id == "8086" and function.class_code.startswith("03")

    def claim(self, function: Function) -> Claim:
        """Offers the GPU as a whole, and its VFs or mediated devices where the kernel driver makes some."""
        model, mdev = MODELS.get(function.device_id), mdev_facts(function.attributes)
        offers, refusals = {Mode.WHOLE: "PGPU"} | ({Mode.MDEV: "VGPU"} if mdev and mdev.types else {}), {}
        if _NO_SRIOV.fullmatch(function.device_id):
            refusals[Mode.VF] = "no kernel driver makes VFs of a Max (Ponte Vecchio) GPU"
        elif function.sriov is not None:
            offers[Mode.VF] = pci_class(function.vendor_id, function.vf_device_id)
        return Claim(
            driver=self.name,
            address=function.address,
            kind=Kind.GPU,
            vendor=vendor_name(function.vendor_id),
            model=model or f"GPU [{function.device_id}]",
            offers=offers,
            refusals=refusals,
            traits=frozenset({custom("MODEL", model)}) if model else frozenset(),
            gpu=GpuFacts(memory_mib=_memory_mib(function.attributes)),
            mdev=mdev,
            facts=tuple(_facts(function)),
            health=_health(function.attributes),
        )


def _memory_mib(attributes: Mapping[str, str]) -> int | None:
    """Adds up the tiles' memory (xe), or gives the card's (Intel's i915); mainline i915 tells none."""
    tiles = [text for path, text in attributes.items() if re.fullmatch(r"tile[0-9]/physical_vram_size_bytes", path)]
    cards = [text for path, text in attributes.items() if re.fullmatch(r"drm/card[0-9]+/lmem_total_bytes", path)]
    sizes = [_mib(text) for text in tiles or cards[:1]]
    known = [size for size in sizes if size is not None]
    return sum(known) if known and len(known) == len(sizes) else None


def _mib(text: str) -> int | None:
    return int(text) >> 20 if re.fullmatch("[0-9]{1,16}", text) else None


def _health(attributes: Mapping[str, str]) -> Health | None:
    """In survivability mode, which only then has a file, xe does nothing but take new firmware."""
    if "survivability_mode" not in attributes:
        return None
    return Health(State.UNHEALTHY, ("is in survivability mode: its firmware must be flashed anew (dmesg says more)",))


def _facts(function: Function) -> Iterator[tuple[str, str]]:
    admin = _admin(function)
    if admin is not None:
        yield "SR-IOV admin", admin
    vfs: dict[str, list[int]] = {}
    for path in function.names("sriov_admin"):
        profile = _profile(function.attributes, path)
        if re.fullmatch("vf[1-9][0-9]{0,2}", path) and profile:
            vfs.setdefault(profile, []).append(int(path[2:]) - 1)
    for profile, indexes in sorted(vfs.items(), key=lambda item: min(item[1])):
        yield f"VF {format_ranges(indexes)}", profile


def _admin(function: Function) -> str | None:
    """Says where VFs are given their shares of the GPU."""
    if _ADMIN in function.attributes:
        return "sysfs sriov_admin"
    for name in ("iov", "prelim_iov"):
        if any(re.fullmatch(rf"drm/card[0-9]+/{name}/pf/.*", path) for path in function.attributes):
            return f"sysfs {name} of Intel's i915"
    return "debugfs only" if function.driver == "xe" and function.sriov is not None else None


def _profile(attributes: Mapping[str, str], vf: str) -> str:
    """Says what a VF was given: `execution quantum 20 ms, VRAM 4096 MiB`; zero means no limit, or none yet."""
    parts = []
    for name, (title, unit) in _PROFILE.items():
        text = attributes.get(f"sriov_admin/{vf}/profile/{name}", "")
        number = _mib(text) if unit == "MiB" else int(text) if re.fullmatch("[0-9]{1,10}", text) else None
        if number:
            parts.append(f"{title} {number} {unit}")
    return ", ".join(parts)
