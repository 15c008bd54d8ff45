# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the kernel's events said since they were last asked for: what to look at again, and what had errors."""

from __future__ import annotations

from dataclasses import dataclass

from devagent.model.occurrence import PcieError


@dataclass(frozen=True, slots=True)
class Happened:
    """What a burst of events was about; of one in which nothing happened all is empty.

    `addresses` are those of the functions that came, went or changed. With `everything` what changed is no single
    device, or nobody knows what it was: look at all of them. `errors` hold of each device each state once, the last
    one last. `events` counts what was heard; some of it is about nothing that discovery looks at.
    """

    addresses: frozenset[str] = frozenset()
    everything: bool = False
    errors: tuple[PcieError, ...] = ()
    events: int = 0
