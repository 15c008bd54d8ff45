# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads by NVML a GPU's NVLinks and the fabric that they make."""

from __future__ import annotations

import re
import uuid
from collections import Counter
from typing import Any, Final

from devagent.model.gpu import Fabric, GpuLink
from devagent.sources.nvml.calls import Calls

_BUS_ID: Final = re.compile(r"([0-9A-Fa-f]{4,8}):([0-9A-Fa-f]{2}):([0-9A-Fa-f]{2})\.([0-7])")
# Vendor and device of the NVSwitches that stand on the PCI bus, for a library that does not tell the peer's type.
_SWITCHES: Final = (0x1AF110DE, 0x22A310DE)

_STATES: Final = {1: "not started", 2: "in progress", 3: "completed"}
_SUMMARIES: Final = {2: "unhealthy", 3: "limited capacity"}


def links(calls: Calls) -> tuple[GpuLink, ...]:
    """Gives the active links, counted by peer, those to switches last."""
    counts: Counter[str | None] = Counter()
    wrong = (calls.nvml.NVML_ERROR_INVALID_ARGUMENT,)
    for link in range(calls.nvml.NVML_NVLINK_MAX_LINKS):
        if calls("nvmlDeviceGetNvLinkState", link, quiet=wrong) == calls.nvml.NVML_FEATURE_ENABLED:
            counts[_peer(calls, link)] += 1
        elif not calls.has("nvmlDeviceGetNvLinkState"):
            break
    return tuple(
        GpuLink("nvlink", peer, count) for peer, count in sorted(counts.items(), key=lambda item: (not item[0], item))
    )


def _peer(calls: Calls, link: int) -> str | None:
    """Gives the PCI address of the GPU at the other end; None for a switch, also one of another chassis."""
    if calls("nvmlDeviceGetNvLinkRemoteDeviceType", link) == calls.nvml.NVML_NVLINK_DEVICE_TYPE_SWITCH:
        return None
    info = calls("nvmlDeviceGetNvLinkRemotePciInfo", link)
    if info is None or info.pciDeviceId in _SWITCHES:
        return None
    match = _BUS_ID.fullmatch(info.busId)
    if match is None or match[1].upper() == "FFFFFFFF":
        return None
    return f"{int(match[1], 16):04x}:{match[2]}:{match[3]}.{match[4]}".lower()


def fabric(calls: Calls) -> Fabric | None:
    """Gives the fabric's state; None if the GPU is made for none, or does not say."""
    info = _fabric_info(calls)
    if info is None or info.state not in _STATES:
        return None
    if info.state != calls.nvml.NVML_GPU_FABRIC_STATE_COMPLETED:
        return Fabric(_STATES[info.state])
    # What comes after the state says something only once it is completed, and only if it went well.
    if info.status != calls.nvml.NVML_SUCCESS:
        calls.failed("the fabric's status", calls.nvml.NVMLError(info.status))
        return Fabric("failed")
    cluster = bytes(info.clusterUuid)
    state = _SUMMARIES.get(getattr(info, "healthSummary", 0), "completed")
    return Fabric(state, info.cliqueId, str(uuid.UUID(bytes=cluster)) if any(cluster) else None)


def _fabric_info(calls: Calls) -> Any:
    """Asks in the newest form that the driver knows: 570 came with the third, 535 has only the first."""
    nvml, name = calls.nvml, "nvmlDeviceGetGpuFabricInfoV"
    older = (nvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH, nvml.NVML_ERROR_INVALID_ARGUMENT)
    for structure in (nvml.c_nvmlGpuFabricInfo_v3_t, nvml.c_nvmlGpuFabricInfo_v2_t):
        info = structure()
        if calls.has(name) and calls(name, nvml.byref(info), quiet=older) is not None:
            return info
    if calls.has(name):
        return None
    info = nvml.c_nvmlGpuFabricInfo_t()
    return info if calls("nvmlDeviceGetGpuFabricInfo", nvml.byref(info)) is not None else None
