# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a check of the host or the set-up found, and what to do about it."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Grade(enum.StrEnum):
    """How bad it is; `unknown`: it could not be checked; `skipped`: a captured host has nothing of it."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a check-up.

    `check` names the check and never changes; `device` is a PCI address, or None for the host. `seen` is
    what is so, `cure` what an operator can do about it, empty where nothing is wrong.
    """

    check: str
    grade: Grade
    seen: str
    cure: str = ""
    device: str | None = None
