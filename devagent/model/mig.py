# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""How MIG profiles and the vGPU types that are carried by their instances are named after each other."""

from __future__ import annotations

import re
from typing import Final

from devagent.model.gpu import MigFacts, MigProfile

_TYPE: Final = re.compile(r".*-([0-9])-([0-9]{1,3})[A-Z](ME)?")


def profile_of(type_name: str) -> str | None:
    """Gives the MIG profile whose instances carry a vGPU type; None for a type that takes turns on the whole GPU.

    `NVIDIA H100-1-10C` is of `1g.10gb`, its `-1-10CME` of `1g.10gb+me`; `NVIDIA H100-10C` is of none. The series (C
    for computing, Q, A, B) makes no difference.
    """
    match = _TYPE.fullmatch(type_name)
    return f"{match[1]}g.{match[2]}gb{'+me' if match[3] else ''}" if match else None


def backing(type_name: str, mig: MigFacts | None) -> MigProfile | None:
    """Gives the profile of a GPU, divided by MIG now, whose instances carry a vGPU type; None where that is not so."""
    if mig is None or not (mig.enabled and mig.pending):
        return None
    name = profile_of(type_name)
    return next((each for each in mig.profiles if each.name == name), None)
