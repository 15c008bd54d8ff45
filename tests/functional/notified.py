# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Two hosts with agents that are reached over TLS, a Placement, a broker, and a Nova that tells of what happens."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hosts.generate import generate
from unit.api.authority import RELAY, Authority

from bench import nova_beside
from bench.nova_beside import Nova

from . import broker, running_agent
from .broker import Broker
from .cloud import Cloud
from .descriptions import small
from .running_agent import RunningAgent
from .running_listener import write_configuration

VF = "SRIOV_NET_VF"
VFS = 32
_OWNER = {"project_id": "p", "user_id": "u", "consumer_type": "INSTANCE"}
QUEUES = {
    "classic": {"amqp_durable_queues": "true"},
    "quorum": {"rabbit_quorum_queue": "true"},
}


@dataclass
class Host:
    """A compute host: `address` is what Nova calls it, `cloud` its compute node."""

    address: str
    cloud: Cloud
    start: Callable[[], RunningAgent]
    agents: list[RunningAgent] = field(default_factory=list)

    @property
    def agent(self) -> RunningAgent:
        """The one that was started last."""
        return self.agents[-1]

    @property
    def speaker(self) -> str:
        """What its nova-compute signs with."""
        return f"nova-compute:{self.address}"

    def begin(self) -> RunningAgent:
        """Starts its agent, or starts it again."""
        self.agents.append(self.start())
        return self.agent.reported()

    def prepared(self, instance: str | None = None) -> str:
        """Gives an instance, or `instance`, that holds a VF in Placement, and for which it is prepared."""
        provider = next(each for name, each in self.cloud.tree().items() if name.endswith("0000:3c:00.0"))["uuid"]
        consumer = instance or str(uuid.uuid4())
        held = {"allocations": {provider: {"resources": {VF: 1}}}, "consumer_generation": None}
        self.cloud.call("PUT", f"/allocations/{consumer}", {**held, **_OWNER})
        body = {"groups": [{"provider": str(provider), "resources": {VF: 1}}]}
        assert self.agent.api.put(f"/v1/preparations/{consumer}", body, wait=60)["state"] == "prepared"
        return consumer

    def has(self, consumer: str) -> bool:
        """Tells whether something is prepared for an instance."""
        return any(each["consumer"] == consumer for each in self.agent.api.get("/v1/preparations")["preparations"])

    def looked(self, consumer: str) -> bool:
        """Tells whether the agent was told to look after an instance."""
        return any(consumer in line and "looks in Placement" in line for line in self.agent.log.splitlines())

    def loses(self, consumer: str) -> None:
        """Takes from an instance what it holds in Placement, as Nova does."""
        self.cloud.call("DELETE", f"/allocations/{consumer}")

    def moves(self, consumer: str) -> str:
        """Gives what an instance holds to a migration, as Nova's conductor does, and gives its UUID."""
        held, migration = self.cloud.call("GET", f"/allocations/{consumer}"), str(uuid.uuid4())
        allocations = {uid: {"resources": raw["resources"]} for uid, raw in held["allocations"].items()}
        self.cloud.call(
            "POST",
            "/allocations",
            {
                migration: {**_OWNER, "allocations": allocations, "consumer_generation": None},
                consumer: {**_OWNER, "allocations": {}, "consumer_generation": held["consumer_generation"]},
            },
        )
        return migration


@dataclass
class World:
    """All of it; `relay` writes the configuration of a listener for all hosts."""

    folder: Path
    broker: Broker
    nova: Nova
    source: Host
    destination: Host
    rabbit: Mapping[str, str]
    sections: Mapping[str, str]

    def relay(self, name: str = "relay.conf", **options: str) -> Path:
        """Gives the configuration of one more relay process."""
        notifications = {**self.sections, **options}
        return write_configuration(
            self.folder, self.broker.url, name, notifications=notifications, oslo_messaging_rabbit=dict(self.rabbit)
        )

    def tell(self, kind: str, instance: str, publisher: str, host: str | None = None) -> None:
        """Has Nova tell something."""
        answer = self.nova.call("emit", kind=kind, instance=instance, publisher=publisher, host=host)
        assert (answer.raised, answer.text) == (None, "")


@contextmanager
def world(placement: str, memory: Path, folder: Path, queues: str = "classic") -> Iterator[World]:
    """Makes one; its agents run, and no listener does."""
    authority = Authority(folder / "tls")
    cert, key = authority.issue(RELAY)
    with ExitStack() as stack:
        running = stack.enter_context(broker.running())
        rabbit = QUEUES[queues]
        lines = [f"{name} = {value}" for name, value in rabbit.items()]
        nova = stack.enter_context(nova_beside.running("nova_notifier.py", running.url, *lines))
        port = _port()
        source, destination = (
            _host(stack, placement, memory, folder / name, authority, f"127.0.0.{number}", port)
            for name, number in (("source", 2), ("destination", 3))
        )
        for host in (source, destination):
            host.begin()
        sections = {
            "mode": "relay",
            "agents": f"https://{{host}}:{port}",
            "cacert": authority.cacert,
            "cert": cert,
            "key": key,
        }
        yield World(folder, running, nova, source, destination, rabbit, sections)


def _host(
    stack: ExitStack, placement: str, memory: Path, folder: Path, authority: Authority, address: str, port: int
) -> Host:
    cloud = Cloud(placement, str(uuid.uuid4()), f"{folder.name}-{uuid.uuid4().hex[:12]}")
    cloud.create(cloud.name, None, cloud.root)
    folder.mkdir()
    cert, key = authority.issue(address)
    api = {"listen": f"{address}:{port}", "auth": "certificate", "tls_cert": cert, "tls_key": key}
    api |= {"tls_client_ca": authority.cacert, "client_names": RELAY, "unix_socket": str(folder / "api.sock")}
    configuration = running_agent.write_configuration(folder, cloud.name, cloud.url, api=api)
    tree = generate(_description(cloud), memory / cloud.name)
    return Host(address, cloud, lambda: stack.enter_context(running_agent.running(tree, configuration)))


def _description(cloud: Cloud) -> dict[str, Any]:
    described = small(compute_id=cloud.root)
    nic = described["pci"][0]["devices"][1]["behind"][0]
    nic["vfs"] = {**nic["vfs"], "total": VFS, "count": VFS, "driver": "vfio-pci"}
    return {**described, "drivers": ["vfio-pci"]}


def _port() -> int:
    with socket.create_server(("", 0)) as free:
        found: int = free.getsockname()[1]
        return found
