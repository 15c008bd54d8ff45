# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Builds the parts of the agent and ties them together; knows in which order they start and stop."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from devagent.api import remote
from devagent.api.app import Application
from devagent.api.doors import Door, UnixDoor
from devagent.api.server import Server
from devagent.inventory.reconcile import Scene
from devagent.model.policy import Policy
from devagent.model.preparation import Refusal, RefusalKind
from devagent.nvml_gate import NvmlGate
from devagent.placement import client
from devagent.placement.state import StateFile
from devagent.prepare.executor import Executor
from devagent.privileged.client import Privileged
from devagent.service.allocations import Allocations
from devagent.service.api_loop import ApiLoop, Drain, RemoteApiLoop
from devagent.service.backend import ServiceBackend
from devagent.service.configurer import Configurer
from devagent.service.facts import Facts
from devagent.service.gated import GatedMachine
from devagent.service.hanging import Hanging
from devagent.service.health_book import HealthBook
from devagent.service.images import Images
from devagent.service.journal_keeper import JournalKeeper
from devagent.service.log_loop import LogLoop, Opened
from devagent.service.look_loop import LookLoop
from devagent.service.looker import Looker
from devagent.service.loop import Loop
from devagent.service.machine import PrivilegedMachine
from devagent.service.metrics import Metrics
from devagent.service.noting import NotingMachine
from devagent.service.preparations import Preparations
from devagent.service.prepare_loop import PrepareLoop
from devagent.service.preparer import Preparer
from devagent.service.reconcile_loop import ReconcileLoop
from devagent.service.report_loop import ReportLoop
from devagent.service.returning import Returning
from devagent.service.settings import Settings
from devagent.service.sight import Sight
from devagent.service.status import Self
from devagent.service.udev_loop import UdevLoop
from devagent.service.upkeep import Upkeep
from devagent.service.vanished import Vanished
from devagent.sources import udev
from devagent.sources.udev import Changes

if TYPE_CHECKING:
    from devagent.service.agent import Agent

LOG = logging.getLogger(__name__)

_WITHOUT_EVENTS_S: Final = 30.0
_CAPTURED_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What the agent consists of; the loops in the order in which they start."""

    loops: tuple[Loop, ...]
    lookers: tuple[Looker, ...]
    metrics: Metrics
    preparations: Preparations

    def close(self, drain_s: float) -> None:
        """Ends what outlives the loops; preparations under way have `drain_s` seconds for that."""
        self.preparations.close(drain_s)
        for looker in self.lookers:
            looker.close()


def build(agent: Agent, state: StateFile, privileged: Privileged, *, root: Path, kernel_log: Opened | None) -> Parts:
    """Builds everything and starts nothing; `root` is where the tree of the host begins, / for the one this runs on.

    `kernel_log` opens its log, None if that is not to be read.

    Raises ConfigurationError.
    """
    facts, beats = agent.facts, agent.beats

    def in_force() -> Settings:
        return agent.settings

    metrics, book, settings = Metrics(), HealthBook(in_force), agent.settings
    gate = _gate(settings.state_path)
    looker = Looker(privileged, state_path=str(settings.state_path))
    report = ReportLoop(beats, facts, state, lambda new: client.from_conf(new.conf), in_force, metrics)
    configurer = Configurer(privileged, lambda address: look.want({address}), metrics, gate)
    look = LookLoop(beats, facts, looker, configurer, book, in_force, metrics, report.kick)

    eyes = Looker(privileged, state_path=str(settings.state_path))

    def own() -> Self:
        hung = (*configurer.hung, *hanging.hung)
        return _own(agent, privileged, {"look": looker.pid, "look-prepare": eyes.pid}, hung)

    images = Images(in_force, lambda: keeper.entries())
    allocations = Allocations(lambda new: client.from_conf(new.conf), in_force)
    hanging = Hanging(privileged, look.want)
    facts.hanging = lambda: hanging.stuck
    hands = PrivilegedMachine(privileged, root, lambda verb, target: keeper.begun(verb, target))
    machine = NotingMachine(GatedMachine(hands, gate, root), hanging.note)

    def preparer(executor: Executor) -> Preparer:
        sight = Sight(eyes, facts, in_force)
        return Preparer(executor, machine, sight, allocations, images, facts, in_force, hands.unwipeable)

    keeper = JournalKeeper(settings.state_path, _boot_id(root), machine, preparer)
    facts.prepared, facts.owed = keeper.held, keeper.owed
    preparations = Preparations(keeper, in_force, metrics, _never(root))
    returning = Returning(keeper, allocations, in_force, look.judge)
    facts.returning = returning.amounts
    upkeep = Upkeep(preparations, Vanished(allocations, in_force), images, returning, facts)
    prepare = PrepareLoop(beats, upkeep, hanging)
    backend = ServiceBackend(facts, beats, look, book, metrics, preparations, own, prepare.hint)
    drain = Drain(lambda: in_force().drain_timeout)

    def server(door: Door) -> Server:
        # An application for each, so that who waits from afar takes no patience from this host's own.
        application = Application(backend, waiting=max(1, settings.threads // 2), counted=metrics.called)
        return Server(application, door, threads=settings.threads)

    remote_api = []
    if settings.remote is not None:
        remote_api.append(RemoteApiLoop(beats, server(remote.door(settings, in_force)), drain))
    return Parts(
        (
            # What listens begins before what looks, so that nothing falls between the two.
            UdevLoop(beats, lambda: _changes(in_force(), machine=root == Path("/")), look.hear),
            *([LogLoop(beats, facts, book, look, metrics, kernel_log)] if kernel_log is not None else ()),
            look,
            report,
            ReconcileLoop(beats, lambda: _scene(facts, in_force().policy), report.holding, facts.reconciled, in_force),
            prepare,
            *remote_api,
            ApiLoop(beats, server(UnixDoor(settings.socket, settings.socket_group)), drain),
        ),
        (looker, eyes),
        metrics,
        preparations,
    )


def _never(root: Path) -> Refusal | None:
    """Refuses to prepare where there is nothing but an archive of a host."""
    if not root.is_file():
        return None
    reason = f"this agent shows a host as it was when it was captured in {root}: nothing can be prepared on it"
    return Refusal(RefusalKind.PERMANENT, reason)


def _gate(state_path: Path) -> NvmlGate:
    gate = NvmlGate(state_path)
    try:
        gate.make()
    except OSError as error:
        LOG.warning("%s: NVML is not kept closed while a GPU changes hands (%s)", state_path, error.strerror)
    return gate


def _boot_id(root: Path) -> str:
    """Gives what tells this boot from others; a captured host may have nothing of that, and is never booted."""
    try:
        return (root / "proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _changes(settings: Settings, *, machine: bool) -> Changes:
    """Gives what tells of changes: this machine's events, or where there are none the clock."""
    interval = _WITHOUT_EVENTS_S if machine else _CAPTURED_S
    return udev.changes(machine=machine, quiet=settings.debounce, interval=interval)


def _scene(facts: Facts, policy: Policy) -> Scene | None:
    """Gives what the reconciler compares, once both sides are known."""
    seen, reported = facts.seen, facts.reported
    if seen is None or reported.root is None:
        return None
    desired = seen.view.tree(reported.root, reported.root_name)
    return Scene(seen.devices, desired, reported.listed, policy)


def _own(
    agent: Agent, privileged: Privileged, looks: Mapping[str, int | None], hung: tuple[tuple[str, str, float], ...]
) -> Self:
    settings = agent.settings
    processes = {"agent": os.getpid(), "privileged": privileged.pid}
    processes |= {name: pid for name, pid in looks.items() if pid is not None}
    return Self(
        host=settings.host or socket.gethostname(),
        started=agent.started,
        stopping=agent.stopping,
        files=settings.files,
        policy=settings.policy.origin,
        loaded=agent.loaded,
        error=agent.reload_error,
        processes=processes,
        hung=hung,
    )
