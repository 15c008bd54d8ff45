# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Calls NVML's functions about one GPU, each on its own: one that fails takes no other with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

NOT_THERE: Final = "not in this library"
NO_PERMISSION: Final = "only root is told"


class Calls:
    """All calls about one GPU, and what came of them.

    `nvml` is pynvml, `failures` maps the functions that failed to the reason, `lost` says that the GPU has
    fallen off the bus, after which it is not asked any more, and `reset_required` that it does nothing
    until it is reset.
    """

    def __init__(self, nvml: Any, device: Any) -> None:
        self.nvml, self.device = nvml, device
        self.failures: dict[str, str] = {}
        self.lost = False
        self.reset_required = False

    def __call__(self, name: str, *arguments: Any, quiet: Sequence[int] = ()) -> Any:
        """Calls the function `name` with the GPU and `arguments`; None if it says nothing.

        That the GPU has no such thing is no failure, nor is a return code in `quiet`.
        """
        return self.plain(name, self.device, *arguments, quiet=quiet)

    def plain(self, name: str, *arguments: Any, quiet: Sequence[int] = ()) -> Any:
        """Calls a function that is not about the GPU itself: a vGPU type, a GPU instance."""
        return self.attempt(name, lambda: getattr(self.nvml, name)(*arguments), quiet)

    def attempt(self, name: str, call: Callable[[], Any], quiet: Sequence[int] = ()) -> Any:
        """Runs `call`, whose failure is noted under `name`; None if it fails."""
        if self.lost:
            return None
        try:
            return call()
        except self.nvml.NVMLError as error:
            self.failed(name, error, quiet)
        # pynvml decodes names itself; a damaged inforom holds anything.
        except UnicodeDecodeError:
            self.failures[name] = "is not text"
        return None

    def failed(self, name: str, error: Any, quiet: Sequence[int] = ()) -> None:
        """Notes that NVML answered `name` with an error."""
        nvml = self.nvml
        if error.value == nvml.NVML_ERROR_GPU_IS_LOST:
            self.lost = True
        elif error.value == nvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            self.failures[name] = NOT_THERE
        elif error.value == nvml.NVML_ERROR_NO_PERMISSION:
            self.failures[name] = NO_PERMISSION
        elif error.value != nvml.NVML_ERROR_NOT_SUPPORTED and error.value not in quiet:
            self.reset_required |= error.value == nvml.NVML_ERROR_RESET_REQUIRED
            self.failures[name] = str(error)

    def has(self, name: str) -> bool:
        """Tells whether the library had the function when it was called."""
        return self.failures.get(name) != NOT_THERE

    def field(self, number: int, name: str) -> int | None:
        """Gives one of NVML's field values, which have no function of their own; `name` is for the failure."""
        nvml = self.nvml
        values = self("nvmlDeviceGetFieldValues", [number])
        if values is None:
            return None
        code = values[0].nvmlReturn
        if code == nvml.NVML_SUCCESS:
            return int(values[0].value.uiVal)
        # An older driver takes the number of a field that came later for a wrong argument.
        self.failed(name, nvml.NVMLError(code), (nvml.NVML_ERROR_INVALID_ARGUMENT,))
        return None
