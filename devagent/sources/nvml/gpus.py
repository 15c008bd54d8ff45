# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Asks NVIDIA's management library about each GPU that is bound to the driver nvidia.

A session keeps the GPUs open, which blocks MIG changes and unbinding: so it lasts only as long as the look,
in a process of its own. In a capture the answers are files, `devagent/nvml/ADDRESS.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from typing import Any, Final

from devagent.errors import GateBusy, Unreadable
from devagent.model.gpu import GpuFacts, NvmlGpu
from devagent.model.pci import Function
from devagent.nvml import CURES, LIBRARY, bus_id, session
from devagent.nvml_gate import NvmlGate
from devagent.sources.apart import Ask, Look
from devagent.sources.host import Tree
from devagent.sources.nvml import health, links, mig, vgpu
from devagent.sources.nvml.calls import NO_PERMISSION, NOT_THERE, Calls
from devagent.sources.typed import decode

SOURCE: Final = "nvml"
# Without persistence mode a GPU is initialised whenever it is opened, which takes it some seconds.
_LIMIT: Final = 10.0
_SHUT: Final = 5.0


def sees(function: Function) -> bool:
    """Tells whether NVML knows the function: a GPU that is bound to the driver nvidia."""
    return function.vendor_id == "10de" and function.class_code.startswith("03") and function.driver == "nvidia"


def is_unknown(gpu: NvmlGpu) -> bool:
    """Tells whether NVML should have said how the GPU is divided, and did not: nothing follows from that."""
    failed = dict(gpu.failures).get("nvmlDeviceGetMigMode", NOT_THERE) != NOT_THERE
    return gpu.lost or failed or gpu.facts == GpuFacts()


def is_denied(gpu: NvmlGpu | None) -> bool:
    """Tells whether NVML said less for lack of rights."""
    return gpu is not None and NO_PERMISSION in dict(gpu.failures).values()


def problems(gpu: NvmlGpu) -> Iterator[str]:
    """Gives what went wrong with the GPU; what an old library lacks, or only root is told, is nothing wrong."""
    if gpu.lost:
        yield "has fallen off the bus (NVML: GPU is lost)"
    for call, reason in gpu.failures:
        if reason not in (NOT_THERE, NO_PERMISSION):
            yield f"{call}: {reason}"


def look(addresses: Iterable[str], gate: NvmlGate | None = None) -> Look:
    """Asks each address; the answers are of type NvmlGpu, or None. While the `gate` is shut nobody is asked."""
    subjects = tuple(addresses)

    @contextmanager
    def opened(tree: Tree) -> Iterator[Ask]:
        if not tree.machine:
            yield lambda address: _replay(tree, address)
            return
        try:
            with _let_in(gate), session() as nvml:
                version = _driver_version(nvml)
                yield lambda address: _ask(tree, nvml, address, version)
        except Unreadable as error:
            for address in subjects:
                _keep(tree, address, {"failure": error.reason})
            raise

    return Look(SOURCE, subjects, opened, _LIMIT)


@contextmanager
def _let_in(gate: NvmlGate | None) -> Iterator[None]:
    """Holds the gate open. Raises Unreadable if it is shut for longer than a look can wait."""
    try:
        with gate.open(_SHUT) if gate is not None else nullcontext():
            yield
    except GateBusy as error:
        raise Unreadable("NVML", f"was not asked: {error}") from None


def _driver_version(nvml: Any) -> str | None:
    try:
        return str(nvml.nvmlSystemGetDriverVersion()) or None
    except nvml.NVMLError:
        return None


def _ask(tree: Tree, nvml: Any, address: str, version: str | None) -> NvmlGpu:
    """Gives all that NVML says of one GPU. Raises Unreadable if it must not be asked."""
    answer = NvmlGpu(address, driver_version=version)
    try:
        device = nvml.nvmlDeviceGetHandleByPciBusId(bus_id(address))
    except nvml.NVMLError_GpuIsLost:
        answer = replace(answer, lost=True)
    except nvml.NVMLError_NoPermission:
        reason = CURES["NVMLError_NoPermission"]
        _keep(tree, address, {"failure": reason})
        raise Unreadable(LIBRARY, reason) from None
    except nvml.NVMLError as error:
        answer = replace(answer, failures=(("nvmlDeviceGetHandleByPciBusId", str(error)),))
    else:
        answer = _gpu(answer, Calls(nvml, device))
    _keep(tree, address, {"answer": asdict(answer)})
    return answer


def _gpu(answer: NvmlGpu, calls: Calls) -> NvmlGpu:
    name = calls("nvmlDeviceGetName")
    memory = calls("nvmlDeviceGetMemoryInfo")
    facts = GpuFacts(
        uuid=calls("nvmlDeviceGetUUID") or None,
        serial=_serial(calls("nvmlDeviceGetSerial")),
        memory_mib=memory.total >> 20 if memory is not None else None,
        mig=mig.facts(calls),
        vgpu=vgpu.facts(calls),
        links=links.links(calls),
        fabric=links.fabric(calls),
        errors=health.memory_errors(calls),
        # Last: every call before it may have been told that the GPU must be reset.
        recovery_action=health.recovery_action(calls),
    )
    return replace(answer, facts=facts, name=name or None, lost=calls.lost, failures=tuple(calls.failures.items()))


def _serial(text: str | None) -> str | None:
    """Boards without a serial number say 0."""
    return text if text and text.strip("0 ") else None


def _path(address: str) -> str:
    return f"devagent/nvml/{address}.json"


def _keep(tree: Tree, address: str, record: dict[str, Any]) -> None:
    tree.keep(_path(address), json.dumps(record, indent=1, sort_keys=True) + "\n")


def _replay(tree: Tree, address: str) -> NvmlGpu | None:
    """Gives what a capture holds of the answer. Raises Unreadable for what failed then, or is damaged now."""
    text = tree.file(_path(address))
    if text is None:
        return None
    try:
        record = json.loads(text)
        if "failure" in record:
            failure = decode(str, record["failure"])
        else:
            gpu = decode(NvmlGpu, record["answer"])
            if gpu.address != address:
                raise ValueError(f"it is of {gpu.address}")
            return gpu
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Unreadable(_path(address), f"is no answer of NVML ({error})") from None
    raise Unreadable(LIBRARY, failure)
