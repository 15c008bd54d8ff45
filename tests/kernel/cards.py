# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The accelerators that a scenario plugs in: what lab_pci is told to make of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

DRIVERS: Final = ("nouveau", "nvidia", "amdgpu", "i915", "4xxx", "mlx5_core")
"""The names under which lab_pci drives its cards; others have a module of their own."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A card; its device is a PF with `vfs` VFs if there are any.

    On a NUMA node it sits behind a root port, with an IOMMU group. With `numa` None, or a domain that is not 0, it
    has a root bus of its own that the firmware knows nothing of: no IOMMU group.
    """

    vendor: str
    device: str
    class_code: str
    driver: str = "-"
    subsystem: str = "145f"
    numa: int | None = 0
    domain: int = 0
    vfs: int = 0
    vf_device: str = "0"
    kind: str = "plain"
    serial: int = 0


def gpu(*, numa: int | None = 0, vfs: int = 0, domain: int = 0, serial: int = 0, driver: str = "nouveau") -> Card:
    """Gives an NVIDIA A100; on NVIDIA's own driver it is asked by NVML, which the guest does not have."""
    card = Card(vendor="10de", device="20f1", class_code="030200", driver=driver, vfs=vfs, vf_device="20f1")
    return replace(card, numa=numa, domain=domain, serial=serial)


def vgpu(*, numa: int | None = 0) -> Card:
    """Gives an NVIDIA T4 whose driver offers vGPUs as mediated devices."""
    return Card(vendor="10de", device="1eb8", class_code="030200", driver="nvidia", numa=numa, kind="mdev")


def flex(*, numa: int | None = 0, vfs: int = 4, serial: int = 0) -> Card:
    """Gives an Intel Flex 170, a GPU whose VFs can be given as they are."""
    card = Card(vendor="8086", device="56c0", class_code="038000", driver="i915", vfs=vfs, vf_device="56c0")
    return replace(card, numa=numa, serial=serial)


def gvt(*, numa: int | None = 0) -> Card:
    """Gives an Intel UHD 620 whose driver offers vGPUs as mediated devices."""
    return Card(vendor="8086", device="5917", class_code="038000", driver="i915", numa=numa, kind="mdev")


def qat(*, numa: int | None = 0, vfs: int = 16) -> Card:
    """Gives an Intel QuickAssist 4xxx."""
    return Card(vendor="8086", device="4940", class_code="0b4000", driver="4xxx", numa=numa, vfs=vfs, vf_device="4941")


def dfl(*, numa: int | None = 0) -> Card:
    """Gives an Intel PAC N3000, which the kernel's own dfl-pci drives."""
    return Card(
        vendor="8086", device="0b30", class_code="120000", driver="dfl-pci", numa=numa, kind="dfl",
        vfs=1, vf_device="0b31",
    )  # fmt: skip


def altera(*, numa: int | None = 0) -> Card:
    """Gives an Altera FPGA with a plain fpga_manager."""
    return Card(vendor="1172", device="e003", class_code="120000", driver="altera-cvp", numa=numa)
