# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The words in which every format for people says the same things."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from devagent.cli.render.printable import printable
from devagent.model.device import Device
from devagent.model.pci import VirtualFunction
from devagent.model.snapshot import Problem

Item = TypeVar("Item")


def name(device: Device) -> str:
    """Gives vendor and model, and a NIC's interfaces."""
    interfaces = ", ".join(device.claim.net.interfaces) if device.claim.net else ""
    text = f"{device.claim.vendor} {device.claim.model}"
    return printable(f"{text} ({interfaces})" if interfaces else text)


def given(device: Device) -> str:
    """Gives `PGPU 1` for a device that is given, nothing for one that is not."""
    decision = device.decision
    return f"{decision.resource_class} {decision.total}" if decision.managed else ""


def vf_count(device: Device) -> str:
    """Gives `8/64`: VFs that exist, and that could."""
    sriov = device.function.sriov
    return f"{len(sriov.vfs)}/{sriov.total_vfs}" if sriov else ""


def vf_runs(device: Device) -> list[tuple[str, list[VirtualFunction]]]:
    """Collapses the VFs to runs of the same driver and user, each with what they have in common."""
    uses = dict(device.vf_use)
    runs: list[tuple[str, list[VirtualFunction]]] = []
    for vf in device.vfs:
        common = " ".join(filter(None, (printable(vf.driver or "no driver"), uses.get(vf.index))))
        if runs and runs[-1][0] == common:
            runs[-1][1].append(vf)
        else:
            runs.append((common, [vf]))
    return runs


def problem_lines(problems: Iterable[Problem]) -> list[str]:
    """Gives the problems as lines with a heading; none if there are none."""
    lines = [f"  {problem.device or 'host'}: {problem.problem} [{problem.source}]" for problem in problems]
    return ["", f"Problems ({len(lines)}), everything else was read:", *map(printable, lines)] if lines else []


def branches(items: Sequence[Item]) -> Iterator[tuple[Item, str, str]]:
    """Gives each item of a tree's level with what is drawn before it, and before all that hangs below it."""
    for number, item in enumerate(items, 1):
        last = number == len(items)
        yield item, "└── " if last else "├── ", "    " if last else "│   "
