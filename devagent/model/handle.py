# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Attach handles: what a virtual machine is given, in the form that Nova and libvirt take as it is.

    {"type": "PCI", "provider": "4a1e...", "resource_class": "SRIOV_NET_VF", "address": "0000:3b:00.2",
     "info": {"domain": "0000", "bus": "3b", "device": "00", "function": "2"}, "managed": false}
    {"type": "MDEV", "provider": "4a1e...", "resource_class": "CUSTOM_VGPU", "uuid": "4b20d080-...",
     "parent": "0000:3b:00.0", "mdev_type": "nvidia-558",
     "info": {"domain": "0000", "bus": "3b", "device": "00", "function": "0", "asked_type": "nvidia-558"}}

`info` is what nova.virt.libvirt reads of an accelerator request's attach_handle_info (Nova 34).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PciHandle:
    """A PCI function; `managed`: libvirt is to bind it to vfio-pci and back itself, which devagent never leaves to it.

    `resource_class` is the class that was allocated, `provider` the UUID of the resource provider.
    """

    provider: str
    resource_class: str
    address: str
    managed: bool = False

    @property
    def key(self) -> str:
        """What can have one holder only: the address."""
        return self.address

    @property
    def function(self) -> str:
        """The PCI address of the function that it is."""
        return self.address


@dataclass(frozen=True, slots=True)
class MdevHandle:
    """A mediated device; `parent` is the address of the PF or VF that it is made of, `mdev_type` the kernel's name."""

    provider: str
    resource_class: str
    uuid: str
    parent: str
    mdev_type: str

    @property
    def key(self) -> str:
        """What can have one holder only: the UUID."""
        return self.uuid

    @property
    def function(self) -> str:
        """The PCI address of the function that it is a part of."""
        return self.parent


Handle = PciHandle | MdevHandle


def as_json(handle: Handle) -> dict[str, Any]:
    """Gives the handle as the API's answer has it."""
    common = {"provider": handle.provider, "resource_class": handle.resource_class}
    if isinstance(handle, PciHandle):
        info = _parts(handle.address)
        return {"type": "PCI", **common, "address": handle.address, "info": info, "managed": handle.managed}
    return {
        "type": "MDEV",
        **common,
        "uuid": handle.uuid,
        "parent": handle.parent,
        "mdev_type": handle.mdev_type,
        "info": {**_parts(handle.parent), "asked_type": handle.mdev_type},
    }


def _parts(address: str) -> dict[str, str]:
    """Gives the four parts of a PCI address in hex without 0x, as sysfs spells them."""
    domain, bus, slot = address.split(":")
    device, function = slot.split(".")
    return {"domain": domain, "bus": bus, "device": device, "function": function}
