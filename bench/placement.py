# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reports the same devices to a real Placement with devagent's reporter and with its peers' own code, by turns.

    python -m bench.placement [--devices 8x64] [--rounds 5] [--per-device] [--cyborg] [--json FILE]

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
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench import cyborg_beside, nova_beside
from bench.reporters import CHANGE, HOST, STEPS, ByCyborg, ByNova, Contestant, Cost, Devagent, Devices
from devagent.model.provider import Inventory, Provider
from devagent.placement import embedded
from devagent.placement.client import PlacementClient


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
                    cost = one.step(step, devices.vfs // 2 if step == CHANGE else devices.vfs)
                    costs[step][one.name] += [] if cost is None else [cost]
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
        cells = [cell(base)]
        for one in others:
            cells += _beside(base, costs[step][one.name])
        lines.append(f"| {step} | {' | '.join(cells)} |")
    return "\n".join(lines)


def middle(costs: list[Cost]) -> Cost:
    """Gives the median time; the requests are the same in each round, or something is wrong."""
    counts = {cost.requests for cost in costs}
    assert len(counts) == 1, f"the number of requests differs between rounds: {sorted(counts)}"
    return Cost(counts.pop(), statistics.median(cost.seconds for cost in costs))


def cell(cost: Cost) -> str:
    """Gives `29 / 379`."""
    return f"{cost.requests} / {cost.seconds * 1000:.0f}"


def _beside(base: Cost, costs: list[Cost]) -> tuple[str, str]:
    if not costs:  # no such step
        return "-", "-"
    cost = middle(costs)
    return cell(cost), f"{cost.requests / base.requests:.1f} / {cost.seconds / base.seconds:.1f}"


def main() -> None:
    """Runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.placement", description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=Devices.parse, default=Devices(8, 64), help="PFs x VFs each (8x64)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--per-device", action="store_true", help="Nova's client with a provider per VF too: minutes")
    parser.add_argument("--json", type=Path, help="writes each measurement to this file")
    parser.add_argument("--cyborg", action="store_true", help="Cyborg's conductor too: minutes, with 1x64 one")
    args = parser.parse_args()
    if args.cyborg and not cyborg_beside.PYTHON.exists():
        sys.exit(cyborg_beside.MISSING)
    if not nova_beside.PYTHON.exists():
        sys.exit(nova_beside.MISSING)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        nova = stack.enter_context(nova_beside.running())
        contestants: list[Contestant] = [Devagent(args.devices, folder), ByNova(args.devices, nova)]
        if args.per_device:
            contestants.append(ByNova(args.devices, nova, per_device=True))
        if args.cyborg:
            contestants.append(ByCyborg(args.devices, stack.enter_context(cyborg_beside.running())))
        costs = run(contestants, args.devices, args.rounds)
    sys.stdout.write(table(costs, contestants) + "\n")
    if args.json:
        args.json.write_text(json.dumps(_raw(costs), indent=1) + "\n")


def _raw(costs: Mapping[str, Mapping[str, list[Cost]]]) -> Mapping[str, Any]:
    return {step: {name: [asdict(cost) for cost in some] for name, some in by.items()} for step, by in costs.items()}


if __name__ == "__main__":
    main()
