# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads by NVML which virtual GPUs a GPU carries, and which it could; only the vGPU manager's driver knows any."""

from __future__ import annotations

from typing import Final

from devagent.model.gpu import VgpuFacts, VgpuType
from devagent.sources.nvml.calls import Calls

_HOST_MODES: Final = {0: "non-sriov", 1: "sriov"}


def facts(calls: Calls) -> VgpuFacts | None:
    """Gives types and modes; None if the driver is no vGPU manager's, or does not say."""
    supported = calls("nvmlDeviceGetSupportedVgpus")
    mode = calls("nvmlDeviceGetHostVgpuMode")
    if supported is None and mode is None:
        return None
    heterogeneous = calls("nvmlDeviceGetVgpuHeterogeneousMode")
    creatable = calls("nvmlDeviceGetCreatableVgpus") if supported else None
    types = (_type(calls, number, creatable) for number in sorted(supported or ()))
    return VgpuFacts(
        host_mode=_HOST_MODES.get(mode),
        heterogeneous=None if heterogeneous is None else bool(heterogeneous),
        types=tuple(each for each in types if each is not None),
        active=len(calls("nvmlDeviceGetActiveVgpus") or ()),
    )


def _type(calls: Calls, number: int, creatable: list[int] | None) -> VgpuType | None:
    """Gives one type; NVML tells whether it can be created now, not how often."""
    name = calls.plain("nvmlVgpuTypeGetName", number)
    if not name:
        return None
    memory = calls.plain("nvmlVgpuTypeGetFramebufferSize", number)
    return VgpuType(
        name=name,
        id=str(number),
        memory_mib=None if memory is None else memory >> 20,
        total=calls("nvmlVgpuTypeGetMaxInstances", number),
        available=0 if creatable is not None and number not in creatable else None,
    )
