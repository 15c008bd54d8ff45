# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Decides about each device: the first rule that matches, unless a guard vetoes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase

from devagent.inventory import divided, for_nova, guards, health, identity, vgpus
from devagent.inventory.guards import Surroundings
from devagent.model.claim import Claim, Kind, Mode
from devagent.model.custom import pci_class
from devagent.model.device import Decision, Device
from devagent.model.identity import Identity
from devagent.model.pci import Function
from devagent.model.policy import Match, Policy, Rule
from devagent.model.snapshot import Snapshot
from devagent.model.vendors import vendor_name


def devices(
    snapshot: Snapshot,
    claims: Mapping[str, Claim],
    policy: Policy,
    identities: Mapping[str, Identity] | None = None,
    *,
    every: bool = False,
) -> tuple[Device, ...]:
    """Gives the devices in bus order: those a driver knows or a rule wants, with `every` all functions.

    VFs and bridges are never devices. `identities` are those that were settled on, by address; others
    get the strongest that they tell.
    """
    around = guards.surroundings(snapshot, claims)
    found = []
    for function in snapshot.functions.values():
        if function.is_bridge or function.physfn is not None:
            continue
        claim = claims.get(function.address) or unclaimed(function)
        settled = (identities or {}).get(function.address) or identity.first(function, claim)
        rule = first_match(policy, function, claim, settled)
        if function.address in claims or every or (rule is not None and rule.mode is not None):
            found.append(_device(function, claim, rule, settled, around))
    return tuple(found)


def wants(policy: Policy, function: Function) -> bool:
    """Tells whether a rule may give `function` away though no driver knows it, so that details are needed.

    Its NUMA node and serial number are among these details, so any is taken for a match here.
    """
    claim = unclaimed(function)
    giving = (rule for rule in policy.rules if rule.mode is not None)
    return any(matches(replace(rule.match, numa_node=(), serial=()), function, claim) for rule in giving)


def first_match(policy: Policy, function: Function, claim: Claim, settled: Identity | None = None) -> Rule | None:
    """Gives the first rule of `policy` that matches."""
    return next((rule for rule in policy.rules if matches(rule.match, function, claim, settled)), None)


def matches(match: Match, function: Function, claim: Claim, settled: Identity | None = None) -> bool:
    """Tells whether every selector that `match` gives fits; `settled` is what an earlier look settled on."""
    interfaces = claim.net.names if claim.net else ()
    has_vfs = bool(function.vfs)
    return (
        (not match.kind or claim.kind in match.kind)
        and (not match.vendor or function.vendor_id in match.vendor)
        and (not match.device or function.device_id in match.device)
        and (not match.class_code or function.class_code.startswith(match.class_code))
        and (not match.address or _any_fits((function.address,), match.address))
        and (not match.slot or _any_fits((function.slot,), match.slot))
        and (not match.serial or _any_fits(tuple(serials(function, claim, settled)), match.serial))
        and (not match.driver or _any_fits((function.driver or "",), match.driver))
        and (not match.interface or _any_fits(interfaces, match.interface))
        and (not match.numa_node or function.numa_node in match.numa_node)
        and (match.vfs is None or match.vfs == has_vfs)
    )


def unclaimed(function: Function) -> Claim:
    """Says what can be said of a function that no driver knows: an operator may still give it, by its ids.

    Its kind is `other` whatever its class: a rule for all GPUs must not take a server's management display.
    """
    return Claim(
        driver="none",
        address=function.address,
        kind=Kind.OTHER,
        vendor=vendor_name(function.vendor_id),
        model=f"[{function.device_id}] class {function.class_code}",
        offers={Mode.WHOLE: pci_class(function.vendor_id, function.device_id)},
    )


def serials(function: Function, claim: Claim, settled: Identity | None) -> Iterator[str]:
    """Gives every number that the device was given for good, a serial number also without its part number.

    A device on a VFIO driver tells the fewest, but a rule must not lose it there: an earlier look may know more.
    """
    yield from (identity.value for identity in claim.identities)
    if settled is not None and settled.source not in ("topology", "address"):
        yield settled.value
    if claim.gpu is not None:
        yield from filter(None, (claim.gpu.uuid, claim.gpu.serial))
    for source in ("dsn", "vpd"):
        value = function.attributes.get(f"serials/{source}")
        if value:
            yield from (value, value.rpartition(":")[2])


def _any_fits(texts: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(text, pattern) for text in texts for pattern in patterns)


def _device(function: Function, claim: Claim, rule: Rule | None, settled: Identity, around: Surroundings) -> Device:
    use, users = around.snapshot.host_use, around.snapshot.users
    vfs = function.vfs
    return Device(
        function=function,
        claim=claim,
        identity=settled,
        decision=_decide(function, claim, rule, around),
        in_use_by=use.get(function.address),
        vf_use=tuple((vf.index, use[vf.address]) for vf in vfs if vf.address in use),
        users=users.get(function.address, ()),
        vf_users=tuple((vf.index, users[vf.address]) for vf in vfs if vf.address in users),
        health=health.judge(function, claim),
        physical_network=rule.physical_network if rule else None,
    )


# What decides whether a device may be given, which it is and how much of it there is. With one of these
# unread, nothing can be said; without any other, only less.
_CRUCIAL = frozenset({"path", "iommu_group", "boot_vga", "physfn", "sriov_totalvfs", "virtfn", "nvml", "driver"})


# The host mounts no filesystem from these and has no route by them: whatever it uses, it is not one of them.
_NEVER_MOUNTED = frozenset({Kind.GPU, Kind.QAT, Kind.ACCELERATOR})


def _decide(function: Function, claim: Claim, rule: Rule | None, around: Surroundings) -> Decision:
    if claim.failure is not None:
        return Decision(False, f"unknown: {claim.failure}", unknown=True)
    if unread := _CRUCIAL & function.unread:
        return _unknown(", ".join(sorted(unread)))
    if rule is None:
        return Decision(False, _unmatched(function, claim))
    if rule.mode is None:
        return Decision(False, f"rule {rule.name} ignores it", rule.name)
    if rule.mode.is_made and (missing := vgpus.unread(function)):
        return _unknown(", ".join(missing), rule)
    if rule.mode not in claim.offers:
        return _refused(function, claim, rule, rule.mode, around)
    if not around.snapshot.host_use_known and claim.kind not in _NEVER_MOUNTED:
        return _unknown("what the host itself uses", rule)
    if rule.mode.is_made:
        return divided.by_types(function, claim, rule, around)
    resource_class = rule.resource_class or claim.offers[rule.mode]
    by_mode = _whole if rule.mode is Mode.WHOLE else divided.by_vfs
    if rule.owner is not None:
        return for_nova.decide(function, rule, around, lambda around: by_mode(function, rule, resource_class, around))
    return by_mode(function, rule, resource_class, around)


def _unknown(what: str, rule: Rule | None = None) -> Decision:
    reason = f"unknown: {what} could not be read; what was reported of it stays"
    return Decision(False, reason, rule.name if rule is not None else None, unknown=True)


def _unmatched(function: Function, claim: Claim) -> str:
    """Says so, and how a PF without VFs comes to have some, where VFs are all that anybody would want of it."""
    sriov = function.sriov
    if sriov is None or sriov.vfs or not sriov.total_vfs or Mode.VF not in claim.offers:
        return "no rule matches"
    return "no rule matches (vf_count makes VFs)"


def _refused(function: Function, claim: Claim, rule: Rule, mode: Mode, around: Surroundings) -> Decision:
    if mode.is_made and rule.vf_count is not None:
        veto = guards.veto_new_vfs(function, around)
        if veto is not None:
            return Decision(False, veto, rule.name, mode)
    return Decision(False, _not_offered(claim, mode), rule.name)


def _not_offered(claim: Claim, mode: Mode) -> str:
    if mode in claim.refusals:
        return claim.refusals[mode]
    if mode.is_made and claim.kind is Kind.GPU:
        what = "mediated devices" if mode is Mode.MDEV else "vGPUs on VFs"
        return f"makes no {what} now: its vGPU driver must be loaded and, since NVIDIA's Ampere, its VFs be made"
    offered = " or ".join(claim.offers) or "nothing"
    return f"driver {claim.driver} offers {offered}, not {mode}"


def _whole(function: Function, rule: Rule, resource_class: str, around: Surroundings) -> Decision:
    veto = guards.veto_whole(function, around)
    if veto is not None:
        return Decision(False, veto, rule.name, rule.mode)
    return Decision(True, "given whole", rule.name, rule.mode, resource_class, 1, rule.placement_traits)
