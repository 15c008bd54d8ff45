# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""NVIDIA GPUs, by PCI ids: those on vfio-pci, which NVML cannot see, are recognised all the same."""

from __future__ import annotations

from typing import Final

from devagent.driver import Driver, Specificity
from devagent.model.claim import Claim, GpuFacts, Kind, Mode
from devagent.model.custom import custom
from devagent.model.pci import Function
from devagent.model.vendors import vendor_name

# pci.ids 2026.10.24.
MODELS: Final = {
    "1eb8": "T4",
    "1db1": "V100 SXM2 16GB",
    "1db4": "V100 PCIe 16GB",
    "1db5": "V100 SXM2 32GB",
    "1db6": "V100 PCIe 32GB",
    "1df6": "V100S PCIe 32GB",
    "20b0": "A100 SXM4 40GB",
    "20b2": "A100 SXM4 80GB",
    "20b5": "A100 PCIe 80GB",
    "20b7": "A30",
    "20bd": "A800 SXM4 40GB",
    "20f1": "A100 PCIe 40GB",
    "20f3": "A800 SXM4 80GB",
    "20f5": "A800 80GB",
    "2235": "A40",
    "2236": "A10",
    "25b6": "A16 / A2",
    "26b1": "RTX 6000 Ada",
    "26b5": "L40",
    "26b8": "L40G",
    "26b9": "L40S",
    "26ba": "L20",
    "27b8": "L4",
    "2321": "H100 NVL",
    "2322": "H800 PCIe",
    "2324": "H800",
    "2329": "H20",
    "2330": "H100 SXM5 80GB",
    "2331": "H100 PCIe",
    "2335": "H200 SXM",
    "233b": "H200 NVL",
    "2342": "GH200 120GB",
    "2901": "B200",
    "2941": "GB200",
    "2bb5": "RTX PRO 6000 Blackwell Server Edition",
    "3182": "B300",
    "31c2": "GB300",
}

# The only compute capability of a data-centre GPU for which os-traits has a name.
_CAPABILITY: Final = dict.fromkeys(("1db1", "1db4", "1db5", "1db6", "1df6"), "HW_GPU_CUDA_COMPUTE_CAPABILITY_V7_0")


class Nvidia(Driver):
    """Claims display and 3D controllers of vendor 10de; NVSwitches are bridges and never get here."""

    name = "nvidia"
    specificity = Specificity.FAMILY

    def recognises(self, function: Function) -> bool:
        """Tells whether it is an NVIDIA function of class 0300, 0302 or 0380."""
        return function.vendor_id == "10de" and function.class_code.startswith("03")

    def claim(self, function: Function) -> Claim:
        """Offers the GPU as a whole; its VFs carry vGPUs and are nothing to give by themselves."""
        model = MODELS.get(function.device_id)
        traits = {custom("MODEL", model)} if model else set()
        if function.device_id in _CAPABILITY:
            traits.add(_CAPABILITY[function.device_id])
        return Claim(
            driver=self.name,
            address=function.address,
            kind=Kind.GPU,
            vendor=vendor_name(function.vendor_id),
            model=model or f"GPU [{function.device_id}]",
            offers={Mode.WHOLE: "PGPU"},
            refusals={Mode.VF: "a VF of an NVIDIA GPU is nothing without a vGPU type"},
            traits=frozenset(traits),
            gpu=GpuFacts(),
        )
