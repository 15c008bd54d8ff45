# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The driver contract: one small class per family of devices.

A driver is registered by an entry point in the group `devagent.drivers`. It is a pure function of what
the scan read: it says by the ids whether a function is of its family (`recognises`), which further
sysfs files it wants (`reads`), and what the device is and can become (`claim`). It never opens a file,
so it can neither block the agent nor read what a capture would miss.
"""

from __future__ import annotations

import abc
import enum
from typing import ClassVar

from devagent.model.claim import Claim
from devagent.model.pci import Function


class Specificity(enum.IntEnum):
    """How much a driver knows: where several recognise a function, the highest claims it."""

    CAPABILITY = 10
    """Any function with a capability, such as SR-IOV."""
    CLASS = 20
    """Functions of a PCI class."""
    FAMILY = 30
    """Functions known by vendor and device ids."""


class Driver(abc.ABC):
    """Recognises the devices of one family."""

    name: ClassVar[str]
    """The name of the entry point; shown to operators and used in policies and logs."""

    specificity: ClassVar[Specificity]

    reads: ClassVar[tuple[str, ...]] = ()
    """Sysfs files to read for a recognised function, relative to its directory; `*` stands for any one name.

    Only files answered from the kernel's memory: nothing that touches config space, wakes the device or
    takes its lock (sriov_numvfs, current_link_speed, config, vpd).
    """

    asks: ClassVar[tuple[str, ...]] = ()
    """More such files, whose reading runs the device's driver or waits for the device.

    They are read apart, with a time limit; a device that does not answer in time lacks them.
    """

    @abc.abstractmethod
    def recognises(self, function: Function) -> bool:
        """Tells from ids, class, kernel driver and SR-IOV alone whether `function` is of this family."""

    @abc.abstractmethod
    def claim(self, function: Function) -> Claim | None:
        """Says what `function` is, with `function.attributes` read; None if it is no device after all.

        `function.nvml` and `function.kfd` hold what NVIDIA's and AMD's own drivers say of a GPU.

        What is raised here is caught: the device is then listed as unknown, with the error, and no
        other driver takes it.
        """
