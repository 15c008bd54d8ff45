# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""One host whose agent prepares: a machine in memory, a Placement that knows who holds what, and the preparations."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from devagent.api.schemas import mistake
from devagent.discovery import Discovery
from devagent.errors import LookFailed, PlacementUnreachable
from devagent.images.directory import Directory
from devagent.images.library import Sources
from devagent.inventory.build import Nest
from devagent.inventory.default_policy import DEFAULT
from devagent.model.device import Decision
from devagent.model.plan import Arguments, Group, Step
from devagent.model.policy import Policy
from devagent.model.preparation import Refusal, RefusalKind
from devagent.model.snapshot import HostFacts
from devagent.model.user import User
from devagent.prepare.executor import Executor
from devagent.service.facts import Facts, Reported, Seen
from devagent.service.metrics import Metrics
from devagent.service.preparing.allocations import Standing
from devagent.service.preparing.images import Images
from devagent.service.preparing.journal_keeper import JournalKeeper
from devagent.service.preparing.noting import NotingMachine
from devagent.service.preparing.preparations import Preparations
from devagent.service.preparing.preparer import Preparer
from devagent.service.preparing.returning import Returning
from devagent.service.preparing.sight import Sight
from devagent.service.preparing.upkeep import Upkeep
from devagent.service.preparing.vanished import Vanished
from devagent.view import Look

from ...prepare.scenes import ALICE, BOB, ROOT, Machine, on_bus, provider

PATIENCE_S = 30.0
NIC = "0000:3b:00.0"
VF = "SRIOV_NET_VF"
UNKNOWN = Decision(False, "unknown: nvml could not be read; what was reported of it stays", unknown=True)
HOST = HostFacts(hostname="h", boot_id="boot")
GPU: dict[str, Any] = {"id": "10de:1eb8", "class": "030000", "driver": "nvidia", "at": "00.0"}
AUDIO = {"id": "10de:10f8", "class": "040300", "driver": "snd_hda_intel", "at": "00.1", "iommu_with": "00.0"}


def nic(vfs: int, ids: str = "15b3:101d") -> dict[str, Any]:
    own = {"total": 8, "count": vfs, "device": "101e", "driver": "mlx5_core"}
    return {"id": ids, "class": "020000", "driver": "mlx5_core", "vfs": own}


class Host:
    """A machine in memory, seen and changed as the agent does; `seen` and `doing` are called in between."""

    def __init__(self, vfs: int) -> None:
        self.machine = Machine(on_bus(nic(vfs)))
        self.users: dict[str, User] = {}
        self.seen: Callable[[], None] = lambda: None
        self.doing: Callable[[Step], None] = lambda _: None
        self.looks: list[frozenset[str] | None] = []
        self.blind = self.hazy = False
        self.asked: list[tuple[str, str]] = []
        self.resists: Refusal | None = None

    def look(self, policy: Policy, only: Iterable[str] | None, *, timeout: float, every: bool) -> Discovery:
        assert every
        self.looks.append(None if only is None else frozenset(only))
        if self.blind:
            raise LookFailed("the look process hangs")
        found = Discovery(HOST, tuple(self.view().found.devices), ())
        self.seen()
        return found

    def view(self) -> Look:
        devices = [
            replace(
                device,
                decision=UNKNOWN if self.hazy else device.decision,
                vf_users=tuple((vf.index, (self.users[vf.address],)) for vf in device.vfs if vf.address in self.users),
            )
            for device in self.machine.view().cards.values()
        ]
        return Look(Discovery(HOST, tuple(devices), ()), "h", Nest.NUMA)

    def unwipeable(self, address: str, how: str) -> Refusal | None:
        self.asked.append((address, how))
        return self.resists

    def before(self, step: Step, seconds: float) -> Arguments:
        return {"driver": self.machine.drivers[step.target]}

    def do(self, step: Step, seconds: float) -> None:
        self.doing(step)
        if step.verb != "bind" or self.machine.drivers[step.target] != step.arguments["driver"]:
            self.machine.do(step)

    def check(self, step: Step, seconds: float) -> bool:
        return self.machine.drivers[step.target] == step.arguments["driver"]

    @property
    def bound(self) -> set[str]:
        """The functions that are on vfio-pci."""
        return {address for address, driver in self.machine.drivers.items() if driver == "vfio-pci"}


class Placement:
    """Knows who holds something."""

    def __init__(self) -> None:
        self.unknown: set[str] = set()
        self.moved: set[str] = set()
        self.asked: list[str] = []
        self.error: PlacementUnreachable | None = None

    def lacking(self, consumer: str, groups: Iterable[Group]) -> Refusal | None:
        return Refusal(RefusalKind.INVALID, f"{consumer} holds nothing") if consumer in self.unknown else None

    def standing(self, consumer: str, groups: Iterable[Group], others: Set[str]) -> Standing:
        if self.error is not None:
            raise self.error
        self.asked.append(consumer)
        if consumer not in self.unknown:
            return Standing.HELD
        return Standing.MOVED if consumer in self.moved else Standing.GONE


class Agent:
    """The preparations of one host, from one start to the next."""

    def __init__(self, state_path: Path, host: Host) -> None:
        self.settings: Any = SimpleNamespace(
            policy=DEFAULT, look_timeout=60.0, scan_interval=3600.0, reconcile_interval=600.0, prepare_deadline=60.0,
            prepare_workers=8, prepare_expires_in=0, check_allocations=True, tombstone=0.0,
            state_path=state_path, images_directory=state_path / "bitstreams", images_cache_size=64,
        )  # fmt: skip
        self.state_path, self.host, self.placement = state_path, host, Placement()
        self.now = time.time()
        self.booted, self.jump = self.now - 1000.0, 0.0
        self.begin()

    def begin(self, boot_id: str = "boot") -> None:
        devices = self.host.machine.devices
        listed: Any = dict.fromkeys(provider(each.address, devices) for each in devices)
        self.facts = Facts(reported=Reported(root=ROOT, listed=listed))
        self.see()
        machine = NotingMachine(self.host, lambda *_: None)
        held: Any = self.placement

        images = Images(lambda: self.settings, lambda: keeper.entries(), self.sources)

        def preparer(executor: Executor) -> Preparer:
            sight = Sight(self.host, self.facts, lambda: self.settings)
            return Preparer(
                executor, machine, sight, held, images, self.facts, lambda: self.settings, self.host.unwipeable
            )

        keeper = JournalKeeper(self.state_path, boot_id, machine, preparer, boottime=lambda: self.now - self.booted)
        self.facts.prepared = keeper.held
        self.metrics = Metrics()
        self.own = Preparations(keeper, lambda: self.settings, self.metrics)
        self.own.start()
        self.recounted = 0
        ticks: Any = {"monotonic": lambda: self.now, "clock": lambda: self.now + self.jump}
        self.returning = Returning(keeper, held, lambda: self.settings, self._recount, monotonic=lambda: self.now)
        vanished = Vanished(held, lambda: self.settings, **ticks)
        self.upkeep = Upkeep(self.own, vanished, images, self.returning, self.facts, monotonic=lambda: self.now)

    def _recount(self) -> None:
        self.recounted += 1

    def sources(self, settings: Any) -> Sources:
        """Gives where images come from."""
        return Sources(Directory(settings.images_directory))

    def still_lists(self, uid: str) -> None:
        """Has Placement list a provider still whose device is there no more."""
        listed: Any = {**self.facts.reported.listed, uid: None}
        self.facts.reported = replace(self.facts.reported, listed=listed)

    def see(self) -> None:
        """Has the agent's own loop look."""
        self.facts.seen = Seen(self.host.view(), time.time(), 0.0, full=True)

    def restart(self, boot_id: str = "boot") -> None:
        assert self.own.close(PATIENCE_S)
        self.begin(boot_id)

    def put(
        self, consumer: str, count: int = 1, *, wait: float = PATIENCE_S, **more: Any
    ) -> tuple[dict[str, Any], int]:
        group = {"provider": provider(NIC, self.host.machine.devices), "resources": {VF: count}}
        found, status = self.own.put(consumer, {"groups": [group], **more}, wait)
        assert mistake("preparations#preparation", found) is None
        return found, status

    def prepared(self, consumer: str, count: int = 1, **more: Any) -> set[str]:
        found, status = self.put(consumer, count, **more)
        assert (status, found["state"]) == (200, "prepared")
        return {handle["address"] for handle in found["handles"]}

    def keep_up(self) -> None:
        """Takes a turn of the upkeep, and waits for what it has begun."""
        self.upkeep.turn()
        self.until(lambda: not any(map(self.own.is_at_work, (ALICE, BOB))))

    def states(self) -> dict[str, str]:
        found = self.own.list()
        assert mistake("preparations", found) is None
        return {each["consumer"]: each["state"] for each in found["preparations"]}

    @staticmethod
    def until(condition: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.005)


def started(tmp_path: Path, vfs: int) -> Iterator[Agent]:
    made = Agent(tmp_path, Host(vfs))
    yield made
    made.host.doing, made.host.seen = lambda _: None, lambda: None
    assert made.own.close(PATIENCE_S)
