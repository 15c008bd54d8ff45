# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""NVIDIA GPUs, by PCI ids: those on vfio-pci, which NVML cannot see, are recognised all the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from devagent.driver import Driver, Specificity
from devagent.model.amount import amount
from devagent.model.claim import Claim, Kind, Mode
from devagent.model.custom import custom
from devagent.model.gpu import GpuFacts, GpuLink, MigFacts, NvmlGpu, VgpuFacts
from devagent.model.health import Health, State
from devagent.model.identity import Identity
from devagent.model.mdev import MDEV_ASKS, mdev_facts
from devagent.model.pci import Function
from devagent.model.vendors import vendor_name
from devagent.model.vgpu import VGPU_ASKS, vgpu_facts

# pci.ids 2026.10.24.
MODELS: Final = {
    "1db1": "V100 SXM2 16GB",
    "1db4": "V100 PCIe 16GB",
    "1db5": "V100 SXM2 32GB",
    "1db6": "V100 PCIe 32GB",
    "1db8": "V100 SXM3 32GB",
    "1df6": "V100S PCIe 32GB",
    "1eb8": "T4",
    "20b0": "A100 SXM4 40GB",
    "20b1": "A100 PCIe 40GB",
    "20b2": "A100 SXM4 80GB",
    "20b3": "A100 SXM 64GB",
    "20b5": "A100 PCIe 80GB",
    "20b7": "A30",
    "20b8": "A100X",
    "20b9": "A30X",
    "20bd": "A800 SXM4 40GB",
    "20f1": "A100 PCIe 40GB",
    "20f3": "A800 SXM4 80GB",
    "20f5": "A800 80GB",
    "20f6": "A800 PCIe 40GB",
    "2235": "A40",
    "2236": "A10",
    "2237": "A10G",
    "2313": "H100 CNX",
    "2321": "H100 NVL",
    "2322": "H800 PCIe",
    "2324": "H800",
    "2328": "H20B",
    "2329": "H20",
    "232c": "H20 HBM3e",
    "2330": "H100 SXM5 80GB",
    "2331": "H100 PCIe",
    "2335": "H200 SXM",
    "2336": "H100",
    "2337": "H100 SXM5 64GB",
    "2338": "H100 SXM5 96GB",
    "2339": "H100 SXM5 94GB",
    "233a": "H800 NVL 94GB",
    "233b": "H200 NVL",
    "233d": "H100 96GB",
    "2342": "GH200 120GB",
    "2345": "GH200",
    "2348": "GH200 144GB HBM3e",
    "25b6": "A16 / A2",
    "26b1": "RTX 6000 Ada",
    "26b5": "L40",
    "26b7": "L20",
    "26b8": "L40G",
    "26b9": "L40S",
    "26ba": "L20",
    "27b8": "L4",
    "2901": "B200",
    "290a": "B200",
    "2941": "GB200",
    "2bb5": "RTX PRO 6000 Blackwell Server Edition",
    "3182": "B300",
    "31c2": "GB300",
}

# The only compute capability of a data-centre GPU for which os-traits has a name.
_CAPABILITY: Final = dict.fromkeys(
    ("1db1", "1db4", "1db5", "1db6", "1db8", "1df6"), "HW_GPU_CUDA_COMPUTE_CAPABILITY_V7_0"
)

# GA100, GH100, the data-centre Blackwells: known by id, so that it stays known while a GPU is on vfio-pci.
_MIG_CAPABLE: Final = tuple(id for id in MODELS if id.startswith(("20b", "20f", "23", "29", "2bb5", "31")))

_CURES: Final = {
    "gpu reset": "a reset: end what uses it, then nvidia-smi --gpu-reset -i {address}",
    "node reboot": "a reboot of this host",
    "drain p2p": "that everything which uses NVLink is ended",
    "drain and reset": "that everything which uses NVLink is ended, then nvidia-smi --gpu-reset -i {address}",
    "recover imex domain": "that its IMEX domain is recovered: restart nvidia-imex on the domain's hosts",
    "bus reset": "a reset of its PCIe bus: give it to no one, and reboot this host if it cannot be reset",
    "system reboot": "a reboot of this whole system, its NVSwitches included",
}
# The GPU itself works: what it shares with others must be mended before they can work together again.
_SHARED: Final = ("drain p2p", "recover imex domain")


class Nvidia(Driver):
    """Claims display and 3D controllers of vendor 10de; NVSwitches are bridges and never get here."""

    name = "nvidia"
    specificity = Specificity.FAMILY
    asks = (*MDEV_ASKS, *VGPU_ASKS)

    def recognises(self, function: Function) -> bool:
        """Tells whether it is an NVIDIA function of class 0300, 0302 or 0380."""
        return function.vendor_id == "10de" and function.class_code.startswith("03")

    def claim(self, function: Function) -> Claim:
        """Offers the GPU as a whole unless it is divided, and vGPUs, which its VFs carry since Ampere."""
        nvml = function.nvml
        told = nvml.facts if nvml else GpuFacts()
        mdev = mdev_facts(function.attributes)
        gpu = replace(told, vgpu=vgpu_facts(function.attributes, mdev, told.vgpu))
        divided = _divided(gpu)
        refusals = {Mode.VF: "a VF of an NVIDIA GPU is nothing without a vGPU type"}
        name = nvml.name if nvml else None
        return Claim(
            driver=self.name,
            address=function.address,
            kind=Kind.GPU,
            vendor=vendor_name(function.vendor_id),
            model=MODELS.get(function.device_id) or name or f"GPU [{function.device_id}]",
            offers=_offers(gpu, divided),
            refusals=refusals | ({Mode.WHOLE: divided} if divided else {}),
            traits=frozenset(_traits(function.device_id, gpu)),
            gpu=gpu,
            mdev=mdev,
            identities=(Identity("nvml", gpu.uuid),) if gpu.uuid else (),
            facts=tuple(_facts(gpu, nvml)),
            health=_health(nvml) if nvml else None,
        )


def _offers(gpu: GpuFacts, divided: str | None) -> dict[Mode, str]:
    """Gives the ways that are open now: before its VFs exist, nothing tells by which framework it makes vGPUs."""
    offers = {} if divided else {Mode.WHOLE: "PGPU"}
    framework = gpu.vgpu.framework if gpu.vgpu else None
    if framework is not None:
        offers[Mode.VGPU if framework == "vfio" else Mode.MDEV] = "VGPU"
    return offers


def _divided(gpu: GpuFacts) -> str | None:
    """Says why the GPU cannot be given as a whole; None if it can."""
    if gpu.mig and gpu.mig.enabled:
        return "MIG is on: it is given in parts, if at all (nvidia-smi -mig 0 makes it whole again)"
    if gpu.mig and gpu.mig.pending:
        return "MIG will be on after its next reset (nvidia-smi -mig 0 takes that back)"
    if gpu.vgpu and gpu.vgpu.active:
        return f"carries {amount(gpu.vgpu.active, 'vGPU')}"
    return None


def _traits(device_id: str, gpu: GpuFacts) -> Iterator[str]:
    if device_id in MODELS:
        yield custom("MODEL", MODELS[device_id])
    if device_id in _CAPABILITY:
        yield _CAPABILITY[device_id]
    if gpu.mig or device_id in _MIG_CAPABLE:
        yield custom("MIG_CAPABLE")
    if gpu.mig and gpu.mig.enabled:
        yield custom("MIG_ENABLED")
    if gpu.vgpu and gpu.vgpu.framework:
        yield custom("VGPU", gpu.vgpu.framework)
    if gpu.links:
        yield custom("NVLINK")
    # A clique's number says something only within its cluster.
    if gpu.fabric and gpu.fabric.cluster and gpu.fabric.clique is not None:
        yield custom("NVLINK_CLIQUE", gpu.fabric.cluster, str(gpu.fabric.clique))


def _health(nvml: NvmlGpu) -> Health:
    """Judges by all that NVML says; the worst counts."""
    gpu, errors, fabric = nvml.facts, nvml.facts.errors, nvml.facts.fabric
    health = Health(State.HEALTHY)
    if nvml.lost:
        health |= Health(State.LOST, ("it has fallen off the bus (NVML: GPU is lost): reboot this host",))
    elif gpu == GpuFacts() and nvml.failures:
        health |= Health(State.SUSPECT, (f"NVML cannot open it: {nvml.failures[0][1]}",))
    if gpu.recovery_action not in (None, "none"):
        cure = _CURES.get(gpu.recovery_action, f"an {gpu.recovery_action} that is not known here")
        state = State.SUSPECT if gpu.recovery_action in _SHARED else State.UNHEALTHY
        health |= Health(state, (f"its driver asks for {cure.format(address=nvml.address)}",))
    if errors and errors.failure:
        health |= Health(State.UNHEALTHY, ("a row of its memory could not be remapped: replace it",))
    if errors and errors.pending:
        health |= Health(State.SUSPECT, ("its memory has errors that are only mended by a reset",))
    if fabric and fabric.state != "completed":
        hint = " (is nvidia-fabricmanager running?)" if fabric.state in ("not started", "in progress") else ""
        health |= Health(State.SUSPECT, (f"its NVLink fabric is {fabric.state}{hint}",))
    return health


def _facts(gpu: GpuFacts, nvml: NvmlGpu | None) -> Iterator[tuple[str, str]]:
    if gpu.mig:
        yield "MIG", _mig(gpu.mig)
    if gpu.vgpu:
        yield "vGPU", _vgpu(gpu.vgpu)
    if gpu.links:
        yield "NVLink", _links(gpu.links)
    if gpu.fabric:
        clique = f", clique {gpu.fabric.clique}" if gpu.fabric.clique is not None else ""
        yield "NVLink fabric", gpu.fabric.state + clique
    rows = (gpu.errors.remapped_correctable or 0) + (gpu.errors.remapped_uncorrectable or 0) if gpu.errors else 0
    if rows:
        yield "memory", f"{amount(rows, 'row')} remapped"
    if gpu.errors and gpu.errors.uncorrected:
        yield "ECC", f"{amount(gpu.errors.uncorrected, 'uncorrected error')} since the driver was loaded"
    if nvml and nvml.driver_version:
        yield "driver version", nvml.driver_version
    if nvml and nvml.failures:
        yield "NVML", _failures(nvml.failures)


def _mig(mig: MigFacts) -> str:
    """Gives `on: 2x 1g.10gb; room for 5x 1g.10gb or 2x 2g.20gb`."""
    if mig.pending != mig.enabled:
        return f"{'on' if mig.enabled else 'off'}, {'on' if mig.pending else 'off'} after a reset"
    if not mig.enabled:
        return "off"
    made = ", ".join(f"{count}x {name}" for name, count in Counter(each.profile for each in mig.instances).items())
    room = " or ".join(f"{each.free}x {each.name}" for each in mig.profiles if each.free)
    return "; ".join(filter(None, (f"on: {made}" if made else "on", f"room for {room}" if room else "")))


def _vgpu(vgpu: VgpuFacts) -> str:
    mixed = "sizes can be mixed" if vgpu.heterogeneous else ""
    framework = vgpu.framework or "no framework yet"
    return ", ".join(filter(None, (framework, amount(len(vgpu.types), "type"), f"{vgpu.active} active", mixed)))


def _links(links: tuple[GpuLink, ...]) -> str:
    """Gives `12 links to 3 GPUs`, or `18 links to switches`."""
    gpus = [link.count for link in links if link.peer is not None]
    switched = sum(link.count for link in links if link.peer is None)
    parts = [f"{amount(sum(gpus), 'link')} to {amount(len(gpus), 'GPU')}"] if gpus else []
    return ", ".join([*parts, f"{amount(switched, 'link')} to switches"] if switched else parts)


def _failures(failures: tuple[tuple[str, str], ...]) -> str:
    """Gives `not in this library: nvmlDeviceGetSerial, nvmlDeviceGetGpuFabricInfo`: each reason once."""
    by_reason: dict[str, list[str]] = {}
    for call, reason in failures:
        by_reason.setdefault(reason, []).append(call)
    return "; ".join(f"{reason}: {', '.join(calls)}" for reason, calls in by_reason.items())
