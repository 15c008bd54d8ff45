# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads by NVML what is wrong with a GPU: what its driver wants to be done, and its memory's errors."""

from __future__ import annotations

from typing import Final

from devagent.model.gpu import MemoryErrors
from devagent.sources.nvml.calls import Calls

_ACTIONS: Final = (
    "none",
    "gpu reset",
    "node reboot",
    "drain p2p",
    "drain and reset",
    "recover imex domain",
    "bus reset",
    "system reboot",
)
# Corrected, uncorrected, pending, failure: what nvmlDeviceGetRemappedRows refuses to say while MIG instances exist.
_REMAPPED: Final = (142, 143, 144, 145)


def recovery_action(calls: Calls) -> str | None:
    """Gives what the driver says must be done, `none` if nothing; None if it says nothing."""
    number = calls.field(calls.nvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, "NVML_FI_DEV_GET_GPU_RECOVERY_ACTION")
    if not number and calls.reset_required:
        return "gpu reset"
    if number is None:
        return None
    return _ACTIONS[number] if number < len(_ACTIONS) else f"action {number}"


def memory_errors(calls: Calls) -> MemoryErrors | None:
    """Gives ECC's mode and the errors; None if nothing is known. Uncorrected ones count since the driver was loaded."""
    nvml = calls.nvml
    ecc = calls("nvmlDeviceGetEccMode")
    remapped = calls("nvmlDeviceGetRemappedRows") or _remapped(calls)
    retired = calls("nvmlDeviceGetRetiredPagesPendingStatus") if remapped is None else None
    corrected, uncorrected, pending, failure = remapped or (None, None, retired, None)
    errors = MemoryErrors(
        ecc=None if ecc is None else ecc[0] == nvml.NVML_FEATURE_ENABLED,
        uncorrected=calls(
            "nvmlDeviceGetTotalEccErrors", nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
        ),
        remapped_correctable=corrected,
        remapped_uncorrectable=uncorrected,
        pending=None if pending is None else bool(pending),
        failure=None if failure is None else bool(failure),
    )
    return None if errors == MemoryErrors() else errors


def _remapped(calls: Calls) -> tuple[int, ...] | None:
    values = [calls.field(number, f"field {number}") for number in _REMAPPED]
    known = [value for value in values if value is not None]
    return tuple(known) if len(known) == len(values) else None
