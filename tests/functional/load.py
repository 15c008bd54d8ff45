# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Many clients that prepare and release through the agent's API as fast as it lets them, and count what is wrong."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hosts.generate import generate

from devagent.api.client import Client
from devagent.errors import AgentRefused

from . import weighed
from .acting_kernel import DEVICES
from .cloud import Cloud
from .descriptions import BOOT_ID, ROOT_PORT
from .running_agent import RunningAgent, running, write_configuration
from .running_daemon import folder
from .weighed import Held

VF = "SRIOV_NET_VF"
OWN, GIVEN = "mlx5_core", "vfio-pci"
TESTS = Path(__file__).parents[1]
WAIT_S = 60
PAUSE_S = 0.1
"""Between two requests of a client for the same thing, where the agent has not waited for its end."""


@dataclass
class Tally:
    """What the clients saw: seconds of each call, seconds by phase as the answers say, refusals, and what was wrong."""

    prepare: list[float] = field(default_factory=list)
    release: list[float] = field(default_factory=list)
    phases: dict[str, list[float]] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Load:
    """An agent, the host that it prepares VFs of, and what became of all that was asked for."""

    def __init__(self, host: Path, agent: RunningAgent, providers: list[str]) -> None:
        self.host, self.agent, self.tally = host, agent, Tally()
        self._providers = providers
        self._guard = threading.Lock()
        self._holders: dict[str, str] = {}
        self._left = 0

    def run(self, clients: int, cycles: int) -> float:
        """Has so many clients go through so many cycles in all; gives the seconds that this took."""
        self._left, begun = cycles, time.monotonic()
        with ThreadPoolExecutor(clients) as pool:
            for each in [pool.submit(self._client, number) for number in range(clients)]:
                each.result()
        return time.monotonic() - begun

    def left(self) -> list[str]:
        """Says what is left that should not be: of VFs, and of the journal."""
        listed = self.agent.api.get("/v1/preparations")["preparations"]
        kept = [f"{address} is with {driver}" for address, driver in self.drivers().items() if driver != OWN]
        return kept + [f"{each['consumer']} is {each['state']}" for each in listed if each["state"] != "failed"]

    def drivers(self) -> dict[str, str | None]:
        """Gives who drives each VF."""
        vfs = (place.parent.name for place in (self.host / DEVICES).glob("*/physfn"))
        return {address: driver(self.host, address) for address in vfs}

    def weigh(self) -> Mapping[str, Held]:
        """Gives what the agent's processes hold, by name."""
        return {each["name"]: weighed.held(each["pid"]) for each in self.agent.status()["processes"]}

    def state(self) -> int:
        """Gives the size of the agent's state in bytes, the journal with its log."""
        return sum(path.stat().st_size for path in (self.agent.folder / "state").iterdir())

    def _client(self, number: int) -> None:
        provider = self._providers[number % len(self._providers)]
        while self._takes_one():
            consumer = str(uuid.uuid4())
            begun = time.monotonic()
            found = self._prepare(consumer, provider)
            if found is None:
                continue
            self.tally.prepare.append(time.monotonic() - begun)
            addresses = self._holds(consumer, found)
            self._lets_go(addresses)
            begun = time.monotonic()
            self._release(consumer)
            self.tally.release.append(time.monotonic() - begun)

    def _takes_one(self) -> bool:
        with self._guard:
            self._left -= 1
            return self._left >= 0

    def _prepare(self, consumer: str, provider: str) -> dict[str, Any] | None:
        """Gives a preparation that is ready; None for one that was refused since all VFs are taken."""
        body = {"groups": [{"provider": provider, "resources": {VF: 1}}]}
        while True:
            try:
                found = self._api.put(f"/v1/preparations/{consumer}", body, wait=WAIT_S)
            except AgentRefused as error:
                self.tally.refused[str(error.code)] += 1
                if error.code != "devagent.preparation.retry":
                    self.tally.wrong.append(f"{consumer}: {error}")
                return None
            if found["state"] == "prepared":
                return found
            time.sleep(PAUSE_S)

    def _holds(self, consumer: str, found: dict[str, Any]) -> list[str]:
        """Notes what a consumer has, and what is wrong with that."""
        addresses = [handle["address"] for handle in found["handles"]]
        with self._guard:
            if len(addresses) != 1:
                self.tally.wrong.append(f"{consumer} has {addresses}")
            for address in addresses:
                other = self._holders.setdefault(address, consumer)
                if other != consumer:
                    self.tally.wrong.append(f"{address} has two: {consumer} and {other}")
                if driver(self.host, address) != GIVEN:
                    self.tally.wrong.append(f"{address} of {consumer} is with {driver(self.host, address)}")
            for name, seconds in found["timings"].items():
                self.tally.phases.setdefault(name, []).append(seconds)
        return addresses

    def _lets_go(self, addresses: list[str]) -> None:
        with self._guard:  # before it is released: from then on it is anybody's
            for address in addresses:
                self._holders.pop(address, None)

    def _release(self, consumer: str) -> None:
        while True:
            try:
                if not self._api.delete(f"/v1/preparations/{consumer}", wait=WAIT_S):
                    return
            except AgentRefused as error:
                self.tally.wrong.append(f"{consumer} is not released: {error}")
                return
            time.sleep(PAUSE_S)

    @property
    def _api(self) -> Client:
        return self.agent.api


def driver(host: Path, address: str) -> str | None:
    """Gives who drives a function."""
    try:
        return (host / DEVICES / address / "driver").readlink().name
    except OSError:
        return None


@contextmanager
def load(top: Path, cloud: Cloud, pfs: int, vfs: int, **sections: Mapping[str, str]) -> Iterator[Load]:
    """Runs an agent on a host with so many NICs of so many VFs each, which is written below `top`.

    Nobody allocates in Placement here, so nobody asks it.
    """
    host = generate(_description(cloud, pfs, vfs), top / "host")
    with folder() as place:
        unchecked = {"prepare": {"check_allocations": "false", **sections.pop("prepare", {})}}
        configuration = write_configuration(place, cloud.name, cloud.url, **unchecked, **_plain(sections))
        path = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
        with running(host, configuration, program="functional.acting_kernel", PYTHONPATH=path) as agent:
            agent.ready().reported()
            tree = cloud.tree().values()
            yield Load(host, agent, [each["uuid"] for each in tree if VF in each["inventories"]])


def _plain(sections: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    return {name: dict(options) for name, options in sections.items()}


def _description(cloud: Cloud, pfs: int, vfs: int) -> dict[str, Any]:
    own = {"total": vfs, "count": vfs, "device": "101e", "driver": OWN}
    nic = {"id": "15b3:101d", "class": "020000", "driver": OWN, "reset": ["flr"], "vfs": own}
    ports = [{**ROOT_PORT, "behind": [{**nic, "net": [f"ens{number}"]}]} for number in range(pfs)]
    buses = [{"bus": "0000:3a", "node": 0, "devices": ports}]
    names = {"host": cloud.name, "hostname": cloud.name, "machine_id": "1", "boot_id": BOOT_ID}
    return {**names, "compute_id": cloud.root, "nodes": ["0-3", "4-7"], "pci": buses, "drivers": [GIVEN]}
