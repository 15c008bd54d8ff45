# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""When the agent reports: after each change, after a failure with patience, and never something old."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from devagent.cli.look import look
from devagent.errors import PlacementUnreachable
from devagent.inventory.build import Nest
from devagent.placement.client import PlacementClient
from devagent.placement.state import StateFile
from devagent.service import threads
from devagent.service.beats import Beats
from devagent.service.facts import Facts, Seen
from devagent.view import Look

from .cloud import Cloud, Wire
from .conftest import Describe
from .descriptions import small

threads.use()

from devagent.service.metrics import Metrics  # noqa: E402 - after oslo.service was told to use threads
from devagent.service.report_loop import ReportLoop  # noqa: E402

GPU = "0000:3b:00.0"


class Scene:
    """The loop of one compute node; `turn` takes one turn in this thread."""

    def __init__(self, cloud: Cloud, state: Path, wire: Wire) -> None:
        self.cloud, self.wire, self.facts, self.connections = cloud, wire, Facts(), 0
        self.settings: Any = SimpleNamespace(host=cloud.name, state_path=state, report_interval=3600.0)
        self.loop = ReportLoop(Beats(), self.facts, StateFile(state), self._connect, lambda: self.settings, Metrics())

    def _connect(self, _: object) -> PlacementClient:
        self.connections += 1
        return PlacementClient(self.wire)

    def see(self, root: Path) -> None:
        found = look(root).found
        self.facts.seen = Seen(Look(found, self.cloud.name, Nest.NUMA), time.time(), 0.1, True)
        self.loop.kick()

    def turn(self) -> str:
        self.loop.turn()
        return self.facts.reported.state


@pytest.fixture
def scene(cloud: Cloud, tmp_path: Path) -> Scene:
    return Scene(cloud, tmp_path, cloud.wire())


@pytest.fixture
def with_gpu(describe: Describe, cloud: Cloud) -> Path:
    return describe(small(compute_id=cloud.root))


@pytest.fixture
def without_gpu(describe: Describe, cloud: Cloud) -> Path:
    return describe(small(compute_id=cloud.root, gpu=None))


def offered(cloud: Cloud) -> bool:
    return bool(cloud.tree()[f"devagent:{cloud.name}:{GPU}"]["inventories"])


def test_what_changes_during_a_report_is_in_the_next(scene: Scene, with_gpu: Path, without_gpu: Path) -> None:
    scene.see(with_gpu)

    def change(send: Callable[[], requests.Response]) -> requests.Response:
        scene.see(without_gpu)
        return send()

    scene.wire.faults[1] = change
    assert scene.turn() == "current"
    assert offered(scene.cloud)
    assert scene.turn() == "current"
    assert not offered(scene.cloud)


def test_at_rest_nothing_is_asked_until_the_interval_ends(
    scene: Scene, with_gpu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devagent.service.report_loop._TICK", 0.0)
    scene.see(with_gpu)
    scene.turn()
    sent = len(scene.wire.sent)
    for _ in range(5):
        scene.turn()
    assert len(scene.wire.sent) == sent
    scene.loop._next = time.monotonic()
    assert scene.turn() == "current"
    assert len(scene.wire.sent) == sent + 1


def test_after_a_failure_a_change_waits_for_the_next_try(
    scene: Scene, with_gpu: Path, without_gpu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devagent.service.report_loop._TICK", 0.0)
    monkeypatch.setattr("devagent.service.loop.Loop.pause", lambda *_: None)

    def refuse(_: Callable[[], requests.Response]) -> requests.Response:
        raise PlacementUnreachable("Placement is away")

    scene.wire.faults = dict.fromkeys(range(1, 10), refuse)
    scene.see(with_gpu)
    assert scene.turn() == "failed"
    assert scene.facts.reported.error == "Placement is away"
    assert scene.facts.reported.retry_at is not None
    sent = len(scene.wire.sent)
    scene.see(without_gpu)
    assert scene.turn() == "failed"
    assert len(scene.wire.sent) == sent
    scene.wire.faults = {}
    scene.loop._next = time.monotonic()
    assert scene.turn() == "current"


def test_while_placement_is_away_each_next_try_is_one_request(
    scene: Scene, with_gpu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devagent.service.loop.Loop.pause", lambda *_: None)

    def refuse(_: Callable[[], requests.Response]) -> requests.Response:
        raise PlacementUnreachable("Placement stumbles", status=503)

    scene.wire.faults = dict.fromkeys(range(1, 20), refuse)
    scene.see(with_gpu)
    counts = []
    for _ in range(3):
        before = len(scene.wire.sent)
        scene.loop._next = time.monotonic()
        assert scene.turn() == "failed"
        counts.append(len(scene.wire.sent) - before)
    assert counts == [8, 1, 1]
    scene.wire.faults = {}
    scene.loop._next = time.monotonic()
    assert scene.turn() == "current"


def test_new_settings_bring_a_new_connection_and_keep_what_is_remembered(scene: Scene, with_gpu: Path) -> None:
    scene.see(with_gpu)
    scene.turn()
    sent = len(scene.wire.sent)
    scene.settings = SimpleNamespace(**vars(scene.settings))
    scene.loop.reset()
    assert scene.turn() == "current"
    assert scene.connections == 2
    assert len(scene.wire.sent) == sent + 1


def test_what_is_in_use_and_should_go_is_told_as_a_difference(scene: Scene, with_gpu: Path, without_gpu: Path) -> None:
    scene.see(with_gpu)
    scene.turn()
    uuid = scene.cloud.tree()[f"devagent:{scene.cloud.name}:{GPU}"]["uuid"]
    scene.cloud.allocate(uuid, PGPU=1)
    scene.see(without_gpu)
    scene.turn()
    assert scene.facts.reported.state == "current"
    assert [name for name, _ in scene.facts.reported.differs] == [f"devagent:{scene.cloud.name}:{GPU}"]


def test_the_listing_tells_the_reconciler_which_providers_there_are(scene: Scene, with_gpu: Path) -> None:
    scene.see(with_gpu)
    scene.turn()
    scene.loop._next = time.monotonic()
    scene.turn()
    reported = scene.facts.reported
    assert (reported.root, reported.root_name) == (scene.cloud.root, scene.cloud.name)
    assert set(reported.listed) == {each["uuid"] for each in scene.cloud.tree().values()}
    generation, held = scene.loop.holding(next(iter(set(reported.listed) - {scene.cloud.root})))
    assert (generation >= 0, held) == (True, {})
