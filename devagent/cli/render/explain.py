# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`--explain`: below the devices, for each of them, how the policy came to its decision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from devagent.cli.render import words
from devagent.cli.render.printable import printable
from devagent.inventory.explain import Explanation, Tried, explain
from devagent.model.amount import amount
from devagent.model.device import Device
from devagent.model.policy import Policy


def section(devices: Iterable[Device], policy: Policy) -> list[str]:
    """Gives a heading and the explanation of each device; nothing where there is no device."""
    texts = [line for device in devices for line in ["", _name(device), *lines(explain(device, policy))]]
    heading = f"Why, by the {amount(len(policy.rules), 'rule')} of the policy ({policy.origin}):"
    return ["", printable(heading), *texts] if texts else []


def lines(explanation: Explanation) -> list[str]:
    """Gives one device's explanation: the rules in order, the driver's word, the guard's, and the result."""
    return [printable(f"  {line}") for line in _lines(explanation)]


def _name(device: Device) -> str:
    return f"{device.address}  {device.claim.kind}  {words.name(device)}"


def _lines(explanation: Explanation) -> Iterator[str]:
    for tried in explanation.tried:
        yield f"rule {tried.rule} {_outcome(tried)}"
    fits = bool(explanation.tried) and not explanation.tried[-1].mismatches
    if not fits:
        yield "no rule fits"
    elif explanation.untried:
        yield f"{amount(explanation.untried, 'more rule')} after it: not tried"
    offers = ", ".join(f"{mode} as {name}" for mode, name in explanation.offers.items())
    yield f"driver {explanation.driver} offers {offers or 'nothing'}"
    yield from (f"driver {explanation.driver} refuses {mode}: {why}" for mode, why in explanation.refusals.items())
    if explanation.guard is not None:
        yield f"guard: {explanation.guard}"
    yield f"=> {explanation.result}" if explanation.managed else f"=> not given: {explanation.result}"


def _outcome(tried: Tried) -> str:
    if not tried.mismatches:
        return f"fits: mode {tried.mode}"
    return f"does not fit: {'; '.join(map(str, tried.mismatches))}"
