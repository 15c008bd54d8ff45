# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Judges from one look how well a device is: what its driver claims, and what its PCIe link says."""

from __future__ import annotations

from typing import Final

from devagent.model.claim import Claim
from devagent.model.health import UNMONITORED, Health, State
from devagent.model.pci import Function

# The link's width has six bits; older kernels' tools show eight. A device that does not answer reads as all ones.
_ALL_ONES: Final = ("63", "255")


def judge(function: Function, claim: Claim) -> Health:
    """Gives the worst that is known of the device, with all reasons; nothing known is `unmonitored`."""
    found = link(function)
    return (claim.health or UNMONITORED) | (found if found is not None and found.state.is_trouble else UNMONITORED)


def driver(claim: Claim) -> Health | None:
    """Gives what the device's own driver says of it; None if it says nothing."""
    return None if claim.health is None or claim.health.state is State.UNMONITORED else claim.health


def link(function: Function) -> Health | None:
    """Gives what the PCIe link says; None if it says nothing.

    A link that lost lanes says so; a slower one may only be at rest. In D3cold a device has no power,
    so that it reads as all ones and nothing is wrong with it.
    """
    if function.attributes.get("current_link_width") in _ALL_ONES:
        if function.attributes.get("power_state") == "D3cold":
            return None
        return Health(State.LOST, ("it does not answer on PCIe (its registers read all ones): reboot this host",))
    found = function.link
    if found is None or found.width is None or found.max_width is None:
        return None
    if found.width >= found.max_width:
        return Health(State.HEALTHY)
    return Health(State.SUSPECT, (f"its PCIe link has {found.width} of {found.max_width} lanes",))
