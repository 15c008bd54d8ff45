# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Explains a decision: which rules were tried, what of each did not fit, what the driver offers, what vetoed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Final

from devagent.inventory.policy import matches, serials
from devagent.model.device import Device
from devagent.model.policy import Match, Policy, Rule


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One selector that does not fit, as devices.yaml spells it, with what the device has instead."""

    selector: str
    wanted: str
    actual: str

    def __str__(self) -> str:
        """Gives `vendor: is 8086, wanted 10de`."""
        return f"{self.selector}: is {self.actual}, wanted {self.wanted}"


@dataclass(frozen=True, slots=True)
class Tried:
    """One rule that was tried; without mismatches it is the one that decided."""

    rule: str
    mode: str
    mismatches: tuple[Mismatch, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a device is given or not.

    `tried` are the rules in order up to the one that fits, `untried` counts those after it. `offers` maps
    modes to resource classes, `refusals` modes to reasons. `guard` is what vetoed the rule, None if
    nothing did.
    """

    address: str
    tried: tuple[Tried, ...]
    untried: int
    driver: str
    offers: Mapping[str, str]
    refusals: Mapping[str, str]
    guard: str | None
    managed: bool
    result: str


def explain(device: Device, policy: Policy) -> Explanation:
    """Gives the way to the decision about `device`, which `policy` made."""
    tried = _tried(device, policy)
    claim, decision = device.claim, device.decision
    vetoed = not decision.managed and decision.owner is None and decision.mode is not None
    given = f"{', '.join(f'{each.resource_class} {each.total}' for each in decision.given)}: {decision.reason}"
    return Explanation(
        address=device.address,
        tried=tried,
        untried=len(policy.rules) - len(tried),
        driver=claim.driver,
        offers={str(mode): name for mode, name in sorted(claim.offers.items())},
        refusals={str(mode): reason for mode, reason in sorted(claim.refusals.items())},
        guard=decision.reason if vetoed else None,
        managed=decision.managed,
        result=given if decision.managed else decision.reason,
    )


def _tried(device: Device, policy: Policy) -> tuple[Tried, ...]:
    tried = []
    for rule in policy.rules:
        tried.append(Tried(rule.name, str(rule.mode or "ignore"), _mismatches(rule, device)))
        if not tried[-1].mismatches:
            break
    return tuple(tried)


def _mismatches(rule: Rule, device: Device) -> tuple[Mismatch, ...]:
    """Asks `matches` itself about each selector alone, so that it cannot be told differently here."""
    missed = []
    for field in fields(Match):
        wanted = getattr(rule.match, field.name)
        if not matches(Match(**{field.name: wanted}), device.function, device.claim, device.identity):
            missed.append(
                Mismatch(_KEYS.get(field.name, field.name), _words(wanted), _words(ACTUAL[field.name](device)))
            )
    return tuple(missed)


ACTUAL: Final[Mapping[str, Callable[[Device], object]]] = {
    "kind": lambda device: device.claim.kind,
    "vendor": lambda device: device.function.vendor_id,
    "device": lambda device: device.function.device_id,
    "class_code": lambda device: device.function.class_code,
    "address": lambda device: device.address,
    "slot": lambda device: device.function.slot,
    "serial": lambda device: tuple(dict.fromkeys(serials(device.function, device.claim, device.identity))),
    "driver": lambda device: device.function.driver,
    "interface": lambda device: device.claim.net.names if device.claim.net else (),
    "numa_node": lambda device: device.function.numa_node,
    "vfs": lambda device: bool(device.vfs),
}
"""What a device has, for each selector that a Match knows."""

# Where devices.yaml has another word for the selector than Python may have.
_KEYS: Final = {"class_code": "class", "vfs": "has_vfs"}


def _words(value: object) -> str:
    if isinstance(value, tuple):
        return " or ".join(map(_words, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
