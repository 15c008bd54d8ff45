# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Accelerators of a PCI class of their own, and a few known by ids, that no more specific driver knows.

What the kernel drivers tell below a card's PCI function; only DRM's accel subsystem has major 261:

    accel/accel0/dev                     261:0
    status                               Operational                   habanalabs
    module_id                            5                             habanalabs
    mhi0/serial_number                   Serial Number: 2821134        qaic
    tenstorrent/tenstorrent!0/tt_serial  100018611902010               tt-kmd
    fw_version                           1.5.5.391                     amdxdna
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from devagent.driver import Driver, Specificity
from devagent.model.claim import Claim, Kind, Mode
from devagent.model.custom import pci_class
from devagent.model.health import Health, State
from devagent.model.identity import Identity
from devagent.model.pci import Function
from devagent.model.vendors import vendor_name

# Processing accelerator, and co-processor. 1201 is SDXI, a DMA engine of the platform.
_CLASSES: Final = ("1200", "0b40")

# pci.ids 2026.10.24 and the kernel drivers habanalabs, qaic, ivpu, amdxdna; Huawei's from Cyborg's driver.
MODELS: Final = {
    ("1022", "1502"): "Ryzen AI NPU",
    ("1022", "17f0"): "Ryzen AI NPU",
    ("1bcf", "001c"): "SX-Aurora Vector Engine",
    ("1d0f", "7064"): "Inferentia",
    ("1d0f", "7164"): "Trainium",
    ("1d0f", "7264"): "Inferentia2",
    ("1d0f", "7364"): "Trainium2",
    ("1d0f", "7564"): "Neuron accelerator",
    ("1d22", "3684"): "Kunlun",
    ("1da3", "1000"): "Gaudi",
    ("1da3", "1010"): "Gaudi (secured)",
    ("1da3", "1020"): "Gaudi 2",
    ("1da3", "1060"): "Gaudi 3",
    ("1da3", "1063"): "Gaudi 3",
    ("17cb", "a080"): "AI 080",
    ("17cb", "a100"): "AI 100",
    ("17cb", "a110"): "AI 200",
    ("19e5", "d100"): "Ascend 310",
    ("19e5", "d500"): "Ascend 310P",
    ("19e5", "d801"): "Ascend 910",
    ("19e5", "d802"): "Ascend 910B",
    ("19e5", "d803"): "Ascend 910C",
    ("8086", "2710"): "DLB",
    ("8086", "2714"): "DLB",
    ("8086", "643e"): "NPU",
    ("8086", "7d1d"): "NPU",
    ("8086", "ad1d"): "NPU",
    ("8086", "b03e"): "NPU",
    ("8086", "d71d"): "NPU",
    ("8086", "fd3e"): "NPU",
}
# Vendors that make nothing but accelerators, and GPUs whose displays nobody looks at.
_VENDORS: Final = ("1d95", "1e36", "1e52", "1ed5", "9999", "cabc")

_ACCEL_NODE: Final = re.compile("261:[0-9]{1,7}")
_TT: Final = "tenstorrent/tenstorrent!*"
_TOLD: Final = {
    "1022": {"firmware": "fw_version"},
    "1da3": {"OAM module": "module_id", "security": "security_enabled", "firmware": "fw_os_ver"},
    "1e52": {"card": f"{_TT}/tt_card_type", "firmware": f"{_TT}/tt_fw_bundle_ver"},
}
_SERIALS: Final = {
    "17cb": ("mhi", "mhi*/serial_number", re.compile("Serial Number: ([0-9]{1,10})|([0-9]{1,10})")),
    "1e52": ("tenstorrent", f"{_TT}/tt_serial", re.compile("(?:0x)?([0-9a-fA-F]{1,16})")),
}
# What habanalabs says (ABI/testing/sysfs-driver-habanalabs), and what that means.
_STATUS: Final = {
    "operational": State.HEALTHY,
    "disabled": State.UNHEALTHY,
    "malfunction": State.UNHEALTHY,
    "needs reset": State.UNHEALTHY,
}


class Accel(Driver):
    """Claims processing accelerators (class 1200), co-processors (class 0b40) and those known by ids."""

    name = "accel"
    specificity = Specificity.CLASS
    reads = ("accel/accel*/dev",)
    asks = (
        "status",
        *(path for told in _TOLD.values() for path in told.values()),
        *(path for _, path, _ in _SERIALS.values()),
    )

    def recognises(self, function: Function) -> bool:
        """Tells whether the class is an accelerator's, the ids are, or the vendor makes nothing else."""
        return (
            function.class_code.startswith(_CLASSES)
            or (function.vendor_id, function.device_id) in MODELS
            or (function.vendor_id in _VENDORS and function.class_code.startswith("03"))
        )

    def claim(self, function: Function) -> Claim:
        """Offers the device, and its VFs where it is a PF."""
        is_gpu = function.class_code.startswith("03")
        noun = "GPU" if is_gpu else "accelerator"
        offers = {Mode.WHOLE: "PGPU" if is_gpu else pci_class(function.vendor_id, function.device_id)}
        if function.sriov is not None:
            offers[Mode.VF] = pci_class(function.vendor_id, function.vf_device_id)
        return Claim(
            driver=self.name,
            address=function.address,
            kind=Kind.GPU if is_gpu else Kind.ACCELERATOR,
            vendor=vendor_name(function.vendor_id),
            model=MODELS.get((function.vendor_id, function.device_id), f"{noun} [{function.device_id}]"),
            offers=offers,
            identities=tuple(_identities(function)),
            facts=tuple(_facts(function)),
            health=_health(function),
        )


def _facts(function: Function) -> Iterator[tuple[str, str]]:
    files = {name: function.attributes.get(f"accel/{name}/dev", "") for name in function.names("accel")}
    nodes = [f"/dev/accel/{name}" for name, text in files.items() if _ACCEL_NODE.fullmatch(text)]
    if nodes:
        yield "node", ", ".join(nodes)
    for name, pattern in _TOLD.get(function.vendor_id, {}).items():
        text = next(function.texts(pattern), "").partition("\n")[0][:80]
        if text and text.isprintable():
            yield name, {"0": "off", "1": "on"}.get(text, text) if name == "security" else text


def _identities(function: Function) -> Iterator[Identity]:
    source, pattern, spelling = _SERIALS.get(function.vendor_id, ("", "", re.compile("")))
    match = spelling.fullmatch(next(function.texts(pattern), "")) if pattern else None
    value = next(filter(None, match.groups()), "").lower() if match else ""
    if value.strip("0"):
        yield Identity(source, value)


def _health(function: Function) -> Health | None:
    """Judges a Gaudi by its driver's word; while it resets or starts it may yet recover."""
    text = function.attributes.get("status", "").lower() if function.vendor_id == "1da3" else ""
    if not text:
        return None
    state = _STATUS.get(text, State.SUSPECT)
    return Health(state, () if state is State.HEALTHY else (f"habanalabs says that it is {text[:80]!r}",))
