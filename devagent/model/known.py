# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What an earlier look settled about a device, so that it stays the same device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from devagent.model.gpu import GpuFacts
from devagent.model.identity import Identity


@dataclass(frozen=True, slots=True)
class Known:
    """One device of an earlier look.

    `ids` are vendor, device and subsystem (`10de:20f1:10de:145f`), `topology` where it was, `identity`
    what was settled on, `others` everything else that identified it, by source. `gpu` keeps of a GPU what
    never changes, for the time when its driver is not bound.
    """

    ids: str
    topology: str
    identity: Identity
    others: Mapping[str, str] = field(default_factory=dict)
    gpu: GpuFacts | None = None
