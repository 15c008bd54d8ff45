# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A device: what can be given to a virtual machine or divided, and what was decided about it."""

from __future__ import annotations

from dataclasses import dataclass

from devagent.model.claim import Claim, Mode
from devagent.model.health import UNMONITORED, Health
from devagent.model.identity import Identity
from devagent.model.pci import Function, VirtualFunction
from devagent.model.user import User


@dataclass(frozen=True, slots=True)
class Share:
    """What a device has of one resource class; of the `total`, so many are `closed`, since what else exists forbids."""

    resource_class: str
    total: int
    closed: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy and the guards decided, with the reason in words.

    `total` is how many consumers the device can have: 1 for a whole device, else the number of VFs given.
    Of a device of which parts are made, `shares` has every class, and `resource_class` the one with most.
    `vf_vetoes` says by index why a VF that the rule gives stays with the host.
    `owner` is `nova` where Nova's own PCI tracking gives the device away and devagent only makes it ready for that.
    `unknown`: too little could be read to decide, so what is reported of the device stays as it is.
    """

    managed: bool
    reason: str
    rule: str | None = None
    mode: Mode | None = None
    resource_class: str | None = None
    total: int = 0
    traits: frozenset[str] = frozenset()
    unknown: bool = False
    shares: tuple[Share, ...] = ()
    vf_vetoes: tuple[tuple[int, str], ...] = ()
    owner: str | None = None

    @property
    def given(self) -> tuple[Share, ...]:
        """What is given by class, one class or several."""
        if self.shares or self.resource_class is None:
            return self.shares
        return (Share(self.resource_class, self.total),)


@dataclass(frozen=True, slots=True)
class Device:
    """One device. A VF is never a device: it stands in its PF's `function.sriov`.

    `in_use_by` says what the host uses it for, `vf_use` the same of VFs by index; `users` are the
    processes that have it open, `vf_users` those of its VFs.
    """

    function: Function
    claim: Claim
    identity: Identity
    decision: Decision
    in_use_by: str | None = None
    vf_use: tuple[tuple[int, str], ...] = ()
    users: tuple[User, ...] = ()
    vf_users: tuple[tuple[int, tuple[User, ...]], ...] = ()
    health: Health = UNMONITORED
    physical_network: str | None = None

    @property
    def key(self) -> str:
        """What it is called in the book of health and in the journal: its model, and what makes it the same device."""
        function, identity = self.function, self.identity
        return f"{function.vendor_id}:{function.device_id}:{identity.source}:{identity.value}"

    @property
    def address(self) -> str:
        """The PCI address, such as `0000:3b:00.0`."""
        return self.function.address

    @property
    def vfs(self) -> tuple[VirtualFunction, ...]:
        """The VFs that exist now."""
        return self.function.vfs

    @property
    def addresses(self) -> tuple[str, ...]:
        """The PCI addresses of all that it has: its own, then its VFs'."""
        return (self.address, *(vf.address for vf in self.vfs))
