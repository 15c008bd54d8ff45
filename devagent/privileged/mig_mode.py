# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Turns a GPU's MIG mode on and off.

    # nvidia-smi -i 0 -mig 1
    Warning: MIG mode is in pending enable state for GPU 00000000:3B:00.0:In use by another client

NVML raises nothing then: it answers with a status beside, and leaves the mode pending until somebody resets the GPU.
Here a mode that does not come at once is taken back, so that nothing changes behind anybody's back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from devagent.privileged.device import Device
from devagent.privileged.gpu import Gpu, in_use, opened
from devagent.privileged.mig import instance_names
from devagent.privileged.refused import PERMANENT, RETRY

_OFF_ON: Final = ("off", "on")


def mig_mode(root: Path, address: str) -> dict[str, Any]:
    """Gives whether MIG is on (1) or off (0). Raises VerbRefused if that is to change with the next reset."""
    device = Device("mig_mode", root, address)
    with opened(device) as gpu:
        now, next_ = gpu("nvmlDeviceGetMigMode")
    if now != next_:
        text = f": MIG is {_OFF_ON[now]}, and {_OFF_ON[next_]} after a reset: nvidia-smi --gpu-reset -i {address}"
        raise device.refusal(PERMANENT, text)
    return {"enabled": now}


def set_mig_mode(root: Path, address: str, enabled: int) -> dict[str, Any]:
    """Turns MIG on (1) or off (0), unless it is so; gives how it was and is.

    Raises VerbRefused while the GPU is in use or divided, or if it would have to be reset; nothing is changed then.
    """
    device = Device("set_mig_mode", root, address)
    with opened(device) as gpu:
        before, pending = gpu("nvmlDeviceGetMigMode")
        if (before, pending) != (enabled, enabled):
            _set(gpu, enabled, before)
        after, pending = gpu("nvmlDeviceGetMigMode")
    if (after, pending) != (enabled, enabled):
        text = f": MIG is {_OFF_ON[after]}, though NVML reported that it was turned {_OFF_ON[enabled]}"
        raise device.refusal(RETRY, text)
    return {"before": before, "after": after}


def _set(gpu: Gpu, enabled: int, before: int) -> None:
    nvml, device = gpu.nvml, gpu.device
    names = [] if enabled else instance_names(gpu)
    if names:
        raise device.refusal(RETRY, f" has MIG instances ({', '.join(names)}): remove them before MIG is turned off")
    status = gpu("nvmlDeviceSetMigMode", enabled)
    if status == nvml.NVML_SUCCESS:
        return
    gpu("nvmlDeviceSetMigMode", before)
    what = f"MIG cannot be turned {_OFF_ON[enabled]}"
    if status == nvml.NVML_ERROR_IN_USE:
        raise in_use(device, f": {what} while it is in use")
    cure = f"nvidia-smi -i {device.address} -mig {enabled}, and once nothing uses it nvidia-smi --gpu-reset"
    if status == nvml.NVML_ERROR_RESET_REQUIRED:
        raise device.refusal(PERMANENT, f": {what} without a reset: {cure} -i {device.address}")
    raise device.refusal(RETRY, f": {what}: NVML answered {nvml.NVMLError(status)}")
