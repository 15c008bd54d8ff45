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
from devagent.model.policy import Policy, Rule


@dataclass(frozen=True, slots=True)
class Step:
    """One change of one PF: `count` is how many VFs it has afterwards; `what` says so to an operator.

    `driver` is the one that the PF has.
    """

    address: str
    count: int
    what: str
    driver: str | None = None


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
        rule = first_match(policy, device.function, device.claim, device.identity)
        wanted = _wanted(device, rule) if rule is not None else None
        if rule is None or wanted is None or wanted == len(device.vfs):
            continue
        why = _refusal(device, rule, wanted) or next(_holders(device, wanted, held), None)
        if why is not None:
            refused.append(Refusal(device.address, f"{wanted} VFs", why))
        else:
            steps.append(_step(device, wanted))
    return VfPlan(tuple(steps), tuple(refused))


def _step(device: Device, wanted: int) -> Step:
    driver = device.function.driver
    if not device.vfs:
        return Step(device.address, wanted, f"{wanted} VFs", driver)
    what = f"0 VFs ({len(device.vfs)} are there, {wanted} are wanted)" if wanted else "0 VFs"
    return Step(device.address, 0, what, driver)


def _wanted(device: Device, rule: Rule) -> int | None:
    """Gives how many VFs the device shall have; None if the rule does not say."""
    sriov = device.function.sriov
    if rule.mode in (None, Mode.WHOLE):
        return None
    return rule.wanted_vfs(sriov.total_vfs if sriov else 0)


def _refusal(device: Device, rule: Rule, wanted: int) -> str | None:
    """Says why the PF cannot have so many VFs, whoever uses it."""
    lacks_only_vfs, driver = _lacks_only_vfs(device, rule), device.function.driver
    is_wanted = device.decision.managed or device.decision.owner is not None or lacks_only_vfs
    if device.function.sriov is None or not is_wanted:
        return device.decision.reason
    if device.decision.owner is not None and device.vfs:
        return "its VFs are given by Nova, and who has them is not known here; echo 0 > sriov_numvfs once nobody does"
    total = device.function.sriov.total_vfs
    if wanted > total:
        return f"the device can have {total} VFs at most; lower vf_count, or let its firmware offer more"
    if device.claim.kind is Kind.QAT and wanted not in (0, total):
        return f"QAT drivers make all VFs or none, whatever they are asked for; write vf_count: {total}"
    if driver is None:
        return "the device has no driver, and VFs are made by the driver; bind one"
    if lacks_only_vfs and driver != "nvidia":
        return f"VFs for vGPUs are made by NVIDIA's tool, for a GPU with the driver nvidia; it has {driver}"
    return None


def _lacks_only_vfs(device: Device, rule: Rule) -> bool:
    """Tells whether a device that is to carry vGPUs is not given only because nothing tells yet what its VFs can make.

    A guard's veto would have a mode.
    """
    decision, made = device.decision, rule.mode is not None and rule.mode.is_made
    return made and not device.vfs and not decision.managed and not decision.unknown and decision.mode is None


def _holders(device: Device, wanted: int, held: Collection[str] | None) -> Iterator[str]:
    """Says what holds the VFs that would have to be removed, most telling first."""
    if not device.vfs:
        return
    before = f"all {len(device.vfs)} VFs must be removed" + (f" before there can be {wanted}" if wanted else "")
    for index, users in device.vf_users:
        yield f"{before}, but VF {index} is held by {users[0]}"
    for index, use in device.vf_use:
        yield f"{before}, but the host uses VF {index}: {use}"
    if device.in_use_by:
        yield f"{before}, but the host uses the device: {device.in_use_by}"
    if held is None:
        yield f"{before}, but who holds them in Placement is not known yet"
    elif device.address in held:
        yield f"{before}, but consumers in Placement have allocations of them; move these first"
