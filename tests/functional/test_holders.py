# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Who holds our providers, in a real Placement: what moves a generation, what does not, and what asking costs."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping

import pytest
import requests

from devagent import errors
from devagent.inventory.reconcile import Holding
from devagent.placement.client import PlacementClient
from devagent.placement.holders import Holders
from devagent.placement.patience import Patience

from .cloud import Cloud

HOUR = 3600.0
GONE = str(uuid.uuid4())


class Asker:
    """Asks who holds some providers as a cycle does, and counts the requests."""

    def __init__(self, cloud: Cloud, *providers: str) -> None:
        self.cloud, self.providers, self.now = cloud, providers, 1000.0
        self.wire = cloud.wire()
        self.client = PlacementClient(self.wire)
        self.client.version = (1, 39)
        self.restart()

    def restart(self) -> None:
        """Forgets everything, as a new process does."""
        self.holders = Holders(self.client.holding, Patience(lambda _: None), clock=lambda: self.now)

    def listed(self) -> dict[str, int | None]:
        """Lists the generations, which is not counted: the reporter does it anyway."""
        listed = self.cloud.call("GET", f"/resource_providers?in_tree={self.cloud.root}")["resource_providers"]
        return {raw["uuid"]: raw["generation"] for raw in listed if raw["uuid"] in self.providers}

    def count(self, ask: Callable[[], Mapping[str, Holding]]) -> tuple[int, Mapping[str, Holding]]:
        before = len(self.wire.sent)
        found = ask()
        return len(self.wire.sent) - before, found

    def update(self) -> tuple[int, Mapping[str, Holding]]:
        """Gives how many requests a cycle took, and what it found."""
        listed = self.listed()
        return self.count(lambda: self.holders.update(listed))

    def confirm(self, *uids: str) -> tuple[int, Mapping[str, Holding]]:
        return self.count(lambda: self.holders.confirm(uids))


def provider(cloud: Cloud, **totals: int) -> str:
    uid = cloud.create(f"devagent:{cloud.name}:{uuid.uuid4().hex}", cloud.root)
    cloud.set(uid, totals or {"PGPU": 8})
    return uid


@pytest.fixture
def two(cloud: Cloud) -> tuple[str, str]:
    return provider(cloud), provider(cloud)


def generation(cloud: Cloud, uid: str) -> int:
    return int(cloud.call("GET", f"/resource_providers/{uid}")["generation"])


def change(cloud: Cloud, consumer: str, resources: Mapping[str, Mapping[str, int]]) -> None:
    """Replaces what a consumer holds."""
    known = cloud.call("GET", f"/allocations/{consumer}")
    allocations = {uid: {"resources": dict(some)} for uid, some in resources.items()}
    body = {"allocations": allocations, "project_id": "p", "user_id": "u", "consumer_type": "INSTANCE"}
    cloud.call("PUT", f"/allocations/{consumer}", {**body, "consumer_generation": known["consumer_generation"]})


def test_gaining_something_moves_the_generation_and_giving_it_back_need_not(cloud: Cloud, two: tuple[str, str]) -> None:
    """Not a test of ours, but all that the class rests on; from another Placement it may be otherwise."""
    one, other = two
    before = generation(cloud, one)
    consumer = cloud.allocate(one, PGPU=1)
    gained = generation(cloud, one)
    change(cloud, consumer, {one: {"PGPU": 2}})
    grown = generation(cloud, one)
    change(cloud, consumer, {other: {"PGPU": 1}})
    moved = generation(cloud, one)
    last = generation(cloud, other)
    cloud.call("DELETE", f"/allocations/{consumer}")
    assert before < gained < grown == moved
    assert generation(cloud, other) == last


def test_a_first_cycle_costs_one_request_per_provider(cloud: Cloud, two: tuple[str, str]) -> None:
    asker = Asker(cloud, *two)
    consumer = cloud.allocate(two[0], PGPU=3)
    assert asker.update() == (2, {two[0]: {consumer: {"PGPU": 3}}, two[1]: {}})


def test_nothing_changed_costs_no_request(cloud: Cloud, two: tuple[str, str]) -> None:
    asker = Asker(cloud, *two)
    cloud.allocate(two[0], PGPU=3)
    _, found = asker.update()
    for _ in range(5):
        assert asker.update() == (0, found)


def test_a_provider_that_was_given_costs_one_request_once(cloud: Cloud, two: tuple[str, str]) -> None:
    asker = Asker(cloud, *two)
    asker.update()
    consumer = cloud.allocate(two[1], PGPU=1)
    found = {two[0]: {}, two[1]: {consumer: {"PGPU": 1}}}
    assert [asker.update() for _ in range(2)] == [(1, found), (0, found)]


def test_a_restart_costs_one_request_per_provider_and_then_none(cloud: Cloud, two: tuple[str, str]) -> None:
    asker = Asker(cloud, *two)
    asker.update()
    asker.restart()
    assert [asker.update()[0] for _ in range(3)] == [2, 0, 0]


def test_consumers_and_classes_are_told_apart(cloud: Cloud) -> None:
    uid = provider(cloud, PGPU=8, FPGA=4)
    first = cloud.allocate(uid, PGPU=1, FPGA=2)
    second = cloud.allocate(uid, PGPU=3)
    _, found = Asker(cloud, uid).update()
    assert found == {uid: {first: {"PGPU": 1, "FPGA": 2}, second: {"PGPU": 3}}}


def test_a_migration_takes_over_what_the_server_held(cloud: Cloud, two: tuple[str, str]) -> None:
    asker = Asker(cloud, *two)
    server, migration = cloud.allocate(two[0], PGPU=1), str(uuid.uuid4())
    asker.update()
    known = cloud.call("GET", f"/allocations/{server}")["consumer_generation"]
    owner = {"project_id": "p", "user_id": "u", "consumer_type": "INSTANCE"}
    body = {
        server: {**owner, "allocations": {}, "consumer_generation": known},
        migration: {**owner, "allocations": {two[0]: {"resources": {"PGPU": 1}}}, "consumer_generation": None},
    }
    cloud.call("POST", "/allocations", body)
    assert asker.update() == (1, {two[0]: {migration: {"PGPU": 1}}, two[1]: {}})


def test_what_was_given_back_is_seen_when_it_is_asked_for(cloud: Cloud, two: tuple[str, str]) -> None:
    asker = Asker(cloud, *two)
    consumer = cloud.allocate(two[0], PGPU=1)
    asker.update()
    cloud.call("DELETE", f"/allocations/{consumer}")
    assert asker.update()[1][two[0]] != {}
    assert asker.confirm(two[0]) == (1, {two[0]: {}, two[1]: {}})
    assert asker.update() == (0, {two[0]: {}, two[1]: {}})


def test_what_was_read_in_this_cycle_is_not_read_again(cloud: Cloud, two: tuple[str, str]) -> None:
    asker = Asker(cloud, *two)
    asker.update()
    assert asker.confirm(*two)[0] == 0
    asker.update()
    assert [asker.confirm(two[0], two[0])[0], asker.confirm(two[0])[0]] == [1, 0]


def test_what_was_given_back_is_seen_within_hours_in_any_case(cloud: Cloud, two: tuple[str, str]) -> None:
    asker = Asker(cloud, *two)
    consumer = cloud.allocate(two[0], PGPU=1)
    asker.update()
    cloud.call("DELETE", f"/allocations/{consumer}")
    asker.now += HOUR
    assert asker.update()[0] == 0
    asker.now += 6 * HOUR
    assert asker.update() == (1, {two[0]: {}, two[1]: {}})


def test_a_provider_made_anew_that_reaches_the_same_generation_is_read_within_a_day(cloud: Cloud) -> None:
    uid = provider(cloud)
    cloud.set(uid, {"PGPU": 8})
    asker = Asker(cloud, uid)
    asker.update()
    listed = asker.listed()
    cloud.call("DELETE", f"/resource_providers/{uid}")
    cloud.create(f"devagent:{cloud.name}:again", cloud.root, uid)
    cloud.set(uid, {"PGPU": 8})
    consumer = cloud.allocate(uid, PGPU=1)
    assert asker.listed() == listed
    asker.now += 25 * HOUR
    assert asker.update() == (1, {uid: {consumer: {"PGPU": 1}}})


def test_a_provider_that_is_no_longer_listed_is_forgotten(cloud: Cloud, two: tuple[str, str]) -> None:
    asker = Asker(cloud, *two)
    asker.update()
    asker.providers = two[:1]
    assert asker.update() == (0, {two[0]: {}})


def test_a_provider_deleted_since_it_was_listed_is_left_out(cloud: Cloud, two: tuple[str, str]) -> None:
    asker = Asker(cloud, *two)
    found = asker.holders.update({**asker.listed(), GONE: 3})
    assert found == {two[0]: {}, two[1]: {}}


def test_a_stumble_of_placement_is_tried_again(cloud: Cloud, two: tuple[str, str]) -> None:
    asker = Asker(cloud, *two)

    def stumble(_: Callable[[], requests.Response]) -> requests.Response:
        answer = requests.Response()
        answer.status_code = 503
        return answer

    asker.wire.faults[1] = stumble
    assert asker.update() == (3, {two[0]: {}, two[1]: {}})


def test_what_was_read_before_placement_went_away_is_not_read_again(cloud: Cloud, two: tuple[str, str]) -> None:
    asker = Asker(cloud, *two)

    def refuse(_: Callable[[], requests.Response]) -> requests.Response:
        raise requests.ConnectionError("refused")

    asker.wire.faults = dict.fromkeys(range(2, 10), refuse)
    with pytest.raises(errors.PlacementUnreachable):
        asker.update()
    asker.wire.faults = {}
    assert asker.update() == (1, {two[0]: {}, two[1]: {}})
