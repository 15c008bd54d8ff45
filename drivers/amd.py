# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""AMD GPUs, by PCI ids and amdgpu's sysfs attributes."""

from __future__ import annotations

import re
from typing import Final

from devagent.driver import Driver, Specificity
from devagent.model.claim import Claim, GpuFacts, Kind, Mode
from devagent.model.custom import custom, pci_class
from devagent.model.pci import Function
from devagent.model.vendors import vendor_name

# pci.ids 2026.10.24, and amdgpu's own table for the VFs.
MODELS: Final = {
    "6860": "MI25",
    "686c": "MI25 VF",
    "738c": "MI100",
    "738e": "MI100",
    "7408": "MI250X",
    "740c": "MI250X",
    "740f": "MI210",
    "7410": "MI210 VF",
    "73a1": "V620",
    "73ae": "V620 VF",
    "7461": "V710",
    "74a0": "MI300A",
    "74a1": "MI300X",
    "74a2": "MI308X",
    "74a5": "MI325X",
    "74b5": "MI300X VF",
    "74b9": "MI325X VF",
    "75a0": "MI350X",
    "75a3": "MI355X",
}


class Amd(Driver):
    """Claims display controllers and processing accelerators of vendor 1002."""

    name = "amd"
    specificity = Specificity.FAMILY
    # amdgpu's own files, shown in ABI/testing/sysfs-driver-amdgpu; absent while on vfio-pci.
    reads = ("mem_info_vram_total", "unique_id")

    def recognises(self, function: Function) -> bool:
        """Tells whether it is an AMD function of class 03xx or, as the MI300 family, 1200."""
        return function.vendor_id == "1002" and function.class_code.startswith(("03", "1200"))

    def claim(self, function: Function) -> Claim:
        """Offers the GPU as a whole, and its VFs where it is an SR-IOV PF (driver gim)."""
        model = MODELS.get(function.device_id)
        offers = {Mode.WHOLE: "PGPU"}
        if function.sriov is not None:
            offers[Mode.VF] = pci_class(function.vendor_id, function.sriov.vf_device_id or function.device_id)
        return Claim(
            driver=self.name,
            address=function.address,
            kind=Kind.GPU,
            vendor=vendor_name(function.vendor_id),
            model=model or f"GPU [{function.device_id}]",
            offers=offers,
            traits=frozenset({custom("MODEL", model)}) if model else frozenset(),
            gpu=GpuFacts(uuid=_unique_id(function), memory_mib=_memory_mib(function)),
        )


def _unique_id(function: Function) -> str | None:
    """Gives `unique_id`, 16 hex digits that stay with the card (GFX9 and newer); zero means none."""
    text = function.attributes.get("unique_id", "").lower()
    return text if re.fullmatch("[0-9a-f]{16}", text) and int(text, 16) else None


def _memory_mib(function: Function) -> int | None:
    text = function.attributes.get("mem_info_vram_total", "")
    return int(text) >> 20 if re.fullmatch("[0-9]{1,16}", text) else None
