# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whatever goes wrong at whichever request of a report: Placement ends as it should be."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from keystoneauth1 import exceptions as ksa

from devagent import errors
from devagent.inventory.build import Nest
from devagent.model.claim import Kind, Mode
from devagent.model.policy import Match, Policy, Rule
from devagent.model.provider import ProviderTree
from devagent.placement.client import from_token
from devagent.placement.reporter import Reporter

from .cloud import Cloud, Fault, Wire, assert_is, reporter
from .conftest import Describe
from .descriptions import small

Send = Callable[[], requests.Response]


def answer(status: int, code: str = "placement.undefined_code") -> requests.Response:
    response = requests.Response()
    response.status_code, response.url = status, "http://placement"
    response._content = json.dumps({"errors": [{"status": status, "code": code, "detail": "injected"}]}).encode()
    return response


def answers(status: int, code: str = "placement.undefined_code", *, sent: bool = False) -> Fault:
    """Gives a wrong answer; `sent` lets Placement do what was asked all the same."""

    def fault(send: Send) -> requests.Response:
        if sent:
            send()
        return answer(status, code)

    return fault


def fails(error: Exception, *, sent: bool = False) -> Fault:
    """Gives no answer."""

    def fault(send: Send) -> requests.Response:
        if sent:
            send()
        raise error

    return fault


# Requests between the plan and the first change: which traits exist, the new trait, the new class.
NAMES = 3

FAULTS = {
    "409": answers(409, "placement.concurrent_update"),
    "500": answers(500),
    "503 but done": answers(503, sent=True),
    "time-out but done": fails(ksa.ConnectTimeout("injected"), sent=True),
    "reset": fails(ConnectionResetError("injected")),
}


def one_gpu(cloud: Cloud, host: Path, nest: Nest = Nest.NUMA) -> ProviderTree:
    """Gives a GPU with a trait and a resource class that Placement has never heard of."""
    unique = uuid.uuid4().hex.upper()
    rule = Rule("gpus", Match(kind=(Kind.GPU,)), Mode.WHOLE, f"CUSTOM_GPU_{unique}", frozenset({f"CUSTOM_T_{unique}"}))
    return cloud.want(host, Policy((rule,), "test"), nest)


def beside(cloud: Cloud) -> Cloud:
    """Gives one more compute node."""
    other = Cloud(cloud.url, str(uuid.uuid4()), f"host-{uuid.uuid4().hex[:12]}.example.org")
    other.create(other.name, None, other.root)
    return other


def first_write(wire: Wire) -> int:
    """Gives the number of the first request that makes or changes a provider."""
    writes = (
        number for number, (method, url) in enumerate(wire.sent, 1) if "/resource_providers" in url and method != "GET"
    )
    return next(writes, len(wire.sent) + 1)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_at_any_request_of_a_first_report_is_made_good(cloud: Cloud, describe: Describe, name: str) -> None:
    host = describe(small(vfs=0))
    for broken in itertools.count(1):
        fresh, wire = beside(cloud), cloud.wire()
        desired = one_gpu(fresh, host, Nest.FLAT)
        wire.faults = {broken: FAULTS[name]}
        try:
            assert reporter(wire).report(desired).failures == {}
        except errors.PlacementError:
            # What goes wrong before the first change may end a report; the next one then does it all.
            assert broken <= len(wire.sent) < first_write(wire)
            assert fresh.ours() == {}
            assert fresh.report(desired).failures == {}
        assert_is(fresh, desired)
        if broken > len(wire.sent):
            break
    assert broken > 8  # it broke each request of a whole report, and ended by itself


def test_a_fault_at_any_write_of_a_change_is_made_good_by_the_same_report(cloud: Cloud, describe: Describe) -> None:
    """The GPU moves to another NUMA node, with another trait and class; the NIC is gone."""
    host, changed = describe(small(vfs=2)), describe(small(vfs=0, node=1))
    for number in itertools.count(1):
        fresh = beside(cloud)
        fresh.report(fresh.want(host))
        desired, clean, wire = one_gpu(fresh, changed), fresh.wire(), fresh.wire()
        reporter(clean).plan(desired)
        wire.faults = {len(clean.sent) + NAMES + number: FAULTS["time-out but done"]}
        assert reporter(wire).report(desired).failures == {}
        ours = fresh.ours()
        assert {uid: ours[uid] for uid in desired.by_uuid()} == desired.by_uuid()
        assert not any(provider.inventories for uid, provider in ours.items() if uid not in desired.by_uuid())
        if max(wire.faults) > len(wire.sent):
            break
    assert number > 6  # POST, traits; parent, traits, inventories; inventories


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
    pf = next(uid for uid, address in desired.devices.items() if address == "0000:3c:00.0")
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


def test_a_403_ends_the_report_with_one_message(cloud: Cloud, hosts: dict[str, Path]) -> None:
    cloud.report(cloud.want(hosts["qat"]))
    moved = cloud.want(hosts["qat"], nest=Nest.FLAT)
    plan, wire = cloud.wire(), cloud.wire()
    reporter(plan).plan(moved)
    wire.faults = dict.fromkeys(range(len(plan.sent) + 1, 400), answers(403))
    report = reporter(wire).report(moved)
    assert len(wire.writes) == 1
    (message,) = map(str, report.failures.values())
    assert "the role service, or admin, is needed" in message


def test_credentials_without_a_role_change_nothing(cloud: Cloud, describe: Describe) -> None:
    """Placement itself refuses here: a token other than `admin`, without roles."""
    nobody = from_token(cloud.url, "nobody")
    with pytest.raises(errors.PlacementDenied, match="the role service, or admin, is needed"):
        Reporter(nobody, sleep=lambda _: None).report(cloud.want(describe(small())))
    assert cloud.ours() == {}


def test_a_write_that_never_succeeds_is_given_up_and_the_others_are_made(cloud: Cloud, describe: Describe) -> None:
    desired = cloud.want(describe(small()))
    gpu = next(uid for uid, address in desired.devices.items() if address == "0000:3b:00.0")
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
