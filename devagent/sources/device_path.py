# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads out of a path in /sys/devices which PCI function a NIC or a disk is on."""

from __future__ import annotations

from devagent.model.pci import is_address


def pci_address(target: str | None) -> str | None:
    """Gives the last PCI address in a link such as ../../devices/pci0000:00/0000:00:03.0/virtio1/net/eth0."""
    addresses = [part for part in (target or "").split("/") if is_address(part)]
    return addresses[-1] if addresses else None
