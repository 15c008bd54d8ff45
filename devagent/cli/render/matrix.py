# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`-o matrix`: how far the devices are from each other, as `nvidia-smi topo -m` prints it, but of all kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from devagent.cli.render import words
from devagent.cli.render.printable import padded, printable, width
from devagent.cli.render.table import NOTHING
from devagent.inventory.distance import LEGEND, UNKNOWN, distance, node
from devagent.model.claim import Kind
from devagent.model.device import Device
from devagent.view import Look

# In this order: what computes first, then what feeds it.
_LABELS: Final = {
    Kind.GPU: "GPU",
    Kind.ACCELERATOR: "ACC",
    Kind.FPGA: "FPGA",
    Kind.QAT: "QAT",
    Kind.NIC: "NIC",
    Kind.NVME: "NVME",
    Kind.OTHER: "DEV",
}


def render(seen: Look) -> str:
    """Gives the matrix and its legend, then the problems and what only root would see."""
    labels = labelled(seen.found.devices)
    lines = [*_matrix(labels, seen), "", *_legend(labels)] if labels else [NOTHING]
    return "\n".join([*lines, *words.closing_lines(seen)])


def labelled(devices: Sequence[Device]) -> dict[str, Device]:
    """Gives the devices by label, `GPU0` first: kind after kind, each in bus order."""
    return {
        f"{label}{number}": device
        for kind, label in _LABELS.items()
        for number, device in enumerate(each for each in devices if each.claim.kind is kind)
    }


def _matrix(labels: Mapping[str, Device], seen: Look) -> list[str]:
    host = seen.found.host
    cpus = dict(host.node_cpus)
    rows = [["", *labels, "CPU affinity", "NUMA node"]]
    for label, device in labels.items():
        on = node(device.function, host.numa_nodes)
        distances = [distance(device, other, host.numa_nodes) for other in labels.values()]
        affinity = UNKNOWN if on is None else cpus.get(on, UNKNOWN)
        rows.append([label, *distances, affinity, UNKNOWN if on is None else str(on)])
    return _aligned([[printable(cell) for cell in row] for row in rows])


def _legend(labels: Mapping[str, Device]) -> list[str]:
    names = [[label, device.address, words.name(device)] for label, device in labels.items()]
    return ["Legend:", *_indented([list(pair) for pair in LEGEND]), "", "Devices:", *_indented(names)]


def _indented(rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"  {line}" for line in _aligned(rows)]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    padded_rows = (map(padded, row, widths) for row in rows)
    return ["  ".join(cells).rstrip() for cells in padded_rows]
