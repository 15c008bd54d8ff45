# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reports the same devices to a real Placement with devagent's reporter and with Nova's client, by turns.

    python -m bench.placement [--devices 8x64] [--rounds 5] [--per-device] [--json FILE]

Each contestant has a Placement of its own in each round, in a process of its own, with the compute
node's provider in it; what is printed is the requests and the median time of each step.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, Protocol

from bench import nova_beside
from bench.nova_beside import Nova
from devagent.inventory.build import NUMA_ROOT, OURS
from devagent.model.provider import PREFIX, Inventory, Provider, ProviderTree
from devagent.placement import client, embedded
from devagent.placement.client import PlacementClient
from devagent.placement.reporter import Reporter
from devagent.placement.state import StateFile

HOST: Final = "bench.example.org"
NODES: Final = 2
FIRST: Final = "first report"
AGAIN: Final = "no change"
OLD: Final = "no change, 301 s later"
RESTART: Final = "restart, no change"
CHANGE: Final = "one device changes"
STEPS: Final = (FIRST, AGAIN, OLD, RESTART, CHANGE)

_TRAITS: Final = (
    "CUSTOM_PRODUCT_15B3_101D",
    "CUSTOM_RESET_BUS",
    "CUSTOM_RESET_FLR",
    "CUSTOM_VENDOR_MELLANOX",
    "HW_NIC_SRIOV",
)


@dataclass(frozen=True, slots=True)
class Devices:
    """So many PFs with so many VFs each."""

    pfs: int
    vfs: int

    @classmethod
    def parse(cls, text: str) -> Devices:
        """Reads `8x64`."""
        pfs, vfs = text.split("x")
        return cls(int(pfs), int(vfs))

    def changed(self, position: int, vfs: int) -> int:
        """Gives the VFs of a PF where the first one's are now `vfs`."""
        return self.vfs if position else vfs


@dataclass(frozen=True, slots=True)
class Cost:
    """What one step took."""

    requests: int
    seconds: float


class Contestant(Protocol):
    """Somebody who reports; every step of a round is on the same Placement."""

    name: str

    @property
    def providers(self) -> int:
        """Gives how many providers there are."""

    def begin(self, url: str, root: str) -> None:
        """Starts a round: nothing is known, nothing is reported."""

    def step(self, step: str, vfs: int) -> Cost:
        """Reports the devices, the first PF with `vfs` VFs."""


@dataclass
class Devagent:
    """devagent's model: NUMA nodes, a provider per PF below them, VFs as its inventory; with its state file."""

    devices: Devices
    folder: Path
    name: str = "devagent"

    @property
    def providers(self) -> int:
        """Gives how many providers there are."""
        return NODES + self.devices.pfs

    def begin(self, url: str, root: str) -> None:
        """Starts a round."""
        self._url, self._root = url, root
        self._state = StateFile(self.folder)
        self._state.path.unlink(missing_ok=True)

    def step(self, step: str, vfs: int) -> Cost:
        """Reports, by the steps of `devagent report`; the file is written where something changed."""
        desired = self._tree(vfs)
        begun = time.perf_counter()
        if step in (FIRST, RESTART):
            self._client = client.from_token(self._url, "devagent", roles="admin,service")
            self._reporter = Reporter(self._client, self._state.load())
        before = self._client.requests
        report = self._reporter.report(desired, self._reporter.survey(self._root, HOST))
        if report.changes:
            self._state.save(self._reporter.memory)
        cost = Cost(self._client.requests - before, time.perf_counter() - begun)
        assert not report.failures, report.failures
        return cost

    def _tree(self, vfs: int) -> ProviderTree:
        space = uuid.UUID(self._root)
        nodes = [
            Provider(str(uuid.uuid5(space, f"{node}")), f"{PREFIX}{HOST}:numa{node}", self._root)
            for node in range(NODES)
        ]
        nodes = [replace(node, traits=frozenset({OURS, NUMA_ROOT})) for node in nodes]
        devices = [self._pf(space, nodes, position, vfs) for position in range(self.devices.pfs)]
        return ProviderTree(self._root, (*nodes, *devices), {one.uuid: (one.name[-12:],) for one in devices})

    def _pf(self, space: uuid.UUID, nodes: list[Provider], position: int, vfs: int) -> Provider:
        address, number = _address(position), self.devices.changed(position, vfs)
        return Provider(
            str(uuid.uuid5(space, address)),
            f"{PREFIX}{HOST}:{address}",
            nodes[position % NODES].uuid,
            {"SRIOV_NET_VF": Inventory(number, max_unit=number)},
            frozenset({OURS, *_TRAITS}),
        )


@dataclass
class ByNova:
    """Nova's client with Nova's model of PCI in Placement: a provider per PF directly below the compute node.

    With `per_device` it is Cyborg's model: a provider per VF.
    """

    devices: Devices
    nova: Nova
    per_device: bool = False
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = f"Nova's client, {self.providers} providers"

    @property
    def providers(self) -> int:
        """Gives how many providers there are."""
        return self.devices.pfs * (self.devices.vfs if self.per_device else 1)

    def begin(self, url: str, root: str) -> None:
        """Starts a round."""
        self._connect = partial(self.nova.call, "connect", url=url, uuid=root, name=HOST)
        self._space = uuid.UUID(root)

    def step(self, step: str, vfs: int) -> Cost:
        """Reports, by the steps of the resource tracker."""
        made = self._connect().seconds if step in (FIRST, RESTART) else 0.0
        if step == OLD:
            self.nova.call("later")
        answer = self.nova.call("offer", children=self._children(vfs), parent_of={})
        assert answer.raised is None, answer.text
        return Cost(len(answer.requests), made + answer.seconds)

    def _children(self, vfs: int) -> Mapping[str, Mapping[str, Any]]:
        if not self.per_device:
            totals = [self.devices.changed(position, vfs) for position in range(self.devices.pfs)]
        else:  # a VF that goes is an inventory that is not offered any more
            totals = [1] * (self.providers - 1) + [1 if vfs == self.devices.vfs else 0]
        return {f"{HOST}_{_address(number)}": self._child(number, total) for number, total in enumerate(totals)}

    def _child(self, number: int, total: int) -> Mapping[str, Any]:
        return {
            "uuid": str(uuid.uuid5(self._space, str(number))),
            "inventory": {"CUSTOM_PCI_15B3_101E": {"total": total, "max_unit": total}} if total else {},
            "traits": ["COMPUTE_MANAGED_PCI_DEVICE", "OWNER_NOVA", *_TRAITS],
        }


@contextmanager
def placement() -> Iterator[str]:
    """Runs a Placement with nothing in it in a process of its own, and gives its URL."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there,), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        here.send("end")
        process.join()


def _serve(pipe: Connection) -> None:
    with embedded.running() as url:
        pipe.send(url)
        pipe.recv()


def run(contestants: list[Contestant], devices: Devices, rounds: int) -> dict[str, dict[str, list[Cost]]]:
    """Gives the costs of each step, by step and by the contestant's name; who begins changes with each round."""
    costs: dict[str, dict[str, list[Cost]]] = {step: {one.name: [] for one in contestants} for step in STEPS}
    for number in range(rounds):
        turn = number % len(contestants)
        for one in contestants[turn:] + contestants[:turn]:
            with placement() as url:
                one.begin(url, _compute_node(embedded.client(url)))
                for step in STEPS:
                    costs[step][one.name].append(one.step(step, devices.vfs // 2 if step == CHANGE else devices.vfs))
    return costs


def _compute_node(operator: PlacementClient) -> str:
    """Makes the compute node's provider as nova-compute does, for whoever reports below it."""
    root = Provider(str(uuid.uuid4()), HOST, None)
    inventories = {name: Inventory(total, max_unit=total) for name, total in (("VCPU", 128), ("MEMORY_MB", 1 << 20))}
    generation = operator.set_inventories(root.uuid, operator.create(root), inventories)
    operator.set_traits(root.uuid, generation, ("COMPUTE_NODE", "OWNER_NOVA"))
    return root.uuid


def table(costs: Mapping[str, Mapping[str, list[Cost]]], contestants: list[Contestant]) -> str:
    """Gives a Markdown table: requests and median milliseconds of each, and each other's as a multiple of the first."""
    own, *others = contestants
    head = [f"{own.name}, {own.providers} providers", *(title for one in others for title in (one.name, "ratio"))]
    lines = [f"| requests / ms | {' | '.join(head)} |", f"|---|{'---|' * len(head)}"]
    for step in STEPS:
        base = middle(costs[step][own.name])
        cells = [_cell(base)]
        for one in others:
            cost = middle(costs[step][one.name])
            cells += [_cell(cost), f"{cost.requests / base.requests:.1f} / {cost.seconds / base.seconds:.1f}"]
        lines.append(f"| {step} | {' | '.join(cells)} |")
    return "\n".join(lines)


def middle(costs: list[Cost]) -> Cost:
    """Gives the median time; the requests are the same in each round, or something is wrong."""
    counts = {cost.requests for cost in costs}
    assert len(counts) == 1, f"the number of requests differs between rounds: {sorted(counts)}"
    return Cost(counts.pop(), statistics.median(cost.seconds for cost in costs))


def _cell(cost: Cost) -> str:
    return f"{cost.requests} / {cost.seconds * 1000:.0f}"


def _address(number: int) -> str:
    return f"0000:{number >> 8:02x}:{number >> 3 & 31:02x}.{number & 7}"


def main() -> None:
    """Runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.placement", description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=Devices.parse, default=Devices(8, 64), help="PFs x VFs each (8x64)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--per-device", action="store_true", help="Nova's client with a provider per VF too: minutes")
    parser.add_argument("--json", type=Path, help="writes each measurement to this file")
    args = parser.parse_args()
    if not nova_beside.PYTHON.exists():
        sys.exit(nova_beside.MISSING)
    with nova_beside.running() as nova, tempfile.TemporaryDirectory() as folder:
        contestants: list[Contestant] = [Devagent(args.devices, Path(folder)), ByNova(args.devices, nova)]
        if args.per_device:
            contestants.append(ByNova(args.devices, nova, per_device=True))
        costs = run(contestants, args.devices, args.rounds)
    sys.stdout.write(table(costs, contestants) + "\n")
    if args.json:
        args.json.write_text(json.dumps(_raw(costs), indent=1) + "\n")


def _raw(costs: Mapping[str, Mapping[str, list[Cost]]]) -> Mapping[str, Any]:
    return {step: {name: [asdict(cost) for cost in some] for name, some in by.items()} for step, by in costs.items()}


if __name__ == "__main__":
    main()
