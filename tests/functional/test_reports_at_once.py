# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Two agents, one with a bad network, and three schedulers at once, while the devices change: nobody loses anything."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
import requests

from devagent import errors
from devagent.inventory.build import NUMA_ROOT, OURS
from devagent.model.provider import Inventory, Provider, ProviderTree
from devagent.placement.client import PlacementClient
from devagent.placement.reporter import Reporter

from .cloud import MICROVERSION, Cloud, Wire, reporter
from .databases import KINDS, placements
from .faults import FAULTS

SCHEDULERS, ATTEMPTS = 3, 40
ROUNDS = 2  # through all the trees
FAULTY = 0.15
VFS = 4
LATEST = 5  # cycles until it is quiet
CLASSES = ("PGPU", "SRIOV_NET_VF", "PCI_DEVICE")


@dataclass
class Scheduler:
    """Claims, grows and frees as fast as it can; to it 409 is normal, and any other refusal an error."""

    url: str
    root: str
    chance: random.Random
    holds: dict[str, dict[str, int]] = field(default_factory=dict)
    freed: list[str] = field(default_factory=list)
    claims: int = 0
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._session = requests.Session()
        self._session.headers["X-Auth-Token"] = f"scheduler-{uuid.uuid4().hex}"
        self._session.headers["X-Roles"] = "admin,service"
        self._session.headers["OpenStack-API-Version"] = f"placement {MICROVERSION}"

    def run(self) -> None:
        """Does what it has to."""
        for _ in range(ATTEMPTS):
            self.chance.choice((self.claim, self.claim, self.again, self.free))()

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Gives the answer, None for a conflict."""
        answer = self._session.request(method, f"{self.url}{path}", json=body, timeout=60)
        if answer.status_code == 409:
            return None
        if not answer.ok:
            self.problems.append(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
            return None
        return answer.json() if answer.content else {}

    def claim(self) -> None:
        """Takes what Placement offers, as for a new server."""
        name = self.chance.choice(CLASSES)
        query = f"resources={name}:1&in_tree={self.root}&limit=4"
        found = self.call("GET", f"/allocation_candidates?{query}") or {"allocation_requests": []}
        if not found["allocation_requests"]:
            return
        consumer = str(uuid.uuid4())
        allocations = self.chance.choice(found["allocation_requests"])["allocations"]
        if self._put(consumer, allocations, {"project_id": "p", "user_id": "u", "consumer_generation": None}):
            self.holds[consumer] = {name: 1}
            self.claims += 1

    def again(self) -> None:
        """Says anew what a server has, as after a resize that came to nothing."""
        if not self.holds:
            return
        consumer = self.chance.choice(list(self.holds))
        had = self.call("GET", f"/allocations/{consumer}")
        if had is None or not had["allocations"]:
            self.problems.append(f"{consumer} has lost {self.holds[consumer]}")
            return
        allocations = {uid: {"resources": one["resources"]} for uid, one in had["allocations"].items()}
        self._put(consumer, allocations, {key: had[key] for key in ("project_id", "user_id", "consumer_generation")})

    def free(self) -> None:
        """Gives back what a server has."""
        if not self.holds:
            return
        consumer = self.chance.choice(list(self.holds))
        if self.call("DELETE", f"/allocations/{consumer}") is not None:
            del self.holds[consumer]
            self.freed.append(consumer)

    def _put(self, consumer: str, allocations: object, of: dict[str, Any]) -> bool:
        body = {**of, "allocations": allocations, "consumer_type": "INSTANCE"}
        return self.call("PUT", f"/allocations/{consumer}", body) is not None


class BadWire(Wire):
    """A wire with a fault at requests by chance."""

    def __init__(self, url: str, chance: random.Random) -> None:
        super().__init__(url)
        self._chance, self._kinds = chance, list(FAULTS.values())

    def request(self, url: str, method: str, **kwargs: Any) -> requests.Response:
        """Sends it or not."""
        if self._chance.random() < FAULTY:
            # Numbered by the wire; requests of other threads may come between and get it.
            self.faults[len(self.sent) + 1] = self._chance.choice(self._kinds)
        return super().request(url, method, **kwargs)


def trees(cloud: Cloud) -> list[ProviderTree]:
    """Gives what the host has, one time after the other: each tree but for one thing is the first."""

    def provider(name: str, parent: str, inventories: dict[str, int], *traits: str) -> Provider:
        made = {rc: Inventory(total, max_unit=total) for rc, total in inventories.items()}
        return Provider(str(uuid.uuid4()), f"devagent:{cloud.name}:{name}", parent, made, frozenset({OURS, *traits}))

    nodes = [provider(f"numa{node}", cloud.root, {}, NUMA_ROOT) for node in range(2)]
    gpus = [provider(f"0000:3{at}:00.0", nodes[0].uuid, {"PGPU": 1}, "CUSTOM_PRODUCT_STORM_G") for at in "ab"]
    nics = [provider(f"0000:4{at}:00.0", nodes[1].uuid, {"SRIOV_NET_VF": VFS}, "CUSTOM_PRODUCT_STORM_N") for at in "ab"]

    def inventory(name: str, total: int) -> dict[str, Inventory]:
        return {name: Inventory(total, max_unit=total)}

    def tree(*changes: tuple[Provider, Provider | None]) -> ProviderTree:
        instead = {old.uuid: new for old, new in changes}
        found = (instead.get(one.uuid, one) for one in (*nodes, *gpus, *nics))
        return ProviderTree(cloud.root, tuple(one for one in found if one is not None))

    return [
        tree(),
        tree((gpus[0], None), (nics[0], replace(nics[0], inventories=inventory("SRIOV_NET_VF", 2 * VFS)))),
        tree((gpus[1], replace(gpus[1], parent=nodes[1].uuid, traits=gpus[1].traits | {"CUSTOM_STORM"}))),
        tree((nics[1], replace(nics[1], inventories=inventory("PCI_DEVICE", 1)))),
        tree((nics[0], replace(nics[0], uuid=str(uuid.uuid4()))), (gpus[0], replace(gpus[0], uuid=str(uuid.uuid4())))),
        tree((gpus[0], replace(gpus[0], name=gpus[1].name)), (gpus[1], replace(gpus[1], name=gpus[0].name))),
    ]


def agent(wire: Wire) -> Reporter:
    """Gives an agent that waits, but not long."""
    return Reporter(PlacementClient(wire), sleep=lambda seconds: time.sleep(min(seconds, 0.05)))


def live(one: Reporter, desired: Sequence[ProviderTree], together: threading.Barrier) -> None:
    """Reports each tree when the other agent does; what fails is for the next time."""
    for tree in desired:
        together.wait(60)
        with contextlib.suppress(errors.PlacementError):
            one.report(tree)


def until_quiet(one: Reporter, desired: ProviderTree, wire: Wire) -> None:
    for _ in range(LATEST):
        sent = len(wire.writes)
        assert one.report(desired).failures == {}
        if len(wire.writes) == sent:
            return
    raise AssertionError("it does not come to rest")


@pytest.fixture(params=KINDS)
def urls(request: pytest.FixtureRequest) -> list[str]:
    """Gives the URLs of a Placement on each database, of two processes where it can have them."""
    return placements(request.config, request.param)


def test_two_agents_and_schedulers_at_once_end_in_the_wanted_tree(urls: list[str]) -> None:
    cloud = Cloud(urls[0], str(uuid.uuid4()), f"host-{uuid.uuid4().hex[:12]}.example.org")
    cloud.create(cloud.name, None, cloud.root)
    some = trees(cloud)
    desired = [*itertools.chain.from_iterable([some] * ROUNDS), some[0]]
    schedulers = [
        Scheduler(url, cloud.root, random.Random(number))
        for number, url in enumerate(itertools.islice(itertools.cycle(urls), SCHEDULERS))
    ]
    wires = (BadWire(urls[0], random.Random(20)), Wire(urls[-1]))
    agents = [agent(wire) for wire in wires]
    together = threading.Barrier(len(agents))
    jobs: list[Callable[[], None]] = [scheduler.run for scheduler in schedulers]
    jobs += [partial(live, one, desired, together) for one in agents]
    agents[1].report(desired[0])
    with ThreadPoolExecutor(len(jobs)) as pool:
        for running in [pool.submit(job) for job in jobs]:
            running.result()

    assert [scheduler.problems for scheduler in schedulers] == [[]] * SCHEDULERS
    assert all(scheduler.claims for scheduler in schedulers)
    held = {consumer: has for scheduler in schedulers for consumer, has in scheduler.holds.items()}
    check(cloud, held, [consumer for scheduler in schedulers for consumer in scheduler.freed])

    last, calm = desired[-1], Wire(urls[0])
    survivor = agents[1]
    until_quiet(survivor, last, wires[1])
    check(cloud, held, [])
    for consumer in held:
        cloud.call("DELETE", f"/allocations/{consumer}")
    until_quiet(survivor, last, wires[1])
    until_quiet(agent(calm), last, calm)
    ours = cloud.ours()
    assert {uid: ours.pop(uid) for uid in last.by_uuid()} == last.by_uuid()
    assert not any(provider.inventories for provider in ours.values())


def check(cloud: Cloud, held: dict[str, dict[str, int]], freed: list[str]) -> None:
    """Checks that everybody has what they believe to have, wherever it was carried, and no more."""
    for consumer, has in held.items():
        (resources,) = cloud.allocations(consumer).values()
        assert resources == has
    for consumer in freed:
        assert cloud.allocations(consumer) == {}


class Meddled(Wire):
    """A wire on which something happens just before the first request whose end is given."""

    def __init__(self, url: str, end: str, method: str, meddle: Callable[[], object]) -> None:
        super().__init__(url)
        self._end, self._method, self._meddle = end, method, meddle
        self.happened = False

    def request(self, url: str, method: str, **kwargs: Any) -> requests.Response:
        """Lets it happen, and sends."""
        if not self.happened and method == self._method and url.endswith(self._end):
            self.happened = True
            self._meddle()
        return super().request(url, method, **kwargs)


def one_nic(cloud: Cloud) -> tuple[Provider, Provider]:
    """Gives a NIC as Placement has it, and with another identity."""
    traits = frozenset({OURS, "CUSTOM_PRODUCT_STORM_N"})
    inventories = {"SRIOV_NET_VF": Inventory(VFS, max_unit=VFS)}
    old = Provider(str(uuid.uuid4()), f"devagent:{cloud.name}:0000:4a:00.0", cloud.root, inventories, traits)
    assert cloud.report(ProviderTree(cloud.root, (old,))).failures == {}
    return old, replace(old, uuid=str(uuid.uuid4()))


def offered(cloud: Cloud, *providers: Provider) -> int:
    """Gives how many VFs are given or can be had."""
    number = 0
    for one in providers:
        usages = cloud.call("GET", f"/resource_providers/{one.uuid}/usages")["usages"]
        for name, raw in cloud.provider(one.uuid)["inventories"].items():
            number += max(usages[name], raw["total"] - raw["reserved"])
    return number


@pytest.mark.parametrize(
    ("method", "end"),
    [
        ("GET", "/allocations"),
        ("PUT", "/inventories"),
    ],
)
def test_a_claim_while_a_device_gets_another_identity(cloud: Cloud, method: str, end: str) -> None:
    old, new = one_nic(cloud)
    path = f"/resource_providers/{old.uuid}{end}"
    wire = Meddled(cloud.url, path, method, lambda: cloud.allocate(old.uuid, SRIOV_NET_VF=VFS - 1))
    assert reporter(wire).report(ProviderTree(cloud.root, (new,))).failures == {}
    assert wire.happened
    assert offered(cloud, old, new) == VFS


@pytest.mark.parametrize(
    ("method", "end"),
    [
        ("GET", "/allocations/{}"),
        ("POST", "/reshaper"),
    ],
)
def test_a_server_that_ends_while_its_device_gets_another_identity(cloud: Cloud, method: str, end: str) -> None:
    old, new = one_nic(cloud)
    consumer = cloud.allocate(old.uuid, SRIOV_NET_VF=1)
    ends = Meddled(cloud.url, end.format(consumer), method, lambda: cloud.call("DELETE", f"/allocations/{consumer}"))
    assert reporter(ends).report(ProviderTree(cloud.root, (new,))).failures == {}
    assert ends.happened
    assert cloud.allocations(consumer) == {}
    assert offered(cloud, old, new) == VFS


@pytest.mark.parametrize("inventories", [{"SRIOV_NET_VF": 2}, {"PCI_DEVICE": 1}], ids=["fewer VFs", "another class"])
def test_what_cannot_be_carried_over_is_closed(cloud: Cloud, inventories: dict[str, int]) -> None:
    old, new = one_nic(cloud)
    cloud.allocate(old.uuid, SRIOV_NET_VF=3)
    new = replace(new, inventories={name: Inventory(total, max_unit=total) for name, total in inventories.items()})
    reporter(cloud.wire()).report(ProviderTree(cloud.root, (new,)))
    raw = cloud.provider(old.uuid)["inventories"]["SRIOV_NET_VF"]
    assert raw["reserved"] == raw["total"]
