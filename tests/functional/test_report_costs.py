# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""How many requests each situation costs, to the last one, on each database that Placement runs on."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace
from math import ceil
from pathlib import Path

import pytest

from devagent.inventory.build import NUMA_ROOT, OURS
from devagent.model.provider import Inventory, Provider, ProviderTree
from devagent.placement.client import PlacementClient
from devagent.placement.reporter import Report, Reporter
from devagent.placement.state import Memory, StateFile

from .cloud import Cloud, Wire, assert_is
from .databases import KINDS, placements

NUMA_NODES = 2
VFS = 8
# Before anything is read: GET / for the microversions, and the listing.
VERSIONS, LISTING = 1, 1
NAMES, BATCH = 25, 64

SIZES = [(kind, size) for size in (8, 64) for kind in KINDS] + [("sqlite", 512)]
if os.environ.get("DEVAGENT_LARGE"):  # minutes
    SIZES += [("postgresql", 512), ("mariadb", 512), ("sqlite", 4096)]


@pytest.fixture(params=KINDS)
def placement(request: pytest.FixtureRequest) -> str:
    """Gives a Placement on each database, in place of the one in this process."""
    return placements(request.config, request.param)[0]


class Admin(Wire):
    """A wire with the role that may do all but reshape."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.session.additional_headers["X-Roles"] = "admin"


class Agent:
    """One life of the agent after the other, with or without what is remembered between them."""

    def __init__(self, cloud: Cloud, top: Path, wire: type[Wire] = Wire) -> None:
        self.cloud, self.state, self._wire = cloud, StateFile(top), wire
        self.restart()

    def restart(self, *, forget: bool = False) -> None:
        """Starts the next life."""
        memory = None if forget else self.state.load()
        assert forget or (memory is None) == (not self.state.path.exists())
        self.wire = self._wire(self.cloud.url)
        self.reporter = Reporter(PlacementClient(self.wire), memory, sleep=lambda _: None)

    def report(self, desired: ProviderTree) -> int:
        """Reports, checks that Placement is as desired, and gives the number of requests."""
        before = len(self.wire.sent)
        self.last: Report = self.reporter.report(desired)
        self.state.save(self.reporter.memory)
        assert self.last.failures == {}
        return len(self.wire.sent) - before

    @property
    def memory(self) -> Memory:
        return self.reporter.memory


def desired_tree(cloud: Cloud, number: int) -> ProviderTree:
    """Gives so many providers: two NUMA nodes, GPUs of a class and NICs with traits that nobody has heard of."""
    unique = uuid.uuid4().hex[:8].upper()
    kinds = (
        (
            {f"CUSTOM_GPU_{unique}": Inventory(1, max_unit=1)},
            {f"CUSTOM_MODEL_A_{unique}", f"CUSTOM_PRODUCT_A_{unique}"},
        ),
        ({"SRIOV_NET_VF": Inventory(VFS, max_unit=VFS)}, {f"CUSTOM_PRODUCT_B_{unique}", "HW_NIC_SRIOV"}),
    )
    nodes = [
        Provider(
            str(uuid.uuid4()), f"devagent:{cloud.name}:numa{node}", cloud.root, traits=frozenset({OURS, NUMA_ROOT})
        )
        for node in range(NUMA_NODES)
    ]
    devices = [
        Provider(
            str(uuid.uuid4()),
            f"devagent:{cloud.name}:0000:{position:04x}:00.0",
            nodes[position % NUMA_NODES].uuid,
            kinds[position // NUMA_NODES % 2][0],
            frozenset({OURS, *kinds[position // NUMA_NODES % 2][1]}),
        )
        for position in range(number - NUMA_NODES)
    ]
    return ProviderTree(cloud.root, (*nodes, *devices))


def new_names(cloud: Cloud, desired: ProviderTree) -> tuple[int, int]:
    """Gives how many custom traits, and how many custom classes, this Placement does not have yet."""
    traits = set(cloud.call("GET", "/traits?name=startswith:CUSTOM_")["traits"])
    classes = {raw["name"] for raw in cloud.call("GET", "/resource_classes")["resource_classes"]}
    return (
        len({name for one in desired.providers for name in one.traits if name.startswith("CUSTOM_")} - traits),
        len({name for one in desired.providers for name in one.inventories if name.startswith("CUSTOM_")} - classes),
    )


def filled(desired: ProviderTree) -> list[Provider]:
    return [provider for provider in desired.providers if provider.inventories]


def changed(desired: ProviderTree, *others: Provider) -> ProviderTree:
    """Gives the tree with these in place of those with the same UUID."""
    by_uuid = {provider.uuid: provider for provider in others}
    return replace(desired, providers=tuple(by_uuid.get(one.uuid, one) for one in desired.providers))


def vfs_of(provider: Provider, total: int) -> Provider:
    return replace(provider, inventories={"SRIOV_NET_VF": Inventory(total, max_unit=total)})


@pytest.mark.parametrize(("placement", "number"), SIZES, indirect=["placement"])
def test_each_situation_costs_the_requests_that_it_must(cloud: Cloud, tmp_path: Path, number: int) -> None:
    """First report, no change, restarts, one change, one moved generation, a subtree that is gone."""
    desired, agent = desired_tree(cloud, number), Agent(cloud, tmp_path)
    traits, classes = new_names(cloud, desired)
    batches = ceil(len(filled(desired)) / BATCH)
    names = ceil(traits / NAMES) + traits + classes
    assert agent.report(desired) == VERSIONS + LISTING + names + 2 * number + batches
    if number <= BATCH * 3:
        assert len(agent.wire.sent) <= 2 * number + traits + classes + 6
    if number <= BATCH:
        assert_is(cloud, desired)

    assert agent.report(desired) == LISTING

    agent.restart()
    assert agent.report(desired) == LISTING

    pf = filled(desired)[NUMA_NODES]
    desired = changed(desired, vfs_of(pf, VFS // 2))
    assert agent.report(desired) == LISTING + 1

    cloud.allocate(pf.uuid, SRIOV_NET_VF=1)
    assert agent.report(desired) == LISTING + 2
    assert len(agent.wire.writes) == 1  # the change before
    assert agent.report(desired) == LISTING

    # Of the other NUMA node: nothing of it is in use.
    gone = {one.uuid for one in filled(desired) if one.parent == desired.providers[1].uuid}
    without = replace(desired, providers=tuple(one for one in desired.providers if one.uuid not in gone))
    assert agent.report(without) == LISTING + len(gone)
    assert agent.report(without) == LISTING
    if number <= BATCH:
        assert agent.report(desired) == LISTING + len(gone)
        without = desired

    agent.restart(forget=True)
    assert agent.report(without) == VERSIONS + LISTING + 2 * number
    assert agent.wire.writes == []
    assert agent.report(without) == LISTING


@pytest.mark.parametrize(("placement", "number"), [*SIZES[: len(KINDS)], ("sqlite", 64)], indirect=["placement"])
def test_without_the_service_role_each_device_costs_a_request_more(cloud: Cloud, tmp_path: Path, number: int) -> None:
    desired, agent = desired_tree(cloud, number), Agent(cloud, tmp_path, Admin)
    traits, classes = new_names(cloud, desired)
    devices, names, refused = len(filled(desired)), ceil(traits / NAMES) + traits + classes, 1
    assert agent.report(desired) == VERSIONS + LISTING + names + 2 * number + refused + devices
    assert agent.report(desired) == LISTING

    # The refusal is remembered across a restart; all traits and classes are.
    agent.restart()
    more = [replace(one, uuid=str(uuid.uuid4()), name=f"{one.name}-b") for one in filled(desired)[:6]]
    desired = replace(desired, providers=(*desired.providers, *more))
    assert agent.report(desired) == LISTING + 3 * len(more)
    assert_is(cloud, desired)


@pytest.mark.parametrize("edit", ["name", "letters of the name", "parent", "inventory", "traits", "deleted"])
def test_what_others_do_is_healed(cloud: Cloud, tmp_path: Path, edit: str) -> None:
    desired, agent = desired_tree(cloud, 8), Agent(cloud, tmp_path)
    agent.report(desired)
    pf = filled(desired)[NUMA_NODES]
    body = {"name": pf.name, "parent_provider_uuid": pf.parent}
    path = f"/resource_providers/{pf.uuid}"
    match edit:
        case "name":
            cloud.call("PUT", path, {**body, "name": f"mine-{uuid.uuid4()}"})
            requests = LISTING + 1
        case "letters of the name":  # to MariaDB the same name
            cloud.call("PUT", path, {**body, "name": pf.name.upper()})
            requests = LISTING + 1
        case "parent":
            cloud.call("PUT", path, {**body, "parent_provider_uuid": desired.providers[1].uuid})
            requests = LISTING + 1
        case "inventory":
            cloud.set(pf.uuid, {"SRIOV_NET_VF": 99}, tuple(pf.traits))
            requests = LISTING + 2 + 1
        case "traits":
            cloud.set(pf.uuid, {"SRIOV_NET_VF": VFS}, ("HW_GPU_API_VULKAN",))
            requests = LISTING + 2 + 2  # `set` leaves max_unit out too
        case _:
            cloud.call("DELETE", path)
            requests = LISTING + 3
    assert agent.report(desired) == requests
    assert_is(cloud, desired)
    agent.restart()
    assert agent.report(desired) == LISTING


RATIOS = (0.123456789, 1 / 3, 1234567.891)


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_ratio_that_the_database_rounds_is_written_once(cloud: Cloud, tmp_path: Path, ratio: float) -> None:
    desired, agent = desired_tree(cloud, 8), Agent(cloud, tmp_path)
    pf = filled(desired)[NUMA_NODES]
    inventory = replace(pf.inventories["SRIOV_NET_VF"], allocation_ratio=ratio)
    desired = changed(desired, replace(pf, inventories={"SRIOV_NET_VF": inventory}))
    agent.report(desired)
    agent.restart(forget=True)
    assert agent.report(desired) == VERSIONS + LISTING + 2 * 8
    assert agent.wire.writes == []


def test_a_compute_node_is_found_by_a_name_in_capital_letters(empty_cloud: Cloud, tmp_path: Path) -> None:
    cloud = replace(empty_cloud, name=empty_cloud.name.upper())
    cloud.create(cloud.name, None, cloud.root)
    desired, agent = desired_tree(cloud, 8), Agent(cloud, tmp_path)
    desired = replace(desired, providers=tuple(replace(one, name=one.name.lower()) for one in desired.providers))
    agent.report(desired)
    assert_is(cloud, desired)
    for forget in (False, True):
        agent.restart(forget=forget)
        assert agent.reporter.survey(None, cloud.name).root.uuid == cloud.root
        agent.report(desired)
        assert agent.wire.writes == []


def test_another_identity_takes_over_with_what_is_allocated(cloud: Cloud, tmp_path: Path) -> None:
    desired, agent = desired_tree(cloud, 8), Agent(cloud, tmp_path)
    agent.report(desired)
    pf, gpu = filled(desired)[NUMA_NODES], filled(desired)[0]
    consumer = cloud.allocate(pf.uuid, SRIOV_NET_VF=3)
    other = cloud.allocate(pf.uuid, SRIOV_NET_VF=1)
    new = replace(pf, uuid=str(uuid.uuid4()))
    desired = replace(desired, providers=tuple(new if one is pf else one for one in desired.providers))
    agent.report(desired)
    assert cloud.allocations(consumer) == {new.uuid: {"SRIOV_NET_VF": 3}}
    assert cloud.allocations(other) == {new.uuid: {"SRIOV_NET_VF": 1}}
    assert cloud.provider(gpu.uuid)["name"] == gpu.name
    ours = cloud.ours()
    assert ours.pop(pf.uuid).inventories == {}
    assert ours == desired.by_uuid()
    assert agent.report(desired) <= LISTING + 2  # the former provider, once
    assert agent.report(desired) == LISTING
    agent.restart(forget=True)
    agent.report(desired)
    assert agent.wire.writes == []
