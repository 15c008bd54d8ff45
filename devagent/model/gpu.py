# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is known of a GPU beyond PCI: memory, MIG, vGPU, partitions, links, errors. None is unknown.

Sources: NVML (nvml.h 13.3), /sys/class/kfd, and the sysfs files of amdgpu, xe and the vGPU managers.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MigProfile:
    """One shape of GPU instance: `name` as NVIDIA spells it (`1g.10gb`), memory in MiB.

    `total` is how many fit on an empty GPU, `free` how many could be created now.
    """

    name: str
    memory_mib: int | None
    total: int
    free: int | None = None


@dataclass(frozen=True, slots=True)
class MigInstance:
    """One GPU instance that exists: its placement in memory slices, and its MIG devices' UUIDs."""

    id: int
    profile: str
    start: int
    size: int
    uuids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MigFacts:
    """Multi-instance mode: `pending` differs from `enabled` until the GPU is reset."""

    enabled: bool
    pending: bool
    profiles: tuple[MigProfile, ...] = ()
    instances: tuple[MigInstance, ...] = ()


@dataclass(frozen=True, slots=True)
class VgpuType:
    """One type of virtual GPU, by its name (`NVIDIA L40S-8Q`), since ids change with the driver.

    `id` is the kernel's or the driver's (`nvidia-558`, `1155`); `total` how many an empty GPU carries,
    `available` how many could be created now.
    """

    name: str
    id: str
    memory_mib: int | None = None
    total: int | None = None
    available: int | None = None


@dataclass(frozen=True, slots=True)
class VgpuFacts:
    """Virtual GPUs: by the mdev framework (`mdev`) or NVIDIA's vendor-specific VFIO (`vfio`).

    Before VFs exist the two cannot be told apart: `framework` is then None. `host_mode` is NVML's
    (`sriov`, `non-sriov`); `active` counts the vGPUs that exist.
    """

    framework: str | None = None
    host_mode: str | None = None
    heterogeneous: bool | None = None
    types: tuple[VgpuType, ...] = ()
    active: int = 0


@dataclass(frozen=True, slots=True)
class Partition:
    """How an AMD GPU is partitioned now, and how it could be: `SPX`, `CPX`; memory `NPS1`, `NPS4`."""

    compute: str | None = None
    compute_modes: tuple[str, ...] = ()
    memory: str | None = None
    memory_modes: tuple[str, ...] = ()
    changeable: bool | None = None


@dataclass(frozen=True, slots=True)
class GpuLink:
    """Links of one `kind` (`nvlink`, `xgmi`) to one peer: its PCI address, or None for a switch.

    `count` links are active.
    """

    kind: str
    peer: str | None
    count: int


@dataclass(frozen=True, slots=True)
class Fabric:
    """The NVLink fabric that a GPU is part of; `state` is `completed` once it is usable."""

    state: str
    clique: int | None = None
    cluster: str | None = None


@dataclass(frozen=True, slots=True)
class MemoryErrors:
    """What the GPU says of its memory: remapped rows, and retired pages of older generations.

    `failure`: a row could not be remapped, which ends the GPU's use; `pending`: a reset is needed.
    """

    ecc: bool | None = None
    uncorrected: int | None = None
    remapped_correctable: int | None = None
    remapped_uncorrectable: int | None = None
    pending: bool | None = None
    failure: bool | None = None


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """A GPU's own facts; `recovery_action` is what its driver says must be done (`none` if nothing)."""

    uuid: str | None = None
    serial: str | None = None
    memory_mib: int | None = None
    mig: MigFacts | None = None
    vgpu: VgpuFacts | None = None
    partition: Partition | None = None
    links: tuple[GpuLink, ...] = ()
    fabric: Fabric | None = None
    recovery_action: str | None = None
    errors: MemoryErrors | None = None


@dataclass(frozen=True, slots=True)
class NvmlGpu:
    """What NVML says of one GPU, by its PCI address; `failures` are the calls that failed, each with why.

    `lost`: the GPU has fallen off the bus.
    """

    address: str
    facts: GpuFacts = GpuFacts()
    name: str | None = None
    driver_version: str | None = None
    lost: bool = False
    failures: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class KfdNode:
    """One node of AMD's KFD topology: a GPU, or one compute partition of it.

    `links` are (kind, address of the peer) of its direct links.
    """

    address: str
    node: int
    hive_id: str | None = None
    gfx_version: str | None = None
    links: tuple[tuple[str, str], ...] = ()
