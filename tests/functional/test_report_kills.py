# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The agent is killed at every request of a report: the next one ends right, and nothing is given twice meanwhile."""

from __future__ import annotations

import shutil
import sqlite3
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import requests

from devagent.inventory.build import NUMA_ROOT, OURS
from devagent.model.provider import Inventory, Provider, ProviderTree
from devagent.placement.client import PlacementClient
from devagent.placement.reporter import Report, Reporter
from devagent.placement.state import StateFile

from . import agent_process
from .agent_process import Agents, Life
from .cloud import WRITES, Cloud, Wire
from .databases import server
from .placement_process import processes

VFS = 4
CYCLES = 5
GPU = "CUSTOM_GPU_K"


class Store:
    """Placement on a file of SQLite: what would take a hundred requests is read, and put back, in that file."""

    def __init__(self, url: str, path: str) -> None:
        self.url = url
        self._path = path

    def save(self) -> sqlite3.Connection:
        """Copies everything."""
        copy = sqlite3.connect(":memory:")
        with closing(sqlite3.connect(self._path)) as own:
            own.backup(copy)
        return copy

    def restore(self, copy: sqlite3.Connection) -> None:
        """Makes everything as it was."""
        with closing(sqlite3.connect(self._path)) as own:
            copy.backup(own)

    def rows(self, query: str, *parameters: str) -> list[tuple[Any, ...]]:
        """Asks the database."""
        with closing(sqlite3.connect(self._path)) as own:
            return own.execute(query, parameters).fetchall()

    def ours(self, root: str) -> dict[str, Provider]:
        """Gives our providers of a compute node as they would stand in a desired tree."""
        providers = {
            uid: Provider(uid, name, parent)
            for uid, name, parent in self.rows(
                "SELECT one.uuid, one.name, parent.uuid FROM resource_providers one JOIN resource_providers parent ON "
                "parent.id = one.parent_provider_id JOIN resource_providers root ON root.id = one.root_provider_id "
                "WHERE root.uuid = ?",
                root,
            )
        }
        for uid, trait in self.rows(
            "SELECT p.uuid, t.name FROM resource_provider_traits JOIN traits t ON t.id = trait_id "
            "JOIN resource_providers p ON p.id = resource_provider_id"
        ):
            if uid in providers:
                providers[uid] = replace(providers[uid], traits=providers[uid].traits | {trait})
        for uid, name, *numbers in self.rows(
            "SELECT p.uuid, c.name, total, reserved, min_unit, max_unit, step_size, allocation_ratio "
            "FROM inventories JOIN resource_classes c ON c.id = resource_class_id "
            "JOIN resource_providers p ON p.id = resource_provider_id"
        ):
            if uid in providers:
                inventories = {**providers[uid].inventories, name: Inventory(*numbers)}
                providers[uid] = replace(providers[uid], inventories=inventories)
        return {uid: provider for uid, provider in providers.items() if provider.is_ours}

    def used(self) -> dict[str, dict[str, dict[str, int]]]:
        """Gives what each consumer has, by provider and class."""
        found: dict[str, dict[str, dict[str, int]]] = {}
        for consumer, uid, name, used in self.rows(
            "SELECT consumer_id, p.uuid, c.name, used FROM allocations JOIN resource_providers p "
            "ON p.id = resource_provider_id JOIN resource_classes c ON c.id = resource_class_id"
        ):
            found.setdefault(consumer, {}).setdefault(uid, {})[name] = used
        return found


@pytest.fixture(scope="module")
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Gives a Placement in a process of its own."""
    connection = server(request.config, "sqlite").database()
    with processes(connection) as (url,):
        yield Store(url, connection.removeprefix("sqlite:///"))


@pytest.fixture(scope="module")
def agents() -> Iterator[Agents]:
    """Gives agents that can be killed."""
    with agent_process.running() as running:
        yield running


@dataclass
class World:
    """A compute node: how its tree was and should become, and who holds what of it.

    `hardware` says for each device which providers stand for it, and how much of a class is all of it;
    `moves` from which provider to which another what is held should go.
    """

    store: Store
    cloud: Cloud
    before: ProviderTree
    desired: ProviderTree
    holds: list[tuple[tuple[Provider, ...], int]] = field(default_factory=list)
    hardware: list[tuple[frozenset[str], dict[str, int]]] = field(default_factory=list)
    moves: dict[str, str] = field(default_factory=dict)
    consumers: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)

    def begin(self, state: StateFile) -> None:
        """Reports how it was, and gives servers what they hold: each has a processor too, as with Nova."""
        self.cloud.create(self.cloud.name, None, self.cloud.root)
        self.cloud.set(self.cloud.root, {"VCPU": 64})
        if self.before.providers:
            names = Wire(self.cloud.url)
            PlacementClient(names).ensure_traits(name for one in self.desired.providers for name in one.traits)
            for name in {name for one in self.desired.providers for name in one.inventories}:
                PlacementClient(names).ensure_resource_class(name)
            state.path.parent.mkdir()
            self.report(state, self.before, Wire(self.cloud.url))
        for providers, amount in self.holds:
            wanted = {one.uuid: dict.fromkeys(one.inventories, amount) for one in providers}
            wanted[self.cloud.root] = {"VCPU": 1}
            self.consumers[str(uuid.uuid4())] = wanted
        for consumer, wanted in self.consumers.items():
            body: dict[str, Any] = {"project_id": "p", "user_id": "u", "consumer_generation": None}
            body["consumer_type"] = "INSTANCE"
            body["allocations"] = {uid: {"resources": resources} for uid, resources in wanted.items()}
            self.cloud.call("PUT", f"/allocations/{consumer}", body)

    def report(self, state: StateFile, desired: ProviderTree, wire: Wire) -> Report:
        """Lets a fresh agent report with the state file."""
        reporter = Reporter(PlacementClient(wire), state.load(), sleep=lambda _: None)
        try:
            return reporter.report(desired)
        finally:
            state.save(reporter.memory)

    def settle(self, state: StateFile) -> None:
        """Checks that agents bring Placement to what is desired, as far as it is free, and then all the way."""
        self.quiet(state)
        self.check_consumers(settled=True)
        if self.consumers:
            self.check_free_ones()
            for consumer in self.consumers:
                self.cloud.call("DELETE", f"/allocations/{consumer}")
            self.quiet(state)
        ours = self.store.ours(self.cloud.root)
        assert {uid: ours.pop(uid) for uid in self.desired.by_uuid()} == self.desired.by_uuid()
        assert not any(provider.inventories for provider in ours.values())

    def check_free_ones(self) -> None:
        """Checks that what nobody holds, and all but the inventory of the rest, is as desired already."""
        held = {uid for wanted in self.consumers.values() for uid in wanted}
        ours = self.store.ours(self.cloud.root)
        for uid, provider in self.desired.by_uuid().items():
            found = ours[uid]
            assert found == provider or (uid in held and replace(found, inventories=provider.inventories) == provider)

    def quiet(self, state: StateFile) -> None:
        """Reports until there is nothing to do, and looks all the while at what is given and offered."""
        for _ in range(CYCLES):
            wire = Watch(self)
            report = self.report(state, self.desired, wire)
            assert report.failures == {}
            if not wire.writes:
                return
        raise AssertionError("it does not come to rest")

    def check_consumers(self, *, settled: bool = False) -> None:
        """Checks that everybody has what they were given, if `settled` of where it should go."""
        used = self.store.used()
        for consumer, wanted in self.consumers.items():
            after = {self.moves.get(uid, uid): resources for uid, resources in wanted.items()}
            assert used[consumer] in ((after,) if settled else (wanted, after))

    def check_hardware(self) -> None:
        """Checks that no piece of hardware is given and offered more than once."""
        ours = self.store.ours(self.cloud.root)
        used: Counter[tuple[str, str]] = Counter()
        for held in self.store.used().values():
            used.update({(uid, name): amount for uid, classes in held.items() for name, amount in classes.items()})
        for uuids, whole in self.hardware:
            taken = Fraction(0)
            for uid in uuids & ours.keys():
                for name, inventory in ours[uid].inventories.items():
                    offered = max(used[uid, name], inventory.total - inventory.reserved)
                    taken += Fraction(offered, whole[name])
            assert taken <= 1, f"given and offered {taken} times"


class Watch(Wire):
    """A wire that looks, after each write, at what is given and offered."""

    def __init__(self, world: World) -> None:
        super().__init__(world.cloud.url)
        self._world = world

    def request(self, url: str, method: str, **kwargs: Any) -> requests.Response:
        """Sends it and looks."""
        answer = super().request(url, method, **kwargs)
        if method in WRITES:
            self._world.check_hardware()
        return answer


def base(cloud: Cloud, unique: str = "K") -> tuple[ProviderTree, Provider, Provider, Provider]:
    """Gives a tree and of it two GPUs and a NIC."""

    def provider(name: str, parent: str, inventories: dict[str, int], *traits: str) -> Provider:
        made = {rc: Inventory(total, max_unit=total) for rc, total in inventories.items()}
        return Provider(str(uuid.uuid4()), f"devagent:{cloud.name}:{name}", parent, made, frozenset({OURS, *traits}))

    nodes = [provider(f"numa{node}", cloud.root, {}, NUMA_ROOT) for node in range(2)]
    gpu = (f"CUSTOM_PRODUCT_10DE_{unique}", f"CUSTOM_VENDOR_{unique}")
    one = provider("0000:3b:00.0", nodes[0].uuid, {f"CUSTOM_GPU_{unique}": 1}, *gpu)
    two = provider("0000:3c:00.0", nodes[0].uuid, {f"CUSTOM_GPU_{unique}": 1}, *gpu)
    nic = provider("0000:3d:00.0", nodes[1].uuid, {"SRIOV_NET_VF": VFS}, f"CUSTOM_PRODUCT_15B3_{unique}")
    return ProviderTree(cloud.root, (*nodes, one, two, nic)), one, two, nic


def changed(tree: ProviderTree, *others: tuple[Provider, Provider | None]) -> ProviderTree:
    """Gives the tree with others in place of some, or without them."""
    instead = {old.uuid: new for old, new in others}
    found = (instead.get(one.uuid, one) for one in tree.providers)
    return replace(tree, providers=tuple(one for one in found if one is not None))


def with_inventory(provider: Provider, **totals: int) -> Provider:
    return replace(provider, inventories={name: Inventory(total, max_unit=total) for name, total in totals.items()})


def with_identity(provider: Provider) -> Provider:
    """Gives the same device with another identity."""
    return replace(provider, uuid=str(uuid.uuid4()))


def piece(whole: dict[str, int], *providers: Provider) -> tuple[frozenset[str], dict[str, int]]:
    return frozenset(one.uuid for one in providers), whole


def first_report(store: Store, cloud: Cloud) -> World:
    """Nobody has heard of the traits and the class either."""
    tree, *_ = base(cloud, "FIRST")
    return World(store, cloud, ProviderTree(cloud.root), tree)


def several_changes(store: Store, cloud: Cloud) -> World:
    """A GPU moves with its server to another NUMA node, one gets a trait, the NIC more VFs, and one is new."""
    tree, one, two, nic = base(cloud)
    new = replace(with_identity(one), name=f"devagent:{cloud.name}:0000:3e:00.0")
    desired = changed(
        tree,
        (one, replace(one, parent=nic.parent, traits=one.traits | {"CUSTOM_NEW"})),
        (two, replace(two, traits=two.traits | {"CUSTOM_NEW"})),
        (nic, with_inventory(nic, SRIOV_NET_VF=2 * VFS)),
    )
    world = World(store, cloud, tree, replace(desired, providers=(*desired.providers, new)))
    world.holds = [((one,), 1), ((nic,), 2)]
    world.hardware = [piece({GPU: 1}, one), piece({GPU: 1}, two), piece({"SRIOV_NET_VF": 2 * VFS}, nic)]
    return world


def gone(store: Store, cloud: Cloud) -> World:
    """Two devices are gone, of which one is in use."""
    tree, one, two, nic = base(cloud)
    tree = changed(tree, (nic, None))
    world = World(store, cloud, tree, changed(tree, (one, None), (two, None)))
    world.holds, world.hardware = [((one,), 1)], [piece({GPU: 1}, one), piece({GPU: 1}, two)]
    return world


def pf_to_vfs(store: Store, cloud: Cloud) -> World:
    """A NIC that is given whole shall be given by its VFs."""
    tree, one, two, nic = base(cloud)
    tree = changed(tree, (one, None), (two, None))
    whole = with_inventory(nic, CUSTOM_NIC=1)
    world = World(store, cloud, changed(tree, (nic, whole)), tree)
    world.holds, world.hardware = [((whole,), 1)], [piece({"CUSTOM_NIC": 1, "SRIOV_NET_VF": VFS}, nic)]
    return world


def vfs_to_pf(store: Store, cloud: Cloud) -> World:
    """A NIC whose VFs are given shall be given whole."""
    tree, one, two, nic = base(cloud)
    tree = changed(tree, (one, None), (two, None))
    world = World(store, cloud, tree, changed(tree, (nic, with_inventory(nic, CUSTOM_NIC=1))))
    world.holds, world.hardware = [((nic,), 2)], [piece({"CUSTOM_NIC": 1, "SRIOV_NET_VF": VFS}, nic)]
    return world


def known_better(store: Store, cloud: Cloud) -> World:
    """Two devices have another identity; two servers use the NIC, one of them a GPU too."""
    tree, one, two, nic = base(cloud)
    new_one, new_nic = with_identity(one), with_identity(nic)
    world = World(store, cloud, tree, changed(tree, (one, new_one), (nic, new_nic)))
    world.holds = [((nic, two), 1), ((nic,), 2)]
    world.moves = {one.uuid: new_one.uuid, nic.uuid: new_nic.uuid}
    world.hardware = [piece({GPU: 1}, one, new_one), piece({"SRIOV_NET_VF": VFS}, nic, new_nic)]
    return world


def another_card(store: Store, cloud: Cloud) -> World:
    """Another model sits in the slot while somebody still has the old one."""
    tree, one, two, nic = base(cloud)
    tree = changed(tree, (two, None), (nic, None))
    new = replace(with_identity(one), traits=frozenset({OURS, "CUSTOM_PRODUCT_10DE_L"}))
    world = World(store, cloud, tree, changed(tree, (one, new)))
    world.holds, world.hardware = [((one,), 1)], [piece({GPU: 1}, one), piece({GPU: 1}, new)]
    return world


def swapped(store: Store, cloud: Cloud) -> World:
    """Two devices, each in use, change slots, and with that names."""
    tree, one, two, nic = base(cloud)
    tree = changed(tree, (nic, None))
    world = World(
        store, cloud, tree, changed(tree, (one, replace(one, name=two.name)), (two, replace(two, name=one.name)))
    )
    world.holds, world.hardware = [((one,), 1), ((two,), 1)], [piece({GPU: 1}, one), piece({GPU: 1}, two)]
    return world


WORLDS = (first_report, several_changes, gone, pf_to_vfs, vfs_to_pf, known_better, another_card, swapped)


@pytest.mark.parametrize("make", WORLDS, ids=[make.__name__ for make in WORLDS])
def test_a_kill_at_any_request_is_made_good_by_the_next_report(
    agents: Agents, store: Store, tmp_path: Path, make: Callable[[Store, Cloud], World]
) -> None:
    """Killed before each request, which is after the answer to the one before, and after the last answer."""
    cloud = Cloud(store.url, str(uuid.uuid4()), f"host-{uuid.uuid4().hex[:12]}.example.org")
    world, state = make(store, cloud), StateFile(tmp_path / "begun")
    world.begin(state)
    state.path.parent.mkdir(exist_ok=True)
    begun = store.save()

    def killed(number: int, *, answered: bool = False) -> bool:
        store.restore(begun)
        again = StateFile(tmp_path / f"{number}{answered}")
        shutil.copytree(state.path.parent, again.path.parent)
        lived = agents.live(Life(store.url, again.path.parent, world.desired, number, answered))
        world.check_hardware()
        world.check_consumers()
        world.settle(again)
        return not lived

    number = 1
    while killed(number):
        number += 1
    assert number > 3
    # Several requests are under way at once while providers are made.
    for last in range(1 if make is first_report else number - 1, number):
        assert killed(last, answered=True)
