# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""One compute node in the real Placement, and a wire to it that counts requests and can break them."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import requests
from keystoneauth1 import adapter, session, token_endpoint

from devagent.cli.look import look
from devagent.inventory.build import Nest, build
from devagent.inventory.default_policy import DEFAULT
from devagent.model.policy import Policy
from devagent.model.provider import Provider, ProviderTree
from devagent.placement.client import PlacementClient
from devagent.placement.reporter import Report, Reporter
from devagent.placement.state import Memory

WRITES = ("POST", "PUT", "DELETE")
MICROVERSION = "1.39"
OPERATOR = requests.Session()

Fault = Callable[[Callable[[], requests.Response]], requests.Response]
"""Gets the request as a call, and may make it or not, and give another answer or raise."""


class Wire(adapter.Adapter):
    """keystoneauth's adapter, which notes each request and breaks those whose number has a fault."""

    def __init__(self, url: str, roles: str = "admin,service") -> None:
        token = f"test-{uuid.uuid4().hex}"
        own = session.Session(auth=token_endpoint.Token(url, token), additional_headers={"X-Roles": roles})
        super().__init__(own, service_type="placement")
        self.sent: list[tuple[str, str]] = []
        self.faults: dict[int, Fault] = {}
        self._counting = threading.Lock()

    def request(self, url: str, method: str, **kwargs: Any) -> requests.Response:
        """Sends it, or lets the fault of its number have it."""
        with self._counting:  # new providers come from several threads
            self.sent.append((method, url))
            fault = self.faults.get(len(self.sent))
        send = partial(super().request, url, method, **kwargs)
        return fault(send) if fault else send()

    @property
    def writes(self) -> list[tuple[str, str]]:
        """What was sent that could change something."""
        return [(method, url) for method, url in self.sent if method in WRITES]


@dataclass(frozen=True)
class Cloud:
    """One compute node of its own: nothing that a test does below it is seen by another test."""

    url: str
    root: str
    name: str

    def wire(self, roles: str = "admin,service") -> Wire:
        """Gives a wire that nobody has used, of somebody with these roles."""
        return Wire(self.url, roles)

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Calls Placement as an operator would, without any code of ours."""
        headers = {"X-Auth-Token": "operator", "X-Roles": "admin,service"}
        headers["OpenStack-API-Version"] = f"placement {MICROVERSION}"
        answer = OPERATOR.request(method, f"{self.url}{path}", json=body, headers=headers, timeout=30)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def provider(self, uid: str) -> dict[str, Any]:
        """Gives all that Placement has of one provider."""
        path = f"/resource_providers/{uid}"
        return {
            **self.call("GET", path),
            "inventories": self.call("GET", f"{path}/inventories")["inventories"],
            "traits": sorted(self.call("GET", f"{path}/traits")["traits"]),
        }

    def tree(self) -> dict[str, dict[str, Any]]:
        """Gives all that Placement has of the whole tree, by name."""
        listed = self.call("GET", f"/resource_providers?in_tree={self.root}")["resource_providers"]
        return {raw["name"]: self.provider(raw["uuid"]) for raw in listed}

    def generations(self) -> dict[str, int]:
        """Gives the generation of each provider of the tree: each write of traits or inventories raises it."""
        listed = self.call("GET", f"/resource_providers?in_tree={self.root}")["resource_providers"]
        return {raw["name"]: raw["generation"] for raw in listed}

    def create(self, name: str, parent: str | None, uid: str | None = None) -> str:
        """Makes a provider and gives its UUID."""
        body = {"name": name, "uuid": uid or str(uuid.uuid4()), "parent_provider_uuid": parent}
        return str(self.call("POST", "/resource_providers", body)["uuid"])

    def set(self, uid: str, inventories: Mapping[str, int] = {}, traits: tuple[str, ...] = ()) -> None:
        """Replaces a provider's traits and inventories; of the latter only the totals matter."""
        path = f"/resource_providers/{uid}"
        generation = self.call("GET", path)["generation"]
        body = {"resource_provider_generation": generation, "traits": list(traits)}
        generation = self.call("PUT", f"{path}/traits", body)["resource_provider_generation"]
        body = {"resource_provider_generation": generation}
        body["inventories"] = {name: {"total": total} for name, total in inventories.items()}
        self.call("PUT", f"{path}/inventories", body)

    def allocate(self, uid: str, **resources: int) -> str:
        """Gives resources of a provider to a new consumer, as Nova does for a server."""
        return self.allocate_all({uid: resources})

    def allocate_all(self, resources: Mapping[str, Mapping[str, int]]) -> str:
        """Gives resources of several providers to one new consumer."""
        consumer = str(uuid.uuid4())
        body = {
            "allocations": {uid: {"resources": dict(some)} for uid, some in resources.items()},
            "project_id": "p",
            "user_id": "u",
            "consumer_generation": None,
            "consumer_type": "INSTANCE",
        }
        self.call("PUT", f"/allocations/{consumer}", body)
        return consumer

    def allocations(self, consumer: str) -> dict[str, dict[str, int]]:
        """Gives what a consumer has, by provider."""
        found = self.call("GET", f"/allocations/{consumer}")["allocations"]
        return {uid: raw["resources"] for uid, raw in found.items()}

    def want(self, host: Path, policy: Policy = DEFAULT, nest: Nest = Nest.NUMA) -> ProviderTree:
        """Looks at a host and gives the tree that it should have here."""
        found = look(host, policy).found
        return build(found.devices, self.root, self.name, nest, unknown=found.unknown, complete=found.complete)

    def report(self, desired: ProviderTree, wire: Wire | None = None) -> Report:
        """Reports, without waiting between tries."""
        return reporter(wire or self.wire()).report(desired)

    def ours(self) -> dict[str, Provider]:
        """Gives our providers by UUID, as they would stand in a desired tree."""
        found = reporter(self.wire()).read(self.root)
        return {uid: replace(entry, generation=None) for uid, entry in found.items() if entry.is_ours}


def reporter(wire: Wire, memory: Memory | None = None, clock: Callable[[], float] = time.time) -> Reporter:
    """Gives a reporter that never sleeps."""
    return Reporter(PlacementClient(wire), memory, sleep=lambda _: None, clock=clock)


def assert_is(cloud: Cloud, desired: ProviderTree) -> None:
    """Checks that Placement has the desired providers, and nothing else of ours."""
    assert cloud.ours() == desired.by_uuid()
