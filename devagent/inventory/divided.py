# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Decides about devices that are given in parts: by their VFs, or by mediated devices and vGPUs made for consumers."""

from __future__ import annotations

from collections.abc import Mapping

from devagent.inventory import guards, vgpus
from devagent.inventory.guards import Surroundings
from devagent.model.claim import Claim, Mode
from devagent.model.device import Decision, Share
from devagent.model.pci import Function, VirtualFunction
from devagent.model.policy import Rule
from devagent.model.ranges import format_ranges


def by_vfs(function: Function, rule: Rule, resource_class: str, around: Surroundings) -> Decision:
    """Gives those VFs that exist, that the rule gives, and that no guard keeps."""
    veto = guards.veto_vfs(function, around)
    if veto is not None:
        return Decision(False, veto, rule.name, rule.mode)
    vfs = function.vfs
    chosen, vetoes = _chosen(function, rule, around)
    total = len(chosen) - len(vetoes)
    reasons = [f"{total} of {len(vfs)} VFs given" if vfs else "no VFs exist"]
    wanted = rule.wanted_vfs(function.sriov.total_vfs if function.sriov else 0)
    if wanted is not None and wanted != len(vfs):
        reasons.append(f"the rule wants {wanted} (the agent makes them)")
    reason, vetoed = "; ".join([*reasons, *_grouped(vetoes)]), tuple(vetoes.items())
    return Decision(True, reason, rule.name, rule.mode, resource_class, total, rule.placement_traits, vf_vetoes=vetoed)


def by_types(function: Function, claim: Claim, rule: Rule, around: Surroundings) -> Decision:
    """Gives the rule's classes, as much of each as exists and could be made on what the guards leave."""
    chosen, vetoes = _chosen(function, rule, around)
    vfs = {vf.index for vf in chosen} - vetoes.keys()
    places = [
        each for each in vgpus.places(function, rule.mode or Mode.MDEV) if each.index is None or each.index in vfs
    ]
    reserved = {name: reason for name, _ in rule.types if (reason := guards.veto_class(name, around)) is not None}
    veto = guards.veto_parts(function, around) or _carries(vgpus.foreign(claim, rule, places))
    if veto is not None or len(reserved) == len(rule.types):
        return Decision(False, veto or "; ".join(reserved.values()), rule.name, rule.mode)
    count = vgpus.count(claim, rule, [name for name, _ in rule.types if name not in reserved], places)
    if count.unknown:
        reason = f"unknown: {', '.join(count.unknown)}; what was reported of it stays"
        return Decision(False, reason, rule.name, unknown=True)
    notes = [*count.missing, *reserved.values(), *_grouped(vetoes)]
    if not count.shares:
        return Decision(False, "; ".join(notes), rule.name)
    return _shared(rule, count.shares, notes, vetoes)


def _shared(rule: Rule, shares: tuple[Share, ...], notes: list[str], vetoes: Mapping[int, str]) -> Decision:
    most = max(shares, key=lambda each: each.total)
    given = (f"{each.total - each.closed} of {each.total} {each.resource_class} possible now" for each in shares)
    return Decision(
        True,
        "; ".join([*given, *notes]),
        rule.name,
        rule.mode,
        most.resource_class,
        most.total,
        rule.placement_traits,
        shares=shares,
        vf_vetoes=tuple(vetoes.items()),
    )


def _carries(strange: list[str]) -> str | None:
    if not strange:
        return None
    more = f" and {len(strange) - 1} more" if strange[1:] else ""
    return f"carries {strange[0]}{more}, which devagent has not made: remove it, or write mode: ignore for the device"


def _chosen(function: Function, rule: Rule, around: Surroundings) -> tuple[list[VirtualFunction], dict[int, str]]:
    """Gives the VFs that the rule gives, and why the guards keep some of them."""
    chosen = [vf for vf in function.vfs if rule.gives_vf(vf.index)]
    return chosen, {vf.index: reason for vf in chosen if (reason := guards.veto_vf(vf, around)) is not None}


def _grouped(vetoes: Mapping[int, str]) -> list[str]:
    """Says each reason once, with the VFs that it is about: 64 VFs in one group make one line, not 64."""
    by_reason: dict[str, list[int]] = {}
    for index, reason in vetoes.items():
        by_reason.setdefault(reason, []).append(index)
    return [f"VF {format_ranges(indexes)} {reason}" for reason, indexes in by_reason.items()]
