# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A length of time that no clock can make shorter or longer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Term:
    """`seconds` in all; in the boot `boot_id` it ends at `ends`, in seconds since the boot.

    After another boot nobody knows how long the host was off, unless the clock is believed: it counts anew from there.
    """

    boot_id: str
    ends: float
    seconds: float

    def left(self, boot_id: str, now: float) -> float:
        """Gives what is left of it, in seconds, at `now` seconds after the boot `boot_id`; 0 or less if nothing is."""
        return (self.ends if boot_id == self.boot_id else self.seconds) - now
