# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a driver says of one device (not Nova's `claim`, which is an instance's hold on a compute node)."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class Kind(enum.StrEnum):
    """What sort of device it is."""

    GPU = "gpu"
    FPGA = "fpga"
    NIC = "nic"
    QAT = "qat"
    NVME = "nvme"
    ACCELERATOR = "accelerator"
    OTHER = "other"


class Mode(enum.StrEnum):
    """How a device is given to virtual machines."""

    WHOLE = "whole"
    VF = "vf"


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """A GPU's own facts; None is unknown."""

    uuid: str | None = None
    memory_mib: int | None = None


@dataclass(frozen=True, slots=True)
class FpgaFacts:
    """An FPGA's regions that can be reconfigured, and what is loaded.

    `interface_id` is what a partial bitstream must match, `loaded` the accelerator function's id
    (both 32 hex digits), `regions` the kernel's names of the regions.
    """

    interface_id: str | None = None
    regions: tuple[str, ...] = ()
    loaded: str | None = None


@dataclass(frozen=True, slots=True)
class NetFacts:
    """The network interfaces of a NIC's function, by name."""

    interfaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """What one driver says of one function that it recognises.

    `offers` maps each way in which the device can be given to its default resource class, `refusals`
    each way in which it cannot to the reason.
    `failure` says why the driver could not tell; the device is then unknown, not gone.
    `vendor` and `model` are for people; `traits` are for Placement and come from ids, never from text.
    """

    driver: str
    address: str
    kind: Kind
    vendor: str
    model: str
    offers: Mapping[Mode, str] = field(default_factory=dict)
    refusals: Mapping[Mode, str] = field(default_factory=dict)
    traits: frozenset[str] = frozenset()
    gpu: GpuFacts | None = None
    fpga: FpgaFacts | None = None
    net: NetFacts | None = None
    failure: str | None = None
