# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Makes and removes the VFs of an NVIDIA GPU: its driver takes no sriov_numvfs, so NVIDIA's own tool does it.

    # /usr/lib/nvidia/sriov-manage -e 0000:3b:00.0
    Enabling VFs on 0000:3b:00.0
    # /usr/lib/nvidia/sriov-manage -d 0000:3b:00.0
    Cannot obtain unbindLock for 0000:3b:00.0

It takes the GPU from its driver, lends it to pci-pf-stub, which makes all VFs or none, and gives it back: every MIG
instance is gone then. It also ends with 0 where it does nothing, so only the VFs count that are there afterwards.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from devagent.cause import system_words
from devagent.privileged.device import Device
from devagent.privileged.gpu import opened
from devagent.privileged.mig import instance_names
from devagent.privileged.refused import PERMANENT, RETRY

TOOL: Final = "usr/lib/nvidia/sriov-manage"

_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_LOCKED: Final = "Cannot obtain unbindLock"
_LONGEST: Final = 300


def set_vfs(device: Device, count: int) -> None:
    """Brings a GPU from no VFs to all that it can have, or back to none.

    Raises VerbRefused while anybody uses the GPU or what it is divided into, and if the tool fails.
    """
    tool = _tool(device, count)
    vfs = sorted(device.vfs())
    for vf in vfs:
        _carries_nothing(device, vf)
    with opened(device) as gpu:
        names = instance_names(gpu)
    if names:
        text = f" has MIG instances ({', '.join(names)}), which would be destroyed: remove them first"
        raise device.refusal(RETRY, text)
    # After the session: one of ours that did not end would be found here.
    device.nobody_has([(device.folder, ""), *device.vf_folders(vfs)])
    _run(device, tool, count)


def _tool(device: Device, count: int) -> Path:
    """Gives the tool. Raises VerbRefused if it is not there, or cannot do what is wanted."""
    tool, total = device.root / TOOL, _total(device)
    if not tool.is_file():
        text = f" has VFs by NVIDIA's vGPU manager alone, whose tool /{TOOL} is not installed"
        raise device.refusal(PERMANENT, text)
    if not (device.root / "sys/bus/pci/drivers/pci-pf-stub").is_dir():
        # The tool would load it, which the sandbox of the unit does not let it do.
        text = (
            ": its VFs are made by pci-pf-stub: load that module (modprobe pci-pf-stub; /etc/modules-load.d for good)"
        )
        raise device.refusal(PERMANENT, text)
    if count not in (0, total):
        text = f" cannot have just {count} VFs: NVIDIA's sriov-manage makes all {total} or none"
        raise device.refusal(PERMANENT, text)
    return tool


def _total(device: Device) -> int:
    try:
        return int((device.folder / "sriov_totalvfs").read_text())
    except FileNotFoundError:
        raise device.refusal(PERMANENT, " is no SR-IOV PF: it cannot have VFs") from None
    except (OSError, ValueError) as error:
        raise device.refusal(RETRY, f": sriov_totalvfs cannot be read: {error}") from None


def _carries_nothing(device: Device, vf: str) -> None:
    """Raises VerbRefused if a VF carries a vGPU, by either of NVIDIA's frameworks."""
    folder, number = device.folder / vf, vf.removeprefix("virtfn")
    try:
        current = (folder / "nvidia/current_vgpu_type").read_text(errors="replace").strip()
    except FileNotFoundError:
        current = "0"
    except OSError as error:
        raise device.refusal(RETRY, f": what VF {number} carries cannot be read: {system_words(error)}") from None
    if current != "0":
        raise device.refusal(RETRY, f": VF {number} carries a vGPU of type {current:.20}: remove it first")
    for mdev in folder.glob("mdev_supported_types/*/devices/*"):
        raise device.refusal(RETRY, f": VF {number} carries the mediated device {mdev.name}: remove it first")


def _run(device: Device, tool: Path, count: int) -> None:
    """Runs the tool in the verb's process group, with which it is killed at the deadline."""
    import subprocess  # noqa: PLC0415 - only in the verb's process: the privileged one stays small

    command = [str(tool), "-e" if count else "-d", device.address]
    try:
        done = subprocess.run(
            command, env=_ENVIRONMENT, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except OSError as error:
        raise device.refusal(PERMANENT, f": /{TOOL} cannot be run: {system_words(error)}") from None
    text = _printable(done.stderr or done.stdout)
    if _LOCKED in text:
        who = "a process without a name here opened it meanwhile: stop what watches GPUs (nvidia-dcgm, exporters)"
        raise device.refusal(RETRY, f": sriov-manage could not lock it: {who}, then try again ({text})")
    if done.returncode or len(device.vfs()) != count:
        end = f"ended with {done.returncode} and left {len(device.vfs())} VFs, not {count}"
        raise device.refusal(RETRY, f": sriov-manage {end}; it said: {text or 'nothing'}")


def _printable(data: bytes) -> str:
    """Gives the end of what a program said, in one line."""
    text = re.sub(r"[^ -~]+", " ", data.decode(errors="replace")).strip()
    return text[-_LONGEST:]
