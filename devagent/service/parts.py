# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Builds the parts of the agent and ties them together; knows in which order they start and stop."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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
from devagent.privileged import Privileged
from devagent.service.api_loop import ApiLoop, Drain, RemoteApiLoop
from devagent.service.backend import ServiceBackend
from devagent.service.configurer import Configurer
from devagent.service.facts import Facts
from devagent.service.health_book import HealthBook
from devagent.service.log_loop import LogLoop, Opened
from devagent.service.look_loop import LookLoop
from devagent.service.looker import Looker
from devagent.service.loop import Loop
from devagent.service.metrics import Metrics
from devagent.service.preparing.allocations import Allocations
from devagent.service.preparing.gated import GatedMachine
from devagent.service.preparing.hanging import Hanging
from devagent.service.preparing.images import Images
from devagent.service.preparing.journal_keeper import JournalKeeper
from devagent.service.preparing.machine import PrivilegedMachine
from devagent.service.preparing.noting import NotingMachine
from devagent.service.preparing.preparations import Preparations
from devagent.service.preparing.prepare_loop import PrepareLoop
from devagent.service.preparing.preparer import Preparer
from devagent.service.preparing.returning import Returning
from devagent.service.preparing.sight import Sight
from devagent.service.preparing.upkeep import Upkeep
from devagent.service.preparing.vanished import Vanished
from devagent.service.reconcile_loop import ReconcileLoop
from devagent.service.report_loop import ReportLoop
from devagent.service.settings import Settings
from devagent.service.status import Self
from devagent.service.udev_loop import UdevLoop
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
    building = _Building(agent, privileged, root, _gate(agent.settings.state_path), HealthBook(lambda: agent.settings))
    facts, beats, metrics, in_force = agent.facts, agent.beats, building.metrics, building.in_force
    report = ReportLoop(beats, facts, state, lambda new: client.from_conf(new.conf), in_force, metrics)
    looks = building.looks(report)
    prepares = building.prepares(looks.loop)
    log = [LogLoop(beats, facts, building.book, looks.loop, metrics, kernel_log)] if kernel_log is not None else []
    loops = (
        # What listens begins before what looks, so that nothing falls between the two.
        UdevLoop(beats, lambda: _changes(in_force(), machine=root == Path("/")), looks.loop.hear),
        *log,
        looks.loop,
        report,
        ReconcileLoop(beats, lambda: _scene(facts, in_force().policy), report.holding, facts.reconciled, in_force),
        prepares.loop,
        *building.apis(looks, prepares),
    )
    return Parts(loops, (looks.looker, prepares.looker), metrics, prepares.preparations)


@dataclass(frozen=True, slots=True)
class _Looks:
    """What looks at the host, and makes there what the policy asks for."""

    looker: Looker
    configurer: Configurer
    loop: LookLoop


@dataclass(frozen=True, slots=True)
class _Prepares:
    """What prepares, with a look process of its own."""

    looker: Looker
    hanging: Hanging
    preparations: Preparations
    loop: PrepareLoop


@dataclass(frozen=True, slots=True)
class _Building:
    """What the parts are built of."""

    agent: Agent
    privileged: Privileged
    root: Path
    gate: NvmlGate
    book: HealthBook
    metrics: Metrics = field(default_factory=Metrics)

    def in_force(self) -> Settings:
        """Gives the settings as they are now."""
        return self.agent.settings

    def looks(self, report: ReportLoop) -> _Looks:
        """Builds what looks, and tells `report` what it saw."""
        agent, metrics = self.agent, self.metrics
        looker = self._looker()
        configurer = Configurer(self.privileged, lambda address: loop.want({address}), metrics, self.gate)
        loop = LookLoop(agent.beats, agent.facts, looker, configurer, self.book, self.in_force, metrics, report.kick)
        return _Looks(looker, configurer, loop)

    def prepares(self, look: LookLoop) -> _Prepares:
        """Builds what prepares, and has `look` look at what it changed."""
        facts, in_force, eyes = self.agent.facts, self.in_force, self._looker()
        images = Images(in_force, lambda: keeper.entries())
        allocations = Allocations(lambda new: client.from_conf(new.conf), in_force)
        hanging = Hanging(self.privileged, look.want)
        hands = PrivilegedMachine(self.privileged, self.root, lambda verb, target: keeper.begun(verb, target))
        machine = NotingMachine(GatedMachine(hands, self.gate, self.root), hanging.note)

        def preparer(executor: Executor) -> Preparer:
            sight = Sight(eyes, facts, in_force)
            return Preparer(executor, machine, sight, allocations, images, facts, in_force, hands.unwipeable)

        keeper = JournalKeeper(in_force().state_path, _boot_id(self.root), machine, preparer)
        preparations = Preparations(keeper, in_force, self.metrics, _never(self.root))
        returning = Returning(keeper, allocations, in_force, look.judge)
        facts.hanging, facts.returning = lambda: hanging.stuck, returning.amounts
        facts.prepared, facts.owed = keeper.held, keeper.owed
        upkeep = Upkeep(preparations, Vanished(allocations, in_force), images, returning, facts)
        return _Prepares(eyes, hanging, preparations, PrepareLoop(self.agent.beats, upkeep, hanging))

    def apis(self, looks: _Looks, prepares: _Prepares) -> Iterator[ApiLoop]:
        """Builds what answers: other hosts where that is configured, then this one."""
        agent, settings = self.agent, self.in_force()

        def own() -> Self:
            processes = {"look": looks.looker.pid, "look-prepare": prepares.looker.pid}
            return _own(agent, self.privileged, processes, (*looks.configurer.hung, *prepares.hanging.hung))

        backend = ServiceBackend(
            agent.facts, agent.beats, looks.loop, self.book, self.metrics, prepares.preparations, own,
            prepares.loop.hint,
        )  # fmt: skip
        drain = Drain(lambda: self.in_force().drain_timeout)

        def server(door: Door) -> Server:
            # An application for each, so that who waits from afar takes no patience from this host's own.
            application = Application(backend, waiting=max(1, settings.threads // 2), counted=self.metrics.called)
            return Server(application, door, threads=settings.threads)

        if settings.remote is not None:
            yield RemoteApiLoop(agent.beats, server(remote.door(settings, self.in_force)), drain)
        yield ApiLoop(agent.beats, server(UnixDoor(settings.socket, settings.socket_group)), drain)

    def _looker(self) -> Looker:
        return Looker(self.privileged, state_path=str(self.in_force().state_path))


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
