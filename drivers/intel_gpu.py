# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Intel GPUs (Flex, Max, Arc Pro and integrated), by PCI ids."""

from __future__ import annotations

from typing import Final

from devagent.driver import Driver, Specificity
from devagent.model.claim import Claim, GpuFacts, Kind, Mode
from devagent.model.custom import custom, pci_class
from devagent.model.pci import Function
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


class IntelGpu(Driver):
    """Claims display controllers of vendor 8086."""

    name = "intel_gpu"
    specificity = Specificity.FAMILY

    def recognises(self, function: Function) -> bool:
        """Tells whether it is an Intel function of class 0300, 0302 or 0380."""
        return function.vendor_id == "8086" and function.class_code.startswith("03")

    def claim(self, function: Function) -> Claim:
        """Offers the GPU as a whole, and its VFs where the kernel driver makes it a PF."""
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
            gpu=GpuFacts(),
        )
