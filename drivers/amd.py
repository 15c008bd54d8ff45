# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""AMD GPUs, by PCI ids, amdgpu's sysfs attributes and the nodes of KFD.

What amdgpu tells of an MI300X (ABI/testing/sysfs-driver-amdgpu), all of it absent while on vfio-pci:

    unique_id                      4d8c3b93e1f70a52
    mem_info_vram_total            206141652992
    current_compute_partition      SPX
    available_compute_partition    SPX, DPX, QPX, CPX
    current_memory_partition       NPS1
    available_memory_partition     NPS1, NPS4
    xgmi_physical_id               3
    product_name                   AMD Instinct MI300X OAM
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from devagent.driver import Driver, Specificity
from devagent.model.claim import Claim, Kind, Mode
from devagent.model.custom import custom, pci_class
from devagent.model.gpu import GpuFacts, GpuLink, KfdNode, Partition
from devagent.model.identity import Identity
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

_NO_VFS: Final = "amdgpu makes no VFs: that takes AMD's SR-IOV host driver gim in its place"
# The kernel's device serial number (PCIe), which newer kernels show by the same file name.
_DSN: Final = re.compile("[0-9a-f]{2}(?:-[0-9a-f]{2}){7}")
# What amdgpu's and gim's files say where the hardware has no such thing.
_NOTHING: Final = frozenset({"", "unknown", "none", "n/a", "not supported", "not applicable"})

_TOLD: Final = {
    "product": "product_name",
    "part number": "product_number",
    "board": "board_info",
    "VBIOS": "vbios_version",
    "XGMI physical id": "xgmi_physical_id",
    "accelerator partition profile": "accelerator_partition_profile",
    "spatial partition mode": "spatial_partition_mode",
}


class Amd(Driver):
    """Claims display controllers and processing accelerators of vendor 1002."""

    name = "amd"
    specificity = Specificity.FAMILY
    reads = ("mem_info_vram_total", "unique_id")
    asks = (
        "available_compute_partition",
        "available_memory_partition",
        "current_compute_partition",
        "current_memory_partition",
        "memory_partition_mode",
        "serial_number",
        *_TOLD.values(),
    )

    def recognises(self, function: Function) -> bool:
        """Tells whether it is an AMD function of class 03xx or, as the MI300 family, 1200."""
        return function.vendor_id == "1002" and function.class_code.startswith(("03", "1200"))

    def claim(self, function: Function) -> Claim:
        """Offers the GPU as a whole, and its VFs where it is an SR-IOV PF (driver gim)."""
        model = MODELS.get(function.device_id)
        unique_id = _unique_id(function)
        offers, refusals = {Mode.WHOLE: "PGPU"}, {}
        if function.driver == "amdgpu" and function.sriov is not None and not function.sriov.vfs:
            refusals[Mode.VF] = _NO_VFS
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
            gpu=GpuFacts(
                uuid=unique_id,
                serial=_serial(function),
                memory_mib=_memory_mib(function),
                partition=_partition(function.attributes),
                links=_links(function),
            ),
            identities=(Identity("amdgpu", unique_id),) if unique_id else (),
            facts=tuple(_facts(function)),
        )


def _unique_id(function: Function) -> str | None:
    """Gives `unique_id`, 16 hex digits that stay with the card (GFX9 and newer); zero means none."""
    text = function.attributes.get("unique_id", "").lower()
    return text if re.fullmatch("[0-9a-f]{16}", text) and int(text, 16) else None


def _serial(function: Function) -> str | None:
    text = _said(function.attributes, "serial_number")
    return None if text is None or _DSN.fullmatch(text.lower()) or not text.strip("0") else text


def _memory_mib(function: Function) -> int | None:
    text = function.attributes.get("mem_info_vram_total", "")
    return int(text) >> 20 if re.fullmatch("[0-9]{1,16}", text) else None


def _partition(attributes: Mapping[str, str]) -> Partition | None:
    """Gives the partitioning; None where the hardware or the driver has none.

    Several modes do not yet mean that the driver would switch: only its refusal tells.
    """
    compute = _mode(attributes.get("current_compute_partition", ""))
    memory = _mode(attributes.get("current_memory_partition") or attributes.get("memory_partition_mode", ""))
    computes = _modes(attributes.get("available_compute_partition", ""))
    memories = _modes(attributes.get("available_memory_partition", ""))
    only_these = {*computes, *memories} <= {compute, memory}
    changeable = False if computes and memories and only_these else None
    found = Partition(compute, computes, memory, memories, changeable)
    return None if found == Partition() else found


def _modes(text: str) -> tuple[str, ...]:
    """Reads `SPX, DPX, QPX, CPX` or `NPS1, NPS4`."""
    return tuple(filter(None, map(_mode, re.split("[, ]+", text))))


def _mode(text: str) -> str | None:
    return text.upper() if re.fullmatch("[SDTQC]PX|NPS[1-9]", text.upper()) else None


def _links(function: Function) -> tuple[GpuLink, ...]:
    """Gives the XGMI links to other GPUs: KFD has one per peer, however many lanes it has.

    In CPX mode each partition has links of its own, to all partitions of the others and of this GPU.
    """
    peers = {peer for node in function.kfd for kind, peer in node.links if kind == "xgmi"}
    return tuple(GpuLink("xgmi", peer, 1) for peer in sorted(peers - {function.address}))


def _facts(function: Function) -> list[tuple[str, str]]:
    found = [(name, text) for name, path in _TOLD.items() if (text := _said(function.attributes, path)) is not None]
    if function.driver == "gim":
        found.append(("VFs", "made by gim as it is loaded (vf_num); sriov_numvfs cannot change them"))
    if function.kfd:
        found += _kfd_facts(function.kfd)
    return found


def _kfd_facts(nodes: tuple[KfdNode, ...]) -> list[tuple[str, str]]:
    found = [("KFD nodes", ", ".join(str(node.node) for node in nodes))]
    for name, values in (
        ("architecture", (node.gfx_version for node in nodes)),
        ("XGMI hive", (node.hive_id for node in nodes)),
    ):
        texts = sorted({value for value in values if value})
        if texts:
            found.append((name, ", ".join(texts)))
    return found


def _said(attributes: Mapping[str, str], path: str) -> str | None:
    """Gives the first line of what the driver says, shortened; None if it says that there is nothing."""
    text = attributes.get(path, "").partition("\n")[0].strip()
    text = text.removeprefix("type :").strip()[:80]
    return text if text.isprintable() and text.lower() not in _NOTHING else None
