# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Looks at a host, from sysfs to devices: what every command and every cycle of the agent begins with."""

from __future__ import annotations

from dataclasses import dataclass

from devagent.inventory import identity, names
from devagent.inventory import policy as policies
from devagent.model.device import Device
from devagent.model.known import Known
from devagent.model.pci import Function
from devagent.model.policy import Policy
from devagent.model.snapshot import HostFacts, Problem
from devagent.places import STATE_PATH
from devagent.registry import Made, Registry
from devagent.sources.abandoned import Stuck, stuck
from devagent.sources.host import Tree
from devagent.sources.scan import Seen, scan


@dataclass(frozen=True, slots=True)
class Discovery:
    """The host, its devices in bus order, and what could not be read or understood.

    `unknown` are the addresses of functions that are there but could not be identified; unless
    `complete`, there may be devices that were not recognised at all. `known` is what the next look
    should know of these devices and of those that are away. `notes` say what only root would see.
    `stuck` are the processes that asked a device and hang in the kernel.
    """

    host: HostFacts
    devices: tuple[Device, ...]
    problems: tuple[Problem, ...]
    unknown: frozenset[str] = frozenset()
    complete: bool = True
    known: tuple[Known, ...] = ()
    notes: tuple[str, ...] = ()
    stuck: tuple[Stuck, ...] = ()


# Every device is asked whether it is the boot display, how it and its VFs can be reset, whether it sleeps (its
# registers then read as if it were lost), and for the errors that the kernel counted since it came
# (drivers/pci/pcie/aer.c; a line for each kind, the last is their sum).
_READ_ALWAYS = frozenset(
    {"boot_vga", "reset_method", "virtfn0/reset_method", "power_state", "aer_dev_fatal", "aer_dev_nonfatal"}
)
_READ_OF_DRIVES = frozenset({"nvme/nvme*/serial"})
_ASKED_ALWAYS = frozenset({"current_link_speed", "current_link_width", "max_link_speed", "max_link_width"})


class Lookout:
    """Looks at one host again and again, and keeps what it saw, so that a change costs a look at what changed."""

    def __init__(self, tree: Tree, registry: Registry, *, state_path: str = STATE_PATH) -> None:
        self._tree, self._registry, self._state_path = tree, registry, state_path
        self._seen: Seen | None = None
        self._asked: tuple[Policy, bool] | None = None
        self._known: tuple[Known, ...] = ()
        self._made: dict[str, Made] = {}

    def look(self, policy: Policy, only: frozenset[str] | None = None, *, every: bool = False) -> Discovery:
        """Scans, lets the drivers claim, and applies the policy; with `every`, unknown functions are listed too.

        With `only` it reads the devices alone that have one of these addresses, or a VF that has, be they there or
        gone, and what the host itself and Nova use. What is behind a bridge counts by its own address: the kernel
        tells of each. All else is as the last look saw it: the host's own facts, who uses a device, and what was
        settled about devices, of which the file is not read. With `every` it asks anew who uses any device. Without an
        earlier look by the same policy, or if that was not complete, it is a look at everything.
        """
        earlier = self._seen if only is not None and self._asked == (policy, every) else None
        seen = scan(
            self._tree,
            lambda function: self._reads(function, policy, every),
            lambda function: _ASKED_ALWAYS | self._registry.asks(function),
            state_path=self._state_path,
            remembered=self._known,
            earlier=earlier,
            only=only or frozenset(),
            users_too=every,
        )
        snapshot = seen.snapshot
        claims, problems = self._registry.claims(snapshot.functions, self._made)
        settled = identity.settle(snapshot, names.named(claims, snapshot))
        devices = policies.devices(snapshot, settled.claims, policy, settled.identities, every=every)
        self._seen, self._asked, self._known = seen, (policy, every), settled.known
        return Discovery(
            host=snapshot.host,
            devices=devices,
            problems=tuple(sorted({*snapshot.problems, *problems, *settled.problems}, key=_order)),
            # Of what no driver recognises now, one may have before: not what was unread then.
            unknown=snapshot.unknown
            | {one.address for one in snapshot.functions.values() if one.unread and one.address not in claims},
            # A driver that cannot be loaded leaves its devices unrecognised, whichever they are.
            complete=snapshot.complete and not self._registry.problems,
            known=settled.known,
            notes=snapshot.notes,
            stuck=stuck(),
        )

    def _reads(self, function: Function, policy: Policy, every: bool) -> frozenset[str] | None:
        wanted = self._registry.reads(function)
        if wanted is None and not every and not policies.wants(policy, function):
            return None
        # Who makes something ready or wipes it must know which drive it is, also one that no driver claims.
        drive = _READ_OF_DRIVES if every and function.class_code == "010802" else frozenset()
        return _READ_ALWAYS | drive | (wanted or frozenset())


def discover(
    tree: Tree, registry: Registry, policy: Policy, *, every: bool = False, state_path: str = STATE_PATH
) -> Discovery:
    """Looks once, at everything; see `Lookout.look`.

    `state_path` is the directory of devagent's state, where the identities of earlier looks are found.
    """
    return Lookout(tree, registry, state_path=state_path).look(policy, every=every)


def _order(problem: Problem) -> tuple[str, str, str]:
    return problem.device or "", problem.source, problem.problem
