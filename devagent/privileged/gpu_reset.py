# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Resets a GPU between two tenants: NVIDIA's driver by its own tool, all others by the kernel, without their driver.

    # nvidia-smi --gpu-reset -i 0000:3b:00.0
    GPU 00000000:3B:00.0 was successfully reset.
    All done.

The kernel's reset below a driver that is bound would leave that with a GPU that it does not know any more.
"""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any, Final

from devagent.model.pci import is_vfio
from devagent.privileged.binding import bind, driver
from devagent.privileged.device import Device
from devagent.privileged.refused import PERMANENT, RETRY, VerbRefused
from devagent.privileged.resetting import reset

_NVIDIA: Final = "nvidia"
_PLACES: Final = ("usr/bin/nvidia-smi", "usr/local/bin/nvidia-smi", "opt/bin/nvidia-smi")
_ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_QUOTED: Final = 400


def check(device: Device) -> None:
    """Raises VerbRefused if the GPU can certainly not be reset."""
    names = device.names()
    if _is_nvidias(device):
        _tool(device)
    elif "reset" not in names:
        raise device.refusal(PERMANENT, " cannot be reset: the kernel knows no way")


def reset_gpu(device: Device) -> None:
    """Resets a GPU that nobody has open; it is on the same driver afterwards. Raises VerbRefused."""
    check(device)
    if _is_nvidias(device):
        _reset_nvidias(device)
        return
    _nobody_draws(device)
    before = driver(device.root, device.address)
    if before["driver"] is None or is_vfio(before["driver"]):
        reset(device.root, device.address, None)
        return
    bind(device.root, device.address, None, before["override"])
    try:
        reset(device.root, device.address, None)
    finally:
        bind(device.root, device.address, **before)


def _is_nvidias(device: Device) -> bool:
    """A VF is reset as any other function: NVIDIA's tool does not know it."""
    return device.driver() == _NVIDIA and not (device.folder / "physfn").is_symlink()


def _reset_nvidias(device: Device) -> None:
    code, said = _run(device, "--gpu-reset", "-i", device.address)
    if code:
        raise _refusal(device, said)
    code, said = _run(device, "--query-gpu=pci.bus_id", "--format=csv,noheader", "-i", device.address)
    if code or device.address not in said.lower() or device.driver() != _NVIDIA:
        raise device.refusal(RETRY, f" does not answer after its reset; nvidia-smi said: {_quoted(said)}")


def _refusal(device: Device, said: str) -> VerbRefused:
    """Makes of what nvidia-smi said a refusal that names who has the GPU, if that is why."""
    try:
        _nobody_draws(device)
    except VerbRefused as refused:
        return refused
    lacking = re.search("permission", said, re.IGNORECASE)
    hint = "; it needs CAP_SYS_ADMIN (see devagent.service.d/wiping.conf)" if lacking else ""
    unable = lacking or re.search("not supported", said, re.IGNORECASE)
    text = f": its reset failed; nvidia-smi said: {_quoted(said)}{hint}"
    return device.refusal(PERMANENT if unable else RETRY, text)


def _nobody_draws(device: Device) -> None:
    """Raises VerbRefused if a process has the GPU open, by its driver's nodes or VFIO's."""
    device.nobody_has([(device.folder, "")], [(f"dri/{each.name}", "") for each in device.folder.glob("drm/*[0-9]")])


def _tool(device: Device) -> Path:
    for place in _PLACES:
        path = device.root / place
        if path.is_file() and not path.stat().st_mode & 0o022:
            return path
    places = ", ".join(f"/{place}" for place in _PLACES)
    raise device.refusal(PERMANENT, f" cannot be reset: there is no nvidia-smi that root alone can write ({places})")


def _run(device: Device, *arguments: str) -> tuple[int, str]:
    """Runs NVIDIA's tool to its end, in this process's group: who ends this process ends it, too."""
    program = _tool(device)
    reading, writing = os.pipe()
    actions: list[tuple[Any, ...]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, writing, 1),
        (os.POSIX_SPAWN_DUP2, writing, 2),
    ]
    with os.fdopen(reading, errors="replace") as output:
        try:
            pid = os.posix_spawn(
                program, [program.name, *arguments], _ENVIRONMENT, file_actions=actions, setsigdef=_SIGNALS
            )
        except OSError as error:
            raise device.refusal(PERMANENT, f": {program} cannot be started: {error.strerror}") from None
        finally:
            os.close(writing)
        said = output.read(1 << 16)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said


def _quoted(said: str) -> str:
    return repr(" ".join(said.split())[:_QUOTED])
