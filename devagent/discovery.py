# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""One look at a host, from sysfs to devices: what every command and every cycle of the agent begins with."""

from __future__ import annotations

from dataclasses import dataclass

from devagent.inventory import identity, names
from devagent.inventory import policy as policies
from devagent.model.device import Device
from devagent.model.known import Known
from devagent.model.pci import Function
from devagent.model.policy import Policy
from devagent.model.snapshot import HostFacts, Problem
from devagent.registry import Registry
from devagent.sources.host import Tree
from devagent.sources.known import STATE_PATH
from devagent.sources.scan import scan


@dataclass(frozen=True, slots=True)
class Discovery:
    """The host, its devices in bus order, and what could not be read or understood.

    `unknown` are the addresses of functions that are there but could not be identified; unless
    `complete`, there may be devices that were not recognised at all. `known` is what the next look
    should know of these devices and of those that are away. `notes` say what only root would see.
    """

    host: HostFacts
    devices: tuple[Device, ...]
    problems: tuple[Problem, ...]
    unknown: frozenset[str] = frozenset()
    complete: bool = True
    known: tuple[Known, ...] = ()
    notes: tuple[str, ...] = ()


# Every device is asked whether it is the boot display, and how it and its VFs can be reset.
_READ_ALWAYS = frozenset({"boot_vga", "reset_method", "virtfn0/reset_method"})
_ASKED_ALWAYS = frozenset({"current_link_speed", "current_link_width", "max_link_speed", "max_link_width"})


def discover(
    tree: Tree, registry: Registry, policy: Policy, *, every: bool = False, state_path: str = STATE_PATH
) -> Discovery:
    """Scans, lets the drivers claim, and applies the policy; with `every`, unknown functions are listed too.

    `state_path` is the directory of devagent's state, where the identities of earlier looks are found.
    """

    def reads(function: Function) -> frozenset[str] | None:
        wanted = registry.reads(function)
        if wanted is None and not every and not policies.wants(policy, function):
            return None
        return _READ_ALWAYS | (wanted or frozenset())

    def asks(function: Function) -> frozenset[str]:
        return _ASKED_ALWAYS | registry.asks(function)

    snapshot = scan(tree, reads, asks, state_path=state_path)
    claims, problems = registry.claims(snapshot.functions)
    settled = identity.settle(snapshot, names.named(claims, snapshot))
    devices = policies.devices(snapshot, settled.claims, policy, settled.identities, every=every)
    return Discovery(
        host=snapshot.host,
        devices=devices,
        problems=tuple(sorted({*snapshot.problems, *problems, *settled.problems}, key=_order)),
        # Of what no driver recognises now, one may have before: not what was unread then.
        unknown=snapshot.unknown
        | {one.address for one in snapshot.functions.values() if one.unread and one.address not in claims},
        # A driver that cannot be loaded leaves its devices unrecognised, whichever they are.
        complete=snapshot.complete and not registry.problems,
        known=settled.known,
        notes=snapshot.notes,
    )


def _order(problem: Problem) -> tuple[str, str, str]:
    return problem.device or "", problem.source, problem.problem
