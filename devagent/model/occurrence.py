# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the kernel tells of a device's health between two looks. Times are epoch seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Xid:
    """An error that NVIDIA's driver reports of a GPU, by its number in NVIDIA's catalogue.

    `instance` names the MIG instance (`GI 5`, `GI 5 CI 0`) if the error was one instance's.
    """

    address: str
    number: int
    detail: str
    at: float
    instance: str | None = None


@dataclass(frozen=True, slots=True)
class AerError:
    """An uncorrected PCIe error (Advanced Error Reporting) of a function."""

    address: str
    fatal: bool
    at: float


@dataclass(frozen=True, slots=True)
class DriverLoaded:
    """NVIDIA's kernel module was loaded anew: whatever its GPUs had before, they were reset since."""

    at: float


@dataclass(frozen=True, slots=True)
class PcieError:
    """The kernel recovers a device from a PCIe error, or has: it says so by an event, not in its log.

    `state` is `begin_recovery`, `successful_recovery` or `failed_recovery` (pci_uevent_ers, drivers/pci/pci-driver.c).
    """

    address: str
    state: str


Occurrence = Xid | AerError | DriverLoaded | PcieError
"""What the kernel tells between two looks."""
