# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Any SR-IOV PF that no more specific driver knows: NICs, NVMe controllers and all others."""

from __future__ import annotations

from typing import Final

from devagent.driver import Driver, Specificity
from devagent.model.claim import Claim, Kind, Mode, NetFacts
from devagent.model.custom import custom, pci_class
from devagent.model.pci import Function
from devagent.model.vendors import vendor_name

# pci.ids 2026.10.24.
MODELS: Final = {
    ("15b3", "1013"): "ConnectX-4",
    ("15b3", "1015"): "ConnectX-4 Lx",
    ("15b3", "1017"): "ConnectX-5",
    ("15b3", "1019"): "ConnectX-5 Ex",
    ("15b3", "101b"): "ConnectX-6",
    ("15b3", "101d"): "ConnectX-6 Dx",
    ("15b3", "101f"): "ConnectX-6 Lx",
    ("15b3", "1021"): "ConnectX-7",
    ("15b3", "1023"): "ConnectX-8",
    ("15b3", "1025"): "ConnectX-9",
    ("15b3", "a2d2"): "BlueField",
    ("15b3", "a2d6"): "BlueField-2",
    ("15b3", "a2dc"): "BlueField-3",
    ("15b3", "a2df"): "BlueField-4",
    ("8086", "10fb"): "82599",
    ("8086", "1521"): "I350",
    ("8086", "1563"): "X550",
    ("8086", "1572"): "X710",
    ("8086", "1583"): "XL710",
    ("8086", "158b"): "XXV710",
    ("8086", "1592"): "E810-C",
    ("8086", "1593"): "E810-C",
    ("8086", "159b"): "E810-XXV",
    ("8086", "12d2"): "E830",
    ("8086", "37d2"): "X722",
    ("144d", "a824"): "PM173X",
}


class Sriov(Driver):
    """Claims every function with the SR-IOV capability."""

    name = "sriov"
    specificity = Specificity.CAPABILITY
    reads = ("net/*/address",)

    def recognises(self, function: Function) -> bool:
        """Tells whether VFs exist or could be made."""
        return function.sriov is not None and (function.sriov.total_vfs > 0 or bool(function.sriov.vfs))

    def claim(self, function: Function) -> Claim:
        """Offers the VFs, and the PF as a whole to a rule that asks for it by name."""
        kind, vf_class = _kind(function)
        interfaces = function.names("net")
        model = MODELS.get((function.vendor_id, function.device_id), f"{_NOUNS[kind]} [{function.device_id}]")
        return Claim(
            driver=self.name,
            address=function.address,
            kind=kind,
            vendor=vendor_name(function.vendor_id),
            model=model,
            offers={Mode.VF: vf_class, Mode.WHOLE: pci_class(function.vendor_id, function.device_id)},
            traits=frozenset({"HW_NIC_SRIOV"}) if kind is Kind.NIC else frozenset(),
            net=NetFacts(interfaces) if kind is Kind.NIC else None,
        )


_NOUNS: Final = {Kind.NIC: "NIC", Kind.NVME: "NVMe controller", Kind.OTHER: "SR-IOV device"}


def _kind(function: Function) -> tuple[Kind, str]:
    """Gives the kind by base class, and the resource class of a VF."""
    if function.class_code.startswith("02"):
        return Kind.NIC, "SRIOV_NET_VF"
    if function.class_code.startswith("0108"):
        return Kind.NVME, custom("NVME_VF")
    sriov = function.sriov
    vf_device = sriov.vf_device_id if sriov and sriov.vf_device_id else function.device_id
    return Kind.OTHER, pci_class(function.vendor_id, vf_device)
