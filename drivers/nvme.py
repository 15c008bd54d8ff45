# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""NVMe controllers that can be divided by SR-IOV; a host's ordinary disks are none of ours.

nvme/nvme1/serial          S6XGNE0T400123
nvme/nvme1/model           SAMSUNG MZWLJ3T8HBLS-00007
nvme/nvme1/firmware_rev    EPK9CB5Q
nvme/nvme1/state           live
nvme/nvme1/nvme1n1/size    7501476528                      in sectors of 512 bytes
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from devagent.driver import Driver, Specificity
from devagent.model.claim import Claim, Kind, Mode
from devagent.model.custom import custom, pci_class
from devagent.model.health import Health, State
from devagent.model.identity import Identity
from devagent.model.pci import Function
from devagent.model.vendors import vendor_name

# pci.ids 2026.10.24
MODELS: Final = {("144d", "a824"): "PM173X"}

# drivers/nvme/host/sysfs.c of Linux 7.2; `connecting` is of networks, but a reset shows it too.
_STATES: Final = {
    "live": State.HEALTHY,
    "new": State.SUSPECT,
    "resetting": State.SUSPECT,
    "connecting": State.SUSPECT,
    "dead": State.UNHEALTHY,
}


class Nvme(Driver):
    """Claims NVMe controllers with the SR-IOV capability."""

    name = "nvme"
    specificity = Specificity.CLASS
    reads = (
        "nvme/nvme*/firmware_rev",
        "nvme/nvme*/model",
        "nvme/nvme*/nvme*n*/size",
        "nvme/nvme*/serial",
        "nvme/nvme*/state",
    )

    def recognises(self, function: Function) -> bool:
        """Tells whether it is an NVMe controller of which VFs exist or could be made."""
        return function.class_code == "010802" and function.is_divisible

    def claim(self, function: Function) -> Claim:
        """Offers the VFs, and the controller as a whole to a rule that asks for it by name."""
        return Claim(
            driver=self.name,
            address=function.address,
            kind=Kind.NVME,
            vendor=vendor_name(function.vendor_id),
            model=MODELS.get((function.vendor_id, function.device_id), f"NVMe controller [{function.device_id}]"),
            offers={Mode.VF: custom("NVME_VF"), Mode.WHOLE: pci_class(function.vendor_id, function.device_id)},
            identities=tuple(Identity("nvme", serial) for serial in _serials(function)),
            facts=tuple(_facts(function)),
            health=_health(function),
        )


def _texts(function: Function, name: str) -> Iterator[str]:
    for controller in function.names("nvme"):
        text = function.attributes.get(f"nvme/{controller}/{name}", "")[:80].strip()
        if text and text.isprintable():
            yield text


def _serials(function: Function) -> Iterator[str]:
    """Gives the serial number, 20 characters of ASCII at most; zeros are none."""
    for text in _texts(function, "serial"):
        if re.fullmatch(r"[!-~](?:[ -~]{0,18}[!-~])?", text) and text.strip("0"):
            yield text


def _facts(function: Function) -> Iterator[tuple[str, str]]:
    for title, name in (("product", "model"), ("firmware", "firmware_rev")):
        texts = ", ".join(_texts(function, name))
        if texts:
            yield title, texts
    namespaces = []
    for path, text in sorted(function.attributes.items()):
        match = re.fullmatch(r"nvme/nvme[0-9]+/(nvme[0-9]+(?:c[0-9]+)?n[0-9]+)/size", path)
        if match and re.fullmatch("[0-9]{1,16}", text):
            namespaces.append(f"{match[1]} ({int(text) >> 21} GiB)")
    if namespaces:
        yield "namespaces", ", ".join(namespaces)


def _health(function: Function) -> Health | None:
    states = [(text, _STATES.get(text)) for text in _texts(function, "state")]
    known = [(text, state) for text, state in states if state is not None]
    if not known:
        return None
    health = Health(State.HEALTHY)
    for text, state in known:
        if state is not State.HEALTHY:
            health |= Health(state, (f"its controller is {text}",))
    return health
