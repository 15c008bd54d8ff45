# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which VFs the policy asks for and the machine lacks: what is to be done about it, and what cannot be.

VFs of a PF cannot be made one by one: from one number to another, all are removed in between. So a step
either makes VFs where there are none or removes them all, and removes none that anybody has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from devagent.inventory.policy import first_match
from devagent.model.claim import Kind, Mode
from devagent.model.device import Device
from devagent.model.policy import Policy


@dataclass(frozen=True, slots=True)
class Step:
    """One change of one PF: `count` is how many VFs it has afterwards; `what` says so to an operator."""

    address: str
    count: int
    what: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that the policy wants of a PF and that cannot be had; `why` says what stands against it."""

    address: str
    what: str
    why: str


@dataclass(frozen=True, slots=True)
class VfPlan:
    """At most one step per PF, in any order or all at once; after it another look and another plan may go on."""

    steps: tuple[Step, ...] = ()
    refused: tuple[Refusal, ...] = ()


def plan(devices: Iterable[Device], policy: Policy, held: Collection[str] | None = None) -> VfPlan:
    """Compares the VFs that there are with the `vf_count` of each device's rule.

    `held` are the addresses of devices of which consumers have something in Placement; while it is None, nobody
    knows, and no VF is removed.
    """
    steps, refused = [], []
    for device in devices:
        wanted = _wanted(device, policy)
        if wanted is None or wanted == len(device.vfs):
            continue
        why = _refusal(device, wanted) or next(_holders(device, wanted, held), None)
        if why is not None:
            refused.append(Refusal(device.address, f"{wanted} VFs", why))
        elif device.vfs:
            what = f"0 VFs ({len(device.vfs)} are there, {wanted} are wanted)" if wanted else "0 VFs"
            steps.append(Step(device.address, 0, what))
        else:
            steps.append(Step(device.address, wanted, f"{wanted} VFs"))
    return VfPlan(tuple(steps), tuple(refused))


def _wanted(device: Device, policy: Policy) -> int | None:
    rule = first_match(policy, device.function, device.claim, device.identity)
    return rule.vf_count if rule is not None and rule.mode is Mode.VF else None


def _refusal(device: Device, wanted: int) -> str | None:
    """Says why the PF cannot have so many VFs, whoever uses it."""
    if not device.decision.managed or device.function.sriov is None:
        return device.decision.reason
    total = device.function.sriov.total_vfs
    if wanted > total:
        return f"the device can have {total} VFs at most; lower vf_count, or let its firmware offer more"
    if device.claim.kind is Kind.QAT and wanted not in (0, total):
        return f"QAT drivers make all VFs or none, whatever they are asked for; write vf_count: {total}"
    if device.function.driver is None:
        return "the device has no driver, and VFs are made by the driver; bind one"
    return None


def _holders(device: Device, wanted: int, held: Collection[str] | None) -> Iterator[str]:
    """Says what holds the VFs that would have to be removed, most telling first."""
    if not device.vfs:
        return
    before = f"all {len(device.vfs)} VFs must be removed" + (f" before there can be {wanted}" if wanted else "")
    for index, users in device.vf_users:
        if users:
            yield f"{before}, but VF {index} is held by {users[0]}"
    for index, use in device.vf_use:
        yield f"{before}, but the host uses VF {index}: {use}"
    if device.in_use_by:
        yield f"{before}, but the host uses the device: {device.in_use_by}"
    if held is None:
        yield f"{before}, but who holds them in Placement is not known yet"
    elif device.address in held:
        yield f"{before}, but consumers in Placement have allocations of them; move these first"
