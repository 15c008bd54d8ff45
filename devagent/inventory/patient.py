# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a check-up is made of: a host as it was found, and how a check says what it sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from devagent.model.device import Device
from devagent.model.finding import Finding, Grade
from devagent.model.policy import Policy, Rule
from devagent.model.vitals import Vitals

NOT_CAPTURED: Final = "not checked: a captured host that does not tell"


@dataclass(frozen=True, slots=True)
class Patient:
    """The host that is looked at: its devices, under its policy, and all else that was read."""

    vitals: Vitals
    devices: tuple[Device, ...]
    policy: Policy

    def rule(self, device: Device) -> Rule | None:
        """Gives the rule that decided about `device`."""
        return self.policy.rule(device.decision.rule)

    def unread(self, check: str) -> Iterator[Finding]:
        """Gives a finding if something could not be read for `check`."""
        if check in self.vitals.unread:
            yield could_not(check, self.vitals.unread[check])


def could_not(check: str, why: str) -> Finding:
    """Gives the finding of a check that could not look."""
    if why == NOT_CAPTURED:
        return Finding(check, Grade.SKIPPED, why)
    return Finding(check, Grade.UNKNOWN, why, "run devagent doctor as root; what is unreadable then is damaged")


def warning(check: str, device: Device, seen: str, cure: str) -> Finding:
    """Gives a finding about a device that is wrong in one way, but not broken."""
    return Finding(check, Grade.WARNING, seen, cure, device.address)
