# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Judges from one look how well a device is: what its driver claims, and what its PCIe link says."""

from __future__ import annotations

from devagent.model.claim import Claim
from devagent.model.health import Health, State
from devagent.model.pci import Function


def judge(function: Function, claim: Claim) -> Health:
    """Gives the worst that is known of the device, with all reasons; nothing known is `unmonitored`."""
    return (claim.health or Health()) | _link(function)


def _link(function: Function) -> Health:
    """A link that lost lanes says so; a slower one may only be at rest."""
    link = function.link
    if link is None or link.width is None or link.max_width is None or link.width >= link.max_width:
        return Health()
    return Health(State.SUSPECT, (f"its PCIe link has {link.width} of {link.max_width} lanes",))
