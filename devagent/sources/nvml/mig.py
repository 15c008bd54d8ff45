# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads by NVML how a GPU is divided into GPU instances (MIG), and how it could be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from devagent.model.gpu import MigFacts, MigInstance, MigProfile
from devagent.nvml import profile_name
from devagent.sources.nvml.calls import Calls


def facts(calls: Calls) -> MigFacts | None:
    """Gives mode, profiles and instances; None if the GPU cannot be divided, or does not say."""
    modes = calls("nvmlDeviceGetMigMode")
    if modes is None:
        return None
    profiles: dict[int, MigProfile] = {}
    instances: list[MigInstance] = []
    for index in range(calls.nvml.NVML_GPU_INSTANCE_PROFILE_COUNT):
        info = _profile(calls, index)
        if info is not None and info.id not in profiles:
            profile = MigProfile(
                name=profile_name(calls.nvml, index, info),
                memory_mib=int(info.memorySizeMB),
                total=info.instanceCount,
                free=calls("nvmlDeviceGetGpuInstanceRemainingCapacity", info.id),
            )
            profiles[info.id] = profile
            instances += _instances(calls, info, profile.name)
    if instances:
        uuids = _uuids(calls)
        instances = [
            MigInstance(each.id, each.profile, each.start, each.size, tuple(uuids.get(each.id, ())))
            for each in sorted(instances, key=lambda each: (each.start, each.id))
        ]
    enabled, pending = (mode == calls.nvml.NVML_DEVICE_MIG_ENABLE for mode in modes)
    return MigFacts(enabled, pending, tuple(profiles.values()), tuple(instances))


def _profile(calls: Calls, index: int) -> Any:
    """Asks for a profile by NVML's index; a library before 530 knows only the form without its name."""
    name, wrong = "nvmlDeviceGetGpuInstanceProfileInfo", (calls.nvml.NVML_ERROR_INVALID_ARGUMENT,)
    if calls.has(name):
        info = calls(name, index, quiet=wrong)
        if info is not None or calls.has(name):
            return info
    return calls.attempt(
        f"{name} v1", lambda: calls.nvml.nvmlDeviceGetGpuInstanceProfileInfo(calls.device, index, 1), wrong
    )


def _instances(calls: Calls, info: Any, profile: str) -> Iterator[MigInstance]:
    nvml = calls.nvml
    handles, count = (nvml.c_nvmlGpuInstance_t * info.instanceCount)(), nvml.c_uint(info.instanceCount)
    if calls("nvmlDeviceGetGpuInstances", info.id, handles, nvml.byref(count)) is None:
        return
    for handle in handles[: min(count.value, info.instanceCount)]:
        instance = calls.plain("nvmlGpuInstanceGetInfo", handle)
        if instance is not None:
            yield MigInstance(instance.id, profile, instance.placement.start, instance.placement.size)


def _uuids(calls: Calls) -> dict[int, list[str]]:
    """Gives the UUIDs of the MIG devices by the id of their GPU instance; the indexes have holes."""
    found: dict[int, list[str]] = {}
    for index in range(calls("nvmlDeviceGetMaxMigDeviceCount") or 0):
        handle = calls("nvmlDeviceGetMigDeviceHandleByIndex", index, quiet=(calls.nvml.NVML_ERROR_NOT_FOUND,))
        if handle is None:
            continue
        instance = calls.plain("nvmlDeviceGetGpuInstanceId", handle)
        uuid = calls.plain("nvmlDeviceGetUUID", handle)
        if instance is not None and uuid:
            found.setdefault(instance, []).append(uuid)
    return found
