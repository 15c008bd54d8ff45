# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's management library, for who looks and for who changes: nothing else of ours loads pynvml.

A session keeps the GPUs open, which blocks MIG changes and unbinding: it is to be short, and in a process of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from devagent.errors import Unreadable

LIBRARY: Final = "libnvidia-ml.so.1"

CURES: Final = {
    "NVMLError_LibraryNotFound": "is not installed: install the package of the driver's version that has it",
    "NVMLError_DriverNotLoaded": "the driver is not loaded, or has no usable GPU (look at: dmesg | grep NVRM)",
    "NVMLError_LibRmVersionMismatch": "the driver was upgraded without reloading its module: "
    "reboot, or stop what uses the GPUs and reload nvidia",
    "NVMLError_NoPermission": "only some users may open /dev/nvidiactl and the GPUs",
}


@contextmanager
def session() -> Iterator[Any]:
    """Gives pynvml with a session begun, which ends with the `with`. Raises Unreadable with what to do about it."""
    nvml = _load()
    try:
        # Where every GPU is broken, each says so itself.
        nvml.nvmlInitWithFlags(nvml.NVML_INIT_FLAG_NO_GPUS)
    except nvml.NVMLError as error:
        raise Unreadable(LIBRARY, CURES.get(type(error).__name__, f"cannot be used: {error}")) from None
    try:
        yield nvml
    finally:
        with suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def bus_id(address: str) -> str:
    """Gives `0000:3b:00.0` as NVML spells it: `00000000:3B:00.0`."""
    domain, _, rest = address.partition(":")
    return f"{int(domain, 16):08X}:{rest.upper()}"


def profile_name(nvml: Any, index: int, info: Any) -> str:
    """Gives `1g.10gb` of `MIG 1g.10gb`; without a name NVIDIA's rule makes one: slices, and memory rounded up.

    `info` is the GPU instance profile at NVML's `index`, in the form of version 2, or of a library before 530.
    """
    name = getattr(info, "name", "").removeprefix("MIG ")
    if name:
        return str(name)
    media = index in (nvml.NVML_GPU_INSTANCE_PROFILE_1_SLICE_REV1, nvml.NVML_GPU_INSTANCE_PROFILE_2_SLICE_REV1)
    return f"{info.sliceCount}g.{-(-info.memorySizeMB // 1024)}gb" + ("+me" if media else "")


def _load() -> Any:
    try:
        import pynvml  # noqa: PLC0415 - only in a process of its own: it is large, and the library stays loaded
    except ImportError as error:
        raise Unreadable("pynvml", f"cannot be imported ({error}): install nvidia-ml-py") from None
    return pynvml
