# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A host that does not come to rest, and an agent that keeps up with it: what either holds can be weighed meanwhile."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hosts.generate import generate
from unit.changing import ChangingHost

from devagent.cli.look import look
from devagent.errors import AgentRefused
from devagent.inventory import policy_file
from devagent.inventory.build import build

from . import weighed
from .cloud import Cloud
from .descriptions import BOOT_ID, GPU, ROOT_PORT, nic
from .running_agent import RunningAgent, running, write_configuration
from .running_daemon import folder
from .weighed import Held

# The third PF shall have VFs and cannot: so each look has the privileged process try, and fail.
POLICY = """
schema_version: 1
rules:
  - {name: gpus, match: {kind: gpu}, mode: whole}
  - {name: wanted, match: {address: "0000:3f:00.0"}, mode: vf, vf_count: 4}
  - {name: vfs, match: {kind: nic}, mode: vf}
"""
ASKED = ("/v1/status", "/v1/devices", "/v1/providers", "/v1/health", "/v1/nothing")
PORTS = "0000:3a:"
PATIENCE_S = 60


@dataclass(frozen=True, slots=True)
class Sample:
    """What the agent's processes hold after so many changes, by name; `state` is the size of its state in bytes."""

    changes: int
    held: Mapping[str, Held]
    state: int


class Commotion:
    """Changes a host at random, always in the same order, and has the agent see it."""

    def __init__(self, host: ChangingHost, agent: RunningAgent, cloud: Cloud, policy: Path, seed: int = 0) -> None:
        self.agent, self.changes = agent, 0
        self._host, self._cloud, self._policy = host, cloud, policy
        self._chance, self._callers = random.Random(seed), ThreadPoolExecutor(2)
        self._bound: dict[str, str | None] = {}
        self._said: set[str] = set()

    def change(self, times: int) -> None:
        """Makes so many changes, each followed by a look at everything, with other calls meanwhile."""
        kinds = (self._unplug, self._plug, self._fewer_vfs, self._plug, self._bind, self._say, self._unsay)
        for _ in range(times):
            self.changes += 1
            asked = self._callers.submit(self._ask, self._chance.choice(ASKED))
            # A reload looks at everything, too, and starts every client anew.
            (self.agent.reload if self.changes % 10 == 0 else self._chance.choice(kinds))()
            assert self.agent.api.post("/v1/rescan", wait=PATIENCE_S)["done"]
            asked.result()

    def settle(self) -> None:
        """Puts the host back as it was, and waits until Placement has what it should."""
        while away := self._host.away():
            for address in away:
                self._host.plug(address)
        for address, driver in self._bound.items():
            self._host.bind(address, driver)
        self._bound.clear()
        assert self.agent.api.post("/v1/rescan", wait=PATIENCE_S)["done"]
        while self._said:
            self.agent.api.delete(f"/v1/health/{self._said.pop()}")
        wanted = self._wanted()
        self.agent.until(lambda: self._cloud.ours() == wanted)

    def processes(self) -> dict[str, int]:
        """Gives the agent's processes by name."""
        return {each["name"]: each["pid"] for each in self.agent.status()["processes"]}

    def weigh(self) -> Sample:
        """Gives what all processes hold now."""
        state = self.agent.folder / "state"
        held = {name: weighed.held(pid) for name, pid in self.processes().items()}
        return Sample(self.changes, held, sum(path.stat().st_size for path in state.iterdir()))

    def close(self) -> None:
        """Ends the threads that call."""
        self._callers.shutdown()

    def _wanted(self) -> dict[str, Any]:
        found = look(self._host.top, policy_file.read(self._policy)).found
        tree = build(found.devices, self._cloud.root, self._cloud.name, unknown=found.unknown, complete=found.complete)
        return tree.by_uuid()

    def _ask(self, path: str) -> None:
        with suppress(AgentRefused):  # there is no such thing
            self.agent.api.get(path)

    def _there(self) -> list[str]:
        # Not the ports: what had been behind one could not come back without it.
        return [each for each in self._host.there() if not each.startswith(PORTS)]

    def _unplug(self) -> None:
        if there := self._there():
            self._host.unplug(self._chance.choice(there))

    def _plug(self) -> None:
        if away := self._host.away():
            self._host.plug(self._chance.choice(away))

    def _fewer_vfs(self) -> None:
        if pfs := self._host.pfs():
            pf = self._chance.choice(pfs)
            self._host.remove_vfs(pf, self._chance.randrange(len(self._host.vfs(pf))))

    def _bind(self) -> None:
        if there := self._there():
            address = self._chance.choice(there)
            link = self._host.place(address) / "driver"
            self._bound.setdefault(address, link.readlink().name if link.is_symlink() else None)
            self._host.bind(address, self._chance.choice(("vfio-pci", "mlx5_core", None)))

    def _say(self) -> None:
        devices = self.agent.api.get("/v1/devices")["devices"]
        if devices:
            address = self._chance.choice(devices)["address"]
            self.agent.api.put(f"/v1/health/{address}", {"state": "unhealthy", "reason": "said by chance"})
            self._said.add(address)

    def _unsay(self) -> None:
        there = {each["address"] for each in self.agent.api.get("/v1/devices")["devices"]}
        if able := sorted(self._said & there):
            address = self._chance.choice(able)
            self.agent.api.delete(f"/v1/health/{address}")
            self._said.discard(address)


@contextmanager
def commotion(top: Path, cloud: Cloud) -> Iterator[Commotion]:
    """Runs an agent on a host with two GPUs and three PFs, of which two have VFs; the host is written below `top`."""
    with ExitStack() as stack:
        place = stack.enter_context(folder())
        host = ChangingHost(generate(_description(cloud), top / "generated"), top)
        policy = place / "devices.yaml"
        policy.write_text(POLICY)
        configuration = write_configuration(place, cloud.name, cloud.url, inventory={"policy_file": str(policy)})
        agent = stack.enter_context(running(host.top, configuration))
        made = Commotion(host, agent.ready().reported(), cloud, policy)
        stack.callback(made.close)
        yield made


def _description(cloud: Cloud) -> dict[str, Any]:
    behind = (GPU, nic(4), nic(8), GPU, nic(0))
    ports = [{**ROOT_PORT, "behind": [each]} for each in behind]
    names = {"host": cloud.name, "hostname": cloud.name, "machine_id": "1", "boot_id": BOOT_ID}
    buses = [{"bus": PORTS.rstrip(":"), "node": 0, "devices": ports}]
    return {**names, "compute_id": cloud.root, "nodes": ["0-3", "4-7"], "pci": buses}
