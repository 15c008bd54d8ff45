# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What makes a device the same device after a reboot, a new bus number or a change of driver."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """One thing that identifies a device: `source` says which, such as `nvml`, `mac`, `dsn`, `topology`."""

    source: str
    value: str
