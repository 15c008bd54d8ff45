# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What Nova's own classes tell reaches real agents through a real broker and a relay, and does what the table says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from bench import nova_beside
from devagent.notifications.events import EVENTS, Meaning

from . import broker, notified, running_listener
from .conftest import REPOSITORY
from .notified import Host, World
from .running_daemon import folder
from .running_listener import RunningListener

pytestmark = [
    pytest.mark.skipif(not broker.SERVER.exists(), reason=broker.MISSING),
    pytest.mark.skipif(not nova_beside.PYTHON.exists(), reason=nova_beside.MISSING),
]

Who = Literal["source", "destination", "api", "conductor"]


@dataclass(frozen=True)
class Scene:
    """What Nova tells, in its order, and by whom, of an instance whose device is at `at`."""

    row: str
    told: tuple[tuple[str, Who], ...]
    at: Literal["source", "destination"] = "source"

    @property
    def name(self) -> str:
        """The last event, and who tells it."""
        return "{}-{}".format(*self.told[-1])


# Who tells what, in which order: nova/compute/manager.py, conductor/manager.py and compute/api.py of Nova 34.
SCENES = (
    Scene("instance.create.error", (("instance.create.start", "source"), ("instance.create.error", "source"))),
    Scene(
        "compute_task.build_instances.error",
        (("instance.create.start", "source"), ("compute_task.build_instances.error", "conductor")),
    ),
    Scene(
        "compute_task.*.error",
        (("instance.resize_prep.start", "destination"), ("compute_task.migrate_server.error", "conductor")),
        "destination",
    ),
    Scene("instance.delete.end", (("instance.delete.start", "source"), ("instance.delete.end", "source"))),
    # A host that is down: the API deletes, and names the host in the payload.
    Scene("instance.delete.end", (("instance.delete.end", "api"),)),
    Scene("instance.soft_delete.*", (("instance.soft_delete.end", "source"),)),
    Scene("instance.shelve_offload.end", (("instance.shelve_offload.end", "source"),)),
    Scene("instance.shelve.*", (("instance.shelve.start", "source"), ("instance.shelve.end", "source"))),
    Scene(
        "instance.resize.error",
        (("instance.resize_prep.start", "destination"), ("instance.resize.error", "source")),
        "destination",
    ),
    Scene(
        "instance.resize_confirm.end",
        (("instance.resize_confirm.start", "source"), ("instance.resize_confirm.end", "source")),
    ),
    # The source tells it, and the destination has something to look after.
    Scene(
        "instance.resize_revert.end",
        (("instance.resize_finish.end", "destination"), ("instance.resize_revert.end", "source")),
        "destination",
    ),
    Scene("instance.resize*", (("instance.resize.start", "source"), ("instance.resize.end", "source"))),
    Scene("instance.live_migration_post.end", (("instance.live_migration_post.end", "source"),)),
    Scene(
        "instance.live_migration_rollback*.end",
        (("instance.live_migration_rollback_dest.end", "destination"),),
        "destination",
    ),
    Scene(
        "instance.live_migration_rollback*.end",
        (("instance.live_migration_pre.end", "destination"), ("instance.live_migration_rollback.end", "source")),
        "destination",
    ),
    Scene(
        "instance.live_migration_abort.end",
        (("instance.live_migration_pre.end", "destination"), ("instance.live_migration_abort.end", "source")),
        "destination",
    ),
    Scene(
        "instance.live_migration*",
        (("instance.live_migration_pre.end", "destination"), ("instance.live_migration_post_dest.end", "destination")),
        "destination",
    ),
    Scene("instance.evacuate", (("instance.evacuate", "api"),)),
    Scene("instance.rebuild.error", (("instance.rebuild.error", "destination"),), "destination"),
    Scene("instance.rebuild*", (("instance.rebuild.start", "source"), ("instance.rebuild.end", "source"))),
)
ROWS = {row.pattern: row for row in EVENTS}


@pytest.fixture(scope="module")
def world(placement: str, memory: Path) -> Iterator[World]:
    with folder() as place, notified.world(placement, memory, place) as made:
        yield made


@pytest.fixture(scope="module")
def relay(world: World) -> Iterator[RunningListener]:
    with running_listener.running(world.relay()) as running:
        yield running.listening()


def speaker(world: World, who: Who) -> str:
    hosts = {"source": world.source.speaker, "destination": world.destination.speaker}
    return {**hosts, "api": "nova-api:controller", "conductor": "nova-conductor:controller"}[who]


def place(world: World, scene: Scene) -> Host:
    return world.source if scene.at == "source" else world.destination


@pytest.fixture(scope="module")
def instances(world: World, relay: RunningListener) -> dict[str, str]:
    """Plays all scenes at once and gives their instances: each holds nothing in Placement any more."""
    found = {scene.name: place(world, scene).prepared() for scene in SCENES}
    for scene in SCENES:
        place(world, scene).loses(found[scene.name])
        for kind, who in scene.told:
            world.tell(kind, found[scene.name], speaker(world, who), place(world, scene).address)
    relay.until(lambda: relay.count("received") == sum(len(scene.told) for scene in SCENES))
    return found


def test_the_documentation_has_the_table_with_these_tests() -> None:
    does = {Meaning.LOOK: "looks", Meaning.NOTHING: "nothing"}
    text = (REPOSITORY / "docs/nova.md").read_text()
    for row in EVENTS:
        tests = ", ".join(f"`{scene.name}`" for scene in SCENES if scene.row == row.pattern)
        assert f"| `{row.pattern}` | {does[row.meaning]} | {row.why} | {tests} |\n" in text


def test_every_row_of_the_table_has_a_scene() -> None:
    assert list(dict.fromkeys(scene.row for scene in SCENES)) == list(ROWS)


@pytest.mark.parametrize(
    "scene", [each for each in SCENES if ROWS[each.row].meaning is Meaning.LOOK], ids=lambda s: s.name
)
def test_what_may_free_a_device_has_it_released(world: World, instances: dict[str, str], scene: Scene) -> None:
    host = place(world, scene)
    host.agent.until(lambda: not host.has(instances[scene.name]))
    assert host.looked(instances[scene.name])


@pytest.mark.parametrize(
    "scene", [each for each in SCENES if ROWS[each.row].meaning is Meaning.NOTHING], ids=lambda s: s.name
)
def test_what_frees_nothing_does_nothing(world: World, instances: dict[str, str], scene: Scene) -> None:
    host = place(world, scene)
    assert not host.looked(instances[scene.name])
    assert host.has(instances[scene.name])


def test_while_the_migration_holds_the_source_it_is_kept_and_then_released(
    world: World, relay: RunningListener
) -> None:
    """Nova tells before it gives the allocation back, so the agent looks some more times."""
    host, instance = world.source, world.source.prepared()
    migration = host.moves(instance)
    world.tell("instance.live_migration_post.end", instance, host.speaker, host.address)
    host.agent.until(lambda: f"{instance} is kept: another consumer holds its devices" in host.agent.log)
    assert host.has(instance)
    host.loses(migration)
    host.agent.until(lambda: not host.has(instance))


def test_an_event_of_an_instance_that_keeps_its_devices_changes_nothing(world: World, relay: RunningListener) -> None:
    host, instance = world.source, world.source.prepared()
    world.tell("instance.delete.end", instance, host.speaker, host.address)
    host.agent.until(lambda: host.looked(instance))
    assert host.has(instance)


def test_a_build_that_fails_is_released_here_and_built_on_the_alternate(world: World, relay: RunningListener) -> None:
    """The trail that Nova leaves: create.start and .error of one host, create.start and .end of the other."""
    first, second = world.source, world.destination
    instance = first.prepared()
    world.tell("instance.create.start", instance, first.speaker)
    first.loses(instance)
    world.tell("instance.create.error", instance, first.speaker)
    second.prepared(instance)
    world.tell("instance.create.start", instance, second.speaker)
    world.tell("instance.create.end", instance, second.speaker, second.address)
    first.agent.until(lambda: not first.has(instance))
    assert second.has(instance)


def test_a_listener_of_one_host_tells_its_agent_by_the_socket_and_of_nobody_else(world: World) -> None:
    host, other = world.source, world.destination
    own, theirs = host.prepared(), host.prepared()
    sections = {"nova_host": host.address}
    configuration = running_listener.write_configuration(
        world.folder, world.broker.url, "host.conf", notifications=sections, oslo_messaging_rabbit=dict(world.rabbit),
        api={"unix_socket": str(world.folder / "source" / "api.sock")},
    )  # fmt: skip
    with running_listener.running(configuration) as listener:
        listener.listening()
        for instance, speaker in ((theirs, other), (own, host)):
            host.loses(instance)
            world.tell("instance.delete.end", instance, speaker.speaker, speaker.address)
        host.agent.until(lambda: not host.has(own))
        listener.until(lambda: listener.count("received") == 2)
        assert (listener.count("handed over"), listener.count("without meaning here")) == (1, 1)
        assert host.has(theirs)
        assert listener.stop() == 0
