# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Divides a GPU whose MIG mode is on into GPU instances, each with one compute instance that fills it.

    # nvidia-smi mig -lgi                                   a placement is the first memory slice, and how many
    | GPU  Name             Profile  Instance   Placement  |
    |   0  MIG 1g.10gb        19        9          6:1     |

A GPU instance without a compute instance is one half made: it is finished, or removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from devagent.nvml import profile_name
from devagent.privileged.device import Device
from devagent.privileged.gpu import Gpu, opened
from devagent.privileged.refused import PERMANENT, RETRY, VerbRefused

_FULL: Final = 0
"""NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED, the only one there is."""


@dataclass(frozen=True, slots=True)
class _Profile:
    name: str
    id: int
    slices: int
    most: int


@dataclass(frozen=True, slots=True)
class _Instance:
    profile: _Profile
    handle: Any
    start: int
    size: int


def mig_instances(root: Path, address: str) -> dict[str, Any]:
    """Gives the GPU instances with profile, placement, and how many compute instances each has. Raises VerbRefused."""
    with opened(Device("mig_instances", root, address)) as gpu:
        found = [(each, list(_computes(gpu, each.handle))) for each in _instances(gpu, _profiles(gpu))]
    instances = [{"profile": each.profile.name, "placement": each.start, "compute": len(made)} for each, made in found]
    return {"instances": instances}


def mig_placement(root: Path, address: str, profile: str, promised: list[str]) -> dict[str, Any]:
    """Gives the memory slice at which an instance of `profile` can begin now, beside those that are `promised`.

    These are such as `1g.10gb@6`, and may be there or not. Raises VerbRefused if there is none.
    """
    with opened(Device("mig_placement", root, address)) as gpu:
        profiles = _profiles(gpu)
        wanted = _named(gpu, profiles, profile)
        there = [*_instances(gpu, profiles), *_promised(gpu, profiles, promised)]
        return {"placement": _free(gpu, wanted, there)[0]}


def create_mig(root: Path, address: str, profile: str, placement: int | None) -> dict[str, Any]:
    """Makes the instance of `profile` that begins at memory slice `placement`, unless it is there; gives where it is.

    Raises VerbRefused if there is another one, or no room, or if NVML refuses.
    """
    with opened(Device("create_mig", root, address)) as gpu:
        profiles = _profiles(gpu)
        wanted, there = _named(gpu, profiles, profile), list(_instances(gpu, profiles))
        found = _at(gpu, there, placement, profile)
        if found is None:
            start, size = _free(gpu, wanted, there, placement)
            found = _made(gpu, wanted, start, size)
        if not list(_computes(gpu, found.handle)):
            _fill(gpu, found)
        return {"placement": found.start}


def destroy_mig(root: Path, address: str, profile: str, placement: int) -> dict[str, Any]:
    """Removes the instance of `profile` that begins at memory slice `placement`, unless it is gone; gives nothing.

    Raises VerbRefused if there is one of another profile, or while it is in use.
    """
    with opened(Device("destroy_mig", root, address)) as gpu:
        found = _at(gpu, list(_instances(gpu, _profiles(gpu))), placement, profile)
        if found is not None:
            for each in _computes(gpu, found.handle):
                gpu.plain("nvmlComputeInstanceDestroy", each)
            gpu.plain("nvmlGpuInstanceDestroy", found.handle)
        return {}


def instance_names(gpu: Gpu) -> list[str]:
    """Gives the profiles of the instances that there are: none where MIG is off, or unknown. Raises VerbRefused."""
    mode = gpu.is_there("nvmlDeviceGetMigMode", gpu.handle)
    if mode is None or mode[0] != gpu.nvml.NVML_DEVICE_MIG_ENABLE:
        return []
    return [each.profile.name for each in _instances(gpu, _profiles(gpu))]


def _profiles(gpu: Gpu) -> list[_Profile]:
    found: dict[int, _Profile] = {}
    for index in range(gpu.nvml.NVML_GPU_INSTANCE_PROFILE_COUNT):
        info = _info(gpu, "nvmlDeviceGetGpuInstanceProfileInfo", gpu.handle, index)
        if info is not None and info.id not in found:
            name = profile_name(gpu.nvml, index, info)
            found[info.id] = _Profile(name, info.id, info.sliceCount, info.instanceCount)
    return list(found.values())


def _info(gpu: Gpu, name: str, *arguments: Any) -> Any:
    """Asks for a profile in the form of version 2, else, of a library before 530, in the one without its name."""
    try:
        return gpu.is_there(name, *arguments)
    except VerbRefused:
        return gpu.is_there(name, *arguments, 1)


def _named(gpu: Gpu, profiles: list[_Profile], name: str) -> _Profile:
    for profile in profiles:
        if profile.name == name:
            return profile
    if not profiles:
        text = f" has no MIG profiles now: MIG must be on (nvidia-smi -i {gpu.device.address} -mig 1)"
        raise gpu.device.refusal(PERMANENT, text)
    known = ", ".join(each.name for each in profiles)
    raise gpu.device.refusal(PERMANENT, f" has no MIG profile {name}: it has {known}")


def _instances(gpu: Gpu, profiles: list[_Profile]) -> Iterator[_Instance]:
    nvml = gpu.nvml
    for profile in profiles:
        handles, count = (nvml.c_nvmlGpuInstance_t * profile.most)(), nvml.c_uint(profile.most)
        gpu("nvmlDeviceGetGpuInstances", profile.id, handles, nvml.byref(count))
        for handle in handles[: min(count.value, profile.most)]:
            placement = gpu.plain("nvmlGpuInstanceGetInfo", handle).placement
            yield _Instance(profile, handle, placement.start, placement.size)


def _promised(gpu: Gpu, profiles: list[_Profile], promised: list[str]) -> Iterator[_Instance]:
    """Gives the instances that are about to be made; where none of its profile can begin there is none."""
    for name, _, start in (each.rpartition("@") for each in promised):
        for profile in profiles:
            places = _places(gpu, profile) if profile.name == name else ()
            yield from (_Instance(profile, None, first, size) for first, size in places if first == int(start))


def _places(gpu: Gpu, profile: _Profile) -> list[tuple[int, int]]:
    """Gives where instances of a profile can begin, and how many slices they take."""
    nvml, count = gpu.nvml, gpu.nvml.c_uint(0)
    gpu("nvmlDeviceGetGpuInstancePossiblePlacements", profile.id, None, nvml.byref(count))
    places = (nvml.c_nvmlGpuInstancePlacement_t * count.value)()
    gpu("nvmlDeviceGetGpuInstancePossiblePlacements", profile.id, places, nvml.byref(count))
    return [(each.start, each.size) for each in places[: count.value]]


def _at(gpu: Gpu, there: list[_Instance], placement: int | None, profile: str) -> _Instance | None:
    for each in there:
        if each.start == placement:
            if each.profile.name == profile:
                return each
            text = f" has a MIG instance {each.profile.name} at slice {placement}, not {profile}: it stays"
            raise gpu.device.refusal(RETRY, text)
    return None


def _free(gpu: Gpu, wanted: _Profile, there: list[_Instance], only: int | None = None) -> tuple[int, int]:
    """Gives the last place that overlaps no instance, which leaves the most room for the larger profiles."""
    free = [
        (start, size)
        for start, size in _places(gpu, wanted)
        if only in (None, start)
        and all(start + size <= other.start or other.start + other.size <= start for other in there)
    ]
    if not free or not gpu("nvmlDeviceGetGpuInstanceRemainingCapacity", wanted.id):
        where = f" at slice {only}" if only is not None else ""
        raise gpu.device.refusal(RETRY, f" has no room for a MIG instance {wanted.name}{where} now")
    return max(free)


def _made(gpu: Gpu, wanted: _Profile, start: int, size: int) -> _Instance:
    nvml = gpu.nvml
    place = nvml.byref(nvml.c_nvmlGpuInstancePlacement_t(start, size))
    handle = gpu("nvmlDeviceCreateGpuInstanceWithPlacement", wanted.id, place)
    return _Instance(wanted, handle, start, size)


def _fill(gpu: Gpu, instance: _Instance) -> None:
    """Makes the compute instance that has all slices; if that cannot be, the GPU instance goes again."""
    fitting = [each for each in _compute_profiles(gpu, instance.handle) if each.sliceCount == instance.profile.slices]
    try:
        if not fitting:
            text = f": NVML knows no compute instance that fills a {instance.profile.name}"
            raise gpu.device.refusal(PERMANENT, text)
        gpu.plain("nvmlGpuInstanceCreateComputeInstance", instance.handle, fitting[0].id)
    except VerbRefused:
        gpu.plain("nvmlGpuInstanceDestroy", instance.handle)
        raise


def _computes(gpu: Gpu, instance: Any) -> Iterator[Any]:
    """Gives the compute instances of a GPU instance."""
    nvml = gpu.nvml
    for profile in _compute_profiles(gpu, instance):
        handles, count = (nvml.c_nvmlComputeInstance_t * profile.instanceCount)(), nvml.c_uint(profile.instanceCount)
        gpu.plain("nvmlGpuInstanceGetComputeInstances", instance, profile.id, handles, nvml.byref(count))
        yield from handles[: min(count.value, profile.instanceCount)]


def _compute_profiles(gpu: Gpu, instance: Any) -> list[Any]:
    found: dict[int, Any] = {}
    for index in range(gpu.nvml.NVML_COMPUTE_INSTANCE_PROFILE_COUNT):
        info = _info(gpu, "nvmlGpuInstanceGetComputeInstanceProfileInfo", instance, index, _FULL)
        if info is not None:
            found.setdefault(info.id, info)
    return list(found.values())
