# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Makes NVIDIA's VFs carry vGPUs, where the driver has them without mediated devices.

    # cat /sys/bus/pci/devices/0000:3b:00.4/nvidia/creatable_vgpu_types       what still fits now
    ID    : vGPU Name
    1155  : NVIDIA L40S-1B
    # echo 1155 > /sys/bus/pci/devices/0000:3b:00.4/nvidia/current_vgpu_type  0: none

The VF stays with the driver nvidia, which is its VFIO driver too.
"""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any, Final

from devagent.cause import system_words
from devagent.privileged.device import Device, Meanings
from devagent.privileged.refused import PERMANENT, RETRY

_CURRENT: Final = "current_vgpu_type"
_NO_VGPU: Final = " carries no vGPUs: it is no VF of a GPU with NVIDIA's vGPU manager"
_MEANINGS: Final[Meanings] = {
    errno.EIO: (RETRY, "NVIDIA's driver refused; dmesg and nvidia-vgpu-mgr's log say why (NVRM, Xid)"),
    errno.EBUSY: (RETRY, "the vGPU is in use"),
    errno.EINVAL: (PERMANENT, "NVIDIA's driver does not know this type here"),
}


def vgpu_type(root: Path, address: str) -> dict[str, Any]:
    """Gives the number of the vGPU's type that a VF carries, 0 for none. Raises VerbRefused if it cannot carry one."""
    return {"type": _now(Device("vgpu_type", root, address))}


def set_vgpu_type(root: Path, address: str, type: int) -> dict[str, Any]:
    """Makes a VF carry a vGPU of the type with this number, 0: none; gives which it carried and carries.

    Raises VerbRefused if it carries another one, if there is no room, if it is in use, or if the driver refuses.
    """
    device = Device("set_vgpu_type", root, address)
    before = _now(device)
    if before != type:
        if before and type:
            raise device.refusal(RETRY, f" carries a vGPU of type {before}: it must go before there can be another")
        if type and type not in _creatable(device):
            raise device.refusal(RETRY, f" has no room for a vGPU of type {type} now")
        device.nobody_has([(device.folder, "")])
        device.write(device.folder / "nvidia" / _CURRENT, str(type), _NO_VGPU, _MEANINGS)
    after = _now(device)
    if after != type:
        raise device.refusal(RETRY, f" carries a vGPU of type {after}, though {type} was reported done")
    return {"before": before, "after": after}


def _now(device: Device) -> int:
    text = _read(device, _CURRENT).strip()
    if not re.fullmatch("[0-9]{1,9}", text):
        raise device.refusal(RETRY, f": {_CURRENT} says {text!r:.40}, which is no number")
    return int(text)


def _creatable(device: Device) -> set[int]:
    rows = re.findall(r"^\s*([0-9]{1,9})\s*:", _read(device, "creatable_vgpu_types"), re.MULTILINE)
    return {int(number) for number in rows}


def _read(device: Device, name: str) -> str:
    device.names()
    try:
        return (device.folder / "nvidia" / name).read_text(errors="replace")
    except FileNotFoundError:
        raise device.refusal(PERMANENT, _NO_VGPU) from None
    except OSError as error:
        raise device.refusal(RETRY, f": {name} cannot be read: {system_words(error)}") from None
