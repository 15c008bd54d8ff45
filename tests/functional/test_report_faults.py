# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whatever goes wrong at whichever request of a report: Placement ends as it should be."""

from __future__ import annotations

import contextlib
import itertools
import random
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from devagent import errors
from devagent.inventory.build import Nest
from devagent.model.claim import Kind, Mode
from devagent.model.policy import Match, Policy, Rule
from devagent.model.provider import ProviderTree
from devagent.placement.client import PlacementClient, from_token
from devagent.placement.reporter import Report, Reporter

from .cloud import Cloud, Fault, Wire, assert_is, reporter
from .conftest import Describe
from .descriptions import small
from .faults import FAULTS, Send, answer, answers, fails


def novel(cloud: Cloud, host: Path, nest: Nest = Nest.NUMA) -> ProviderTree:
    """Gives VFs, and a GPU with a trait and a resource class that Placement has never heard of."""
    unique = uuid.uuid4().hex.upper()
    vfs = Rule("vfs", Match(vfs=True), Mode.VF)
    gpus = Rule("gpus", Match(kind=(Kind.GPU,)), Mode.WHOLE, f"CUSTOM_GPU_{unique}", frozenset({f"CUSTOM_T_{unique}"}))
    return cloud.want(host, Policy((vfs, gpus), "test"), nest)


def beside(cloud: Cloud) -> Cloud:
    """Gives one more compute node."""
    other = Cloud(cloud.url, str(uuid.uuid4()), f"host-{uuid.uuid4().hex[:12]}.example.org")
    other.create(other.name, None, other.root)
    return other


def whole(cloud: Cloud, wire: Wire, desired: ProviderTree) -> Report:
    """Finds the compute node by its name and reports, as the command does."""
    by = reporter(wire)
    return by.report(desired, by.survey(None, cloud.name))


ROWS = [("503 but done", 1), ("reset", 1), ("409", 2), ("time-out but done", 2)]


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_a_fault_at_any_request_of_a_first_report_is_made_good(
    cloud: Cloud, describe: Describe, name: str, row: int
) -> None:
    """Reads, version, names, POST, PUT and reshaper: each fails once, or twice in a row."""
    host = describe(small(vfs=1))
    for broken in itertools.count(1, row):
        fresh, wire = beside(cloud), cloud.wire()
        desired = novel(fresh, host, Nest.FLAT)
        wire.faults = dict.fromkeys(range(broken, broken + row), FAULTS[name])
        assert whole(fresh, wire, desired).failures == {}
        assert_is(fresh, desired)
        if broken > len(wire.sent):
            break
    assert broken > 10  # it broke each request of a whole report, and ended by itself
    assert ("POST", "/reshaper") in wire.sent


@pytest.mark.parametrize(("name", "row"), [("503 but done", 1), ("time-out but done", 2)])
def test_a_fault_at_any_request_of_a_change_is_made_good_by_the_same_report(
    cloud: Cloud, describe: Describe, name: str, row: int
) -> None:
    """The GPU moves to another NUMA node, with another trait and class; the NIC is gone."""
    host, changed = describe(small(vfs=2)), describe(small(vfs=0, node=1))
    for broken in itertools.count(1, row):
        fresh, wire = beside(cloud), cloud.wire()
        fresh.report(fresh.want(host))
        desired = novel(fresh, changed)
        wire.faults = dict.fromkeys(range(broken, broken + row), FAULTS[name])
        assert whole(fresh, wire, desired).failures == {}
        ours = fresh.ours()
        assert {uid: ours[uid] for uid in desired.by_uuid()} == desired.by_uuid()
        assert not any(provider.inventories for uid, provider in ours.items() if uid not in desired.by_uuid())
        if broken > len(wire.sent):
            break
    assert len(wire.writes) > 6  # POST, traits; parent, traits, inventories; inventories


def reidentified(desired: ProviderTree) -> ProviderTree:
    """Gives the tree in which the GPU, of the same name and model, has another UUID."""
    old = next(iter(desired.devices))
    new = str(uuid.uuid4())
    providers = tuple(replace(one, uuid=new) if one.uuid == old else one for one in desired.providers)
    return replace(desired, providers=providers, devices={new: ("0000:3b:00.0",)})


def swapped(desired: ProviderTree) -> ProviderTree:
    """Gives the tree in which GPU and NIC have each other's names."""
    one, other = (desired.by_uuid()[uid].name for uid in desired.devices)
    names = {one: other, other: one}
    providers = tuple(replace(each, name=names.get(each.name, each.name)) for each in desired.providers)
    return replace(desired, providers=providers)


@pytest.mark.parametrize(("change", "name"), [(reidentified, "time-out but done"), (swapped, "409")])
def test_a_fault_while_names_change_hands_is_made_good_and_loses_no_consumer(
    cloud: Cloud, describe: Describe, change: Callable[[ProviderTree], ProviderTree], name: str
) -> None:
    host = describe(small(vfs=1))
    for broken in itertools.count(1):
        fresh, wire = beside(cloud), cloud.wire()
        before = fresh.want(host, nest=Nest.FLAT)
        fresh.report(before)
        gpu, pf = before.devices
        consumer = fresh.allocate_all({gpu: {"PGPU": 1}, pf: {"SRIOV_NET_VF": 1}})
        desired = change(before)
        wire.faults = {broken: FAULTS[name]}
        assert whole(fresh, wire, desired).failures == {}
        ours = fresh.ours()
        assert {uid: ours[uid] for uid in desired.by_uuid()} == desired.by_uuid()
        assert not any(provider.inventories for uid, provider in ours.items() if uid not in desired.by_uuid())
        new = next(one.uuid for one in desired.providers if "PGPU" in one.inventories)
        assert fresh.allocations(consumer) == {new: {"PGPU": 1}, pf: {"SRIOV_NET_VF": 1}}
        if broken > len(wire.sent):
            break
    assert broken > 8


def test_a_placement_that_stumbles_at_random_ends_right(cloud: Cloud, hosts: dict[str, Path]) -> None:
    chance = random.Random(20)
    desired = cloud.want(hosts["fpga"])
    for _ in range(10):
        wire = cloud.wire()
        wire.faults = {k: chance.choice(list(FAULTS.values())) for k in range(3, 400) if chance.random() < 0.2}
        with contextlib.suppress(errors.PlacementError):
            if not reporter(wire).report(desired).failures:
                break
    assert_is(cloud, desired)


def test_a_lost_race_at_every_write_still_ends_right(cloud: Cloud, describe: Describe) -> None:
    """Somebody else, such as a scheduler giving VFs away, moves the generation before each of our writes."""
    desired = cloud.want(describe(small()))
    cloud.report(desired)
    pf = next(uid for uid, address in desired.devices.items() if address[0] == "0000:3c:00.0")
    changed = cloud.want(describe(small(vfs=2)))
    wire = cloud.wire()

    def somebody_is_quicker(send: Send) -> requests.Response:
        cloud.allocate(pf, SRIOV_NET_VF=1)
        return send()

    plan = cloud.wire()
    reporter(plan).plan(changed)
    wire.faults = {len(plan.sent) + 1: somebody_is_quicker}
    assert reporter(wire).report(changed).failures == {}
    assert [url.rpartition("/")[2] for _, url in wire.writes] == ["inventories", "inventories"]
    assert_is(cloud, changed)


def test_two_reporters_at_once_converge(cloud: Cloud, hosts: dict[str, Path]) -> None:
    desired = cloud.want(hosts["fpga"])
    wires = [cloud.wire() for _ in range(3)]
    with ThreadPoolExecutor(len(wires)) as pool:
        reports = list(pool.map(lambda wire: reporter(wire).report(desired), wires))
    assert [report.failures for report in reports] == [{}] * len(wires)
    assert_is(cloud, desired)
    wire = cloud.wire()
    cloud.report(desired, wire)
    assert wire.writes == []


def moving(cloud: Cloud, host: Path, fault: Fault) -> tuple[Wire, Callable[[], Report], int]:
    """Reports a host, and gives how to move that many devices of it while every write has that fault."""
    wire = cloud.wire()
    by = reporter(wire)
    by.report(cloud.want(host))
    moved = cloud.want(host, nest=Nest.FLAT)
    # One request lists the tree; the rest is remembered.
    wire.faults = dict.fromkeys(range(len(wire.sent) + 2, 400), fault)
    return wire, lambda: by.report(moved), len(moved.devices)


def test_a_403_is_not_tried_again_and_named_for_each_provider(cloud: Cloud, hosts: dict[str, Path]) -> None:
    wire, move, count = moving(cloud, hosts["qat"], answers(403))
    before = len(wire.writes)
    report = move()
    assert len(wire.writes) - before == len(report.failures) == count
    assert all("the role service, or admin, is needed" in str(error) for error in report.failures.values())


def test_a_401_ends_the_report(cloud: Cloud, hosts: dict[str, Path]) -> None:
    wire, move, _ = moving(cloud, hosts["qat"], answers(401))
    before = len(wire.writes)
    with pytest.raises(errors.PlacementDenied):
        move()
    assert len(wire.writes) - before == 1


def test_credentials_without_a_role_change_nothing(cloud: Cloud, describe: Describe) -> None:
    """Placement itself refuses here: a token other than `admin`, without roles."""
    nobody = from_token(cloud.url, "nobody")
    with pytest.raises(errors.PlacementDenied, match="the role service, or admin, is needed"):
        Reporter(nobody, sleep=lambda _: None).report(cloud.want(describe(small())))
    assert cloud.ours() == {}


def test_a_write_that_never_succeeds_is_given_up_and_the_others_are_made(cloud: Cloud, describe: Describe) -> None:
    desired = cloud.want(describe(small()))
    gpu = next(uid for uid, address in desired.devices.items() if address[0] == "0000:3b:00.0")
    wire = Stubborn(cloud.url, gpu)
    report = reporter(wire).report(desired)
    assert list(report.failures) == [desired.by_uuid()[gpu].name]
    assert set(cloud.ours()) == set(desired.by_uuid())
    assert cloud.provider(gpu)["inventories"] == {}
    cloud.report(desired)
    assert_is(cloud, desired)


class Stubborn(Wire):
    """Answers 500 to every write of one provider but its creation."""

    def __init__(self, url: str, uid: str) -> None:
        super().__init__(url)
        self.uid = uid

    def request(self, url: str, method: str, **kwargs: Any) -> requests.Response:
        """Sends all else."""
        if method == "PUT" and self.uid in url:
            return answer(500)
        return super().request(url, method, **kwargs)


@pytest.mark.parametrize("status", [408, 425, 429, 503])
@pytest.mark.parametrize(
    ("asked", "waited"), [("7", 7.0), ("30", 30.0), ("Fri, 21 Nov 2025 12:00:00 GMT", 0.0), ("-5", 0.0)]
)
def test_what_a_proxy_asks_to_wait_is_waited(cloud: Cloud, status: int, asked: str, waited: float) -> None:
    """And not for what it asks in another form, which gives way to our own short waits."""
    naps: list[float] = []
    wire = cloud.wire()
    wire.faults = {1: lambda send: answer(status, later=asked)}
    Reporter(PlacementClient(wire), sleep=naps.append).survey(None, cloud.name)
    assert len(naps) == 1
    assert waited <= naps[0] < waited + 1


def test_who_asks_to_wait_for_long_is_not_waited_for(cloud: Cloud) -> None:
    naps: list[float] = []
    wire = cloud.wire()
    wire.faults = {1: lambda send: answer(503, later="86400")}
    with pytest.raises(errors.PlacementUnreachable):
        Reporter(PlacementClient(wire), sleep=naps.append).survey(None, cloud.name)
    assert naps == []


@pytest.mark.parametrize("before", [6, 10, 20, 30])
def test_a_placement_that_is_gone_ends_the_report_soon(cloud: Cloud, hosts: dict[str, Path], before: int) -> None:
    """And does not have each of gpu8's 14 providers wait for its own."""
    wire = cloud.wire()
    wire.faults = dict.fromkeys(range(before, 1000), fails(ConnectionRefusedError("injected")))
    with pytest.raises(errors.PlacementUnreachable):
        Reporter(PlacementClient(wire), sleep=lambda _: time.sleep(0.02)).report(cloud.want(hosts["gpu8"]))
    # The four that were on their way, and four that began before the first gave up: one write each, and three
    # times the question whether it was done.
    assert len(wire.sent) - before <= (4 + 4) * (1 + 3)
    desired = cloud.want(hosts["gpu8"])
    assert cloud.report(desired).failures == {}
    assert_is(cloud, desired)


def test_a_placement_that_is_gone_ends_a_change_soon(cloud: Cloud, hosts: dict[str, Path]) -> None:
    wire, move, _ = moving(cloud, hosts["gpu8"], fails(ConnectionRefusedError("injected")))
    before = len(wire.sent)
    with pytest.raises(errors.PlacementUnreachable):
        move()
    # The listing, one write, and three times whether it was done.
    assert len(wire.sent) - before <= 1 + 1 + 3


@pytest.mark.parametrize("part", ["inventories", "traits"])
def test_a_provider_deleted_between_listing_and_reading_is_made_again(
    cloud: Cloud, describe: Describe, part: str
) -> None:
    desired = cloud.want(describe(small()))
    cloud.report(desired)
    gpu = next(uid for uid, address in desired.devices.items() if address[0] == "0000:3b:00.0")
    wire = Deleting(cloud, f"/resource_providers/{gpu}/{part}")
    report = reporter(wire).report(desired)
    assert report.failures == {}
    assert [(change.action, change.after.uuid) for change in report.changes] == [("+", gpu)]
    assert_is(cloud, desired)


class Deleting(Wire):
    """Deletes a provider before the first request for one part of it."""

    def __init__(self, cloud: Cloud, url: str) -> None:
        super().__init__(cloud.url)
        self.cloud, self.part = cloud, url

    def request(self, url: str, method: str, **kwargs: Any) -> requests.Response:
        """Sends it afterwards."""
        if url == self.part:
            self.part = ""
            self.cloud.call("DELETE", url.rpartition("/")[0])
        return super().request(url, method, **kwargs)
