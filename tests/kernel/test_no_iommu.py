# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A host that was booted without an IOMMU."""

from __future__ import annotations

from .cards import gpu
from .guest import PCI, Guest
from .truth import agree


def test_without_iommu_there_are_no_groups(guest_without_iommu: Guest) -> None:
    guest = guest_without_iommu
    card = guest.plug(gpu(numa=1, vfs=4))
    vfs = guest.set_vfs(card, 4)
    guest.write(f"{PCI}/{vfs[0]}/driver_override", "vfio-pci")
    guest.write("/sys/bus/pci/drivers_probe", vfs[0])
    assert guest.link(f"{PCI}/{vfs[0]}/driver") is None
    found = guest.discover("--all")
    agree(guest, found)
    assert found.host["iommu"] is False
    assert found.devices[card]["iommu_group"] is None
    assert {vf["iommu_group"] for vf in found.devices[card]["sriov"]["vfs"]} == {None}
