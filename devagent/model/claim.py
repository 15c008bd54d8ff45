# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a driver says of one device (not Nova's `claim`, which is an instance's hold on a compute node)."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from devagent.model.gpu import GpuFacts
from devagent.model.health import Health
from devagent.model.identity import Identity


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
    MDEV = "mdev"
    VGPU = "vgpu"

    @property
    def is_made(self) -> bool:
        """Whether what is given is made when a consumer comes: mediated devices, NVIDIA's vGPUs on VFs."""
        return self in (Mode.MDEV, Mode.VGPU)


@dataclass(frozen=True, slots=True)
class FpgaFacts:
    """An FPGA's regions that can be reconfigured, and what is loaded.

    `interface_id` is what a partial bitstream must match, `loaded` the accelerator function's id
    (both 32 hex digits), `regions` the kernel's names of the regions. `shell` names the static design
    (an Alveo's VBNV, a DFL card's bitstream id), `ports` counts the accelerator slots, `state` is the
    fpga_manager's.
    """

    interface_id: str | None = None
    regions: tuple[str, ...] = ()
    loaded: str | None = None
    shell: str | None = None
    ports: int | None = None
    state: str | None = None


@dataclass(frozen=True, slots=True)
class NetInterface:
    """One network interface; `link` is whether it has one, the speed in Mbit/s."""

    name: str
    mac: str | None = None
    link: bool | None = None
    speed_mbps: int | None = None


@dataclass(frozen=True, slots=True)
class NetFacts:
    """A NIC's interfaces, and how its VFs are switched: `switchdev` or `legacy`.

    `representors` counts the interfaces that stand for VFs in switchdev mode; they are in no list.
    """

    interfaces: tuple[NetInterface, ...] = ()
    eswitch: str | None = None
    representors: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the interfaces."""
        return tuple(interface.name for interface in self.interfaces)


@dataclass(frozen=True, slots=True)
class MdevType:
    """One type of mediated device of a parent; `available` how many more could be made now."""

    id: str
    name: str
    device_api: str | None = None
    available: int | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class MdevFacts:
    """Mediated devices: the types, and those that exist as (UUID, type id)."""

    types: tuple[MdevType, ...] = ()
    devices: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """What one driver says of one function that it recognises.

    `offers` maps each way in which the device can be given to its default resource class, `refusals`
    each way in which it cannot to the reason.
    `failure` says why the driver could not tell; the device is then unknown, not gone.
    `vendor` and `model` are for people; `traits` are for Placement and come from ids, never from text.
    `identities` are what the vendor made immutable, strongest first: a GPU's UUID, a serial number.
    `facts` are further things worth knowing, by name (`services: sym;asym`), for people only.
    `health` is what the driver can tell from one look; None if nothing tells.
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
    mdev: MdevFacts | None = None
    identities: tuple[Identity, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    health: Health | None = None
    failure: str | None = None
