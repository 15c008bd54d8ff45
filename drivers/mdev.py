# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Parents of mediated devices that no more specific driver knows: they stand in /sys/class/mdev_bus."""

from __future__ import annotations

from devagent.driver import Driver, Specificity
from devagent.model.claim import Claim, Kind, Mode
from devagent.model.custom import pci_class
from devagent.model.gpu import GpuFacts
from devagent.model.mdev import MDEV_ASKS, mdev_facts
from devagent.model.pci import Function
from devagent.model.vendors import vendor_name


class Mdev(Driver):
    """Claims functions that, or VFs of which, can make mediated devices."""

    name = "mdev"
    specificity = Specificity.CAPABILITY
    asks = MDEV_ASKS

    def recognises(self, function: Function) -> bool:
        """Tells whether the kernel has it as a parent; NICs are more than that, and left to others."""
        return function.mdev_parent and not function.class_code.startswith("02")

    def claim(self, function: Function) -> Claim:
        """Offers mediated devices, the function as a whole while none needs it, and its VFs where it is a PF."""
        is_gpu = function.class_code.startswith("03")
        facts = mdev_facts(function.attributes)
        count = len(facts.devices) if facts else 0
        offers = {} if count else {Mode.WHOLE: "PGPU" if is_gpu else pci_class(function.vendor_id, function.device_id)}
        if facts and facts.types:
            offers[Mode.MDEV] = "VGPU"
        if function.sriov is not None:
            offers[Mode.VF] = pci_class(function.vendor_id, function.vf_device_id)
        return Claim(
            driver=self.name,
            address=function.address,
            kind=Kind.GPU if is_gpu else Kind.OTHER,
            vendor=vendor_name(function.vendor_id),
            model=f"{'GPU' if is_gpu else 'mdev parent'} [{function.device_id}]",
            offers=offers,
            refusals={Mode.WHOLE: f"it carries mediated devices ({count} exist)"} if count else {},
            gpu=GpuFacts() if is_gpu else None,
            mdev=facts,
        )
