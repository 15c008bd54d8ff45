# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""One GPU, asked and changed through NVIDIA's library for as long as a verb lasts, in the verb's own process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from devagent.errors import Unreadable
from devagent.model.preparation import RefusalKind
from devagent.nvml import bus_id, session
from devagent.privileged.device import Device
from devagent.privileged.refused import PERMANENT, RETRY, VerbRefused

_MEANINGS: Final[dict[str, tuple[RefusalKind, str]]] = {
    "NVMLError_NoPermission": (
        PERMANENT,
        "only CAP_SYS_ADMIN may; grant it with the drop-in mig.conf (docs/prepare.md)",
    ),
    "NVMLError_NotSupported": (PERMANENT, "this GPU or its driver cannot do that, or not with MIG as it is now"),
    "NVMLError_InsufficientResources": (RETRY, "it has no room for that beside its other instances"),
    "NVMLError_ResetRequired": (PERMANENT, "it does nothing until it is reset; see `devagent health`"),
    "NVMLError_GpuIsLost": (PERMANENT, "it has fallen off the bus: reboot this host"),
    "NVMLError_FunctionNotFound": (PERMANENT, "the library is too old for that: upgrade NVIDIA's driver"),
}
"""What NVML's answers mean (nvml.h, nvmlReturn_t), by the names that pynvml gives them."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU in an open session: `nvml` is pynvml, `handle` NVML's."""

    device: Device
    nvml: Any
    handle: Any

    def __call__(self, name: str, *arguments: Any) -> Any:
        """Calls a function of NVML with the GPU and `arguments`. Raises VerbRefused for whatever NVML answers."""
        return self.plain(name, self.handle, *arguments)

    def plain(self, name: str, *arguments: Any) -> Any:
        """Calls a function of NVML that is about an instance. Raises VerbRefused."""
        try:
            return getattr(self.nvml, name)(*arguments)
        except self.nvml.NVMLError as error:
            raise self._refusal(name, error) from None

    def is_there(self, name: str, *arguments: Any) -> Any:
        """Does the same as `plain`, and gives None for what this GPU does not have. Raises VerbRefused."""
        nvml = self.nvml
        try:
            return getattr(nvml, name)(*arguments)
        except (nvml.NVMLError_NotSupported, nvml.NVMLError_InvalidArgument, nvml.NVMLError_NotFound):
            return None
        except nvml.NVMLError as error:
            raise self._refusal(name, error) from None

    def _refusal(self, name: str, error: Any) -> VerbRefused:
        if isinstance(error, self.nvml.NVMLError_InUse):
            return in_use(self.device, f": {name} answered that it is in use")
        kind, meaning = _MEANINGS.get(type(error).__name__, (RETRY, ""))
        meaning = f"{meaning} ({name}: {error})" if meaning else f"{name} answered: {error}"
        return self.device.refusal(kind, f": {meaning}")


@contextmanager
def opened(device: Device) -> Iterator[Gpu]:
    """Gives the GPU in a session that ends with the `with`. Raises VerbRefused."""
    device.names()
    driver = device.driver()
    if driver != "nvidia":
        text = f" is bound to {driver or 'no driver'}: only a GPU with the driver nvidia can be divided"
        raise device.refusal(PERMANENT, text)
    try:
        with session() as nvml:
            yield _handle(device, nvml)
    except Unreadable as error:
        raise device.refusal(PERMANENT, f": {error}") from None


def in_use(device: Device, text: str) -> VerbRefused:
    """Says that NVML cannot, with who has the GPU or a VF of it open besides this process."""
    found = list(device.openers([device.folder, *(device.folder / vf for vf in sorted(device.vfs()))]))
    holders = tuple({holder.pid: holder for holder, _ in found}.values())
    who = "; ".join(f"process {holder.pid} ({holder.command}) has {node} open" for holder, node in found[:3])
    return device.refusal(RETRY, f"{text}: {who or 'by whom cannot be told; look for vGPUs on it'}", holders)


def _handle(device: Device, nvml: Any) -> Gpu:
    try:
        return Gpu(device, nvml, nvml.nvmlDeviceGetHandleByPciBusId(bus_id(device.address)))
    except nvml.NVMLError as error:
        kind, meaning = _MEANINGS.get(type(error).__name__, (RETRY, "NVML cannot open it"))
        raise device.refusal(kind, f": {meaning} ({error})") from None
