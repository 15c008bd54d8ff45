# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Decides about devices that Nova's own PCI tracking gives away, and that devagent is only to make ready.

Nothing of them is reported. Whatever else speaks against giving a device speaks against making it ready, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from devagent.inventory.guards import Surroundings
from devagent.inventory.nova_owned import NovaOwned
from devagent.model.claim import Mode
from devagent.model.device import Decision
from devagent.model.pci import Function
from devagent.model.policy import Rule

NOVA: Final = "nova"

_NOT: Final = "is left to Nova by rule {rule}, but no device_spec in [pci] of nova.conf has it: list it there"


def decide(
    function: Function,
    rule: Rule,
    around: Surroundings,
    usual: Callable[[Surroundings], Decision],
) -> Decision:
    """Gives what `usual` decides where nothing were Nova's, for what is Nova's."""
    own = replace(around, nova=NovaOwned())
    decision = usual(own)
    if not decision.managed:
        return decision
    if rule.mode is Mode.VF:
        decision = _vfs(function, rule, decision, around)
        # Of VFs that are yet to be made Nova's configuration says nothing that could be told before.
        is_novas = bool(decision.total) or not function.vfs
    else:
        is_novas = around.nova.device(function) is not None
    if not is_novas:
        return Decision(False, _NOT.format(rule=rule.name), rule.name, rule.mode)
    reason = f"Nova gives it, devagent makes it ready: {decision.reason}"
    return replace(decision, managed=False, owner=NOVA, reason=reason)


def _vfs(function: Function, rule: Rule, decision: Decision, around: Surroundings) -> Decision:
    """Leaves the VFs that are not Nova's with the host."""
    functions, vfs = around.snapshot.functions, function.vfs
    chosen = [vf for vf in vfs if rule.gives_vf(vf.index)]
    foreign = {vf.index: "is not Nova's" for vf in chosen if around.nova.vf(functions[vf.address], function) is None}
    kept = {**foreign, **dict(decision.vf_vetoes)}
    total = len(chosen) - len(kept)
    reason = f"{total} of {len(vfs)} VFs" if vfs else "no VFs exist"
    return replace(decision, total=total, reason=reason, vf_vetoes=tuple(sorted(kept.items())))
