# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Accelerators of a PCI class of their own that no more specific driver knows."""

from __future__ import annotations

from typing import Final

from devagent.driver import Driver, Specificity
from devagent.model.claim import Claim, Kind, Mode
from devagent.model.custom import pci_class
from devagent.model.pci import Function
from devagent.model.vendors import vendor_name

# Processing accelerator, and co-processor. 1201 is SDXI, a DMA engine of the platform.
_CLASSES: Final = ("1200", "0b40")

# pci.ids 2026.10.24 and the kernel drivers habanalabs, qaic; Huawei's from Cyborg's driver.
MODELS: Final = {
    ("1bcf", "001c"): "SX-Aurora Vector Engine",
    ("1da3", "1000"): "Gaudi",
    ("1da3", "1020"): "Gaudi 2",
    ("1da3", "1060"): "Gaudi 3",
    ("17cb", "a080"): "AI 080",
    ("17cb", "a100"): "AI 100",
    ("17cb", "a110"): "AI 200",
    ("19e5", "d100"): "Ascend 310",
    ("19e5", "d500"): "Ascend 310P",
    ("19e5", "d801"): "Ascend 910",
    ("19e5", "d802"): "Ascend 910B",
    ("19e5", "d803"): "Ascend 910C",
}


class Accel(Driver):
    """Claims processing accelerators (class 1200) and co-processors (class 0b40)."""

    name = "accel"
    specificity = Specificity.CLASS

    def recognises(self, function: Function) -> bool:
        """Tells whether the class is an accelerator's."""
        return function.class_code.startswith(_CLASSES)

    def claim(self, function: Function) -> Claim:
        """Offers the device, and its VFs where it is a PF."""
        model = MODELS.get((function.vendor_id, function.device_id), f"accelerator [{function.device_id}]")
        offers = {Mode.WHOLE: pci_class(function.vendor_id, function.device_id)}
        if function.sriov is not None:
            offers[Mode.VF] = pci_class(function.vendor_id, function.sriov.vf_device_id or function.device_id)
        return Claim(
            driver=self.name,
            address=function.address,
            kind=Kind.ACCELERATOR,
            vendor=vendor_name(function.vendor_id),
            model=model,
            offers=offers,
        )
