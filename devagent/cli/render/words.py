# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The words in which every format for people says the same things."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from devagent.cli.render.printable import printable
from devagent.model.amount import amount
from devagent.model.device import Device
from devagent.model.gpu import GpuFacts
from devagent.model.health import State
from devagent.model.pci import Link, VirtualFunction
from devagent.model.snapshot import Problem
from devagent.view import Look

Item = TypeVar("Item")

_QUIET = (State.HEALTHY, State.UNMONITORED)


def name(device: Device) -> str:
    """Gives vendor and model, and a NIC's interfaces."""
    interfaces = ", ".join(device.claim.net.names) if device.claim.net else ""
    text = f"{device.claim.vendor} {device.claim.model}"
    return printable(f"{text} ({interfaces})" if interfaces else text)


def headline(seen: Look) -> str:
    """Gives the host in one line."""
    host, devices = seen.found.host, seen.found.devices
    parts = (
        seen.hostname,
        f"Linux {host.kernel}" if host.kernel else "",
        amount(len(host.numa_nodes), "NUMA node") if host.numa_nodes else "",
        "IOMMU on" if host.iommu else "IOMMU off (enable it in firmware and kernel, or nothing can be given)",
        f"{amount(len(devices), 'device')}, {sum(device.decision.managed for device in devices)} given",
    )
    return printable(" · ".join(filter(None, parts)))


def given(device: Device) -> str:
    """Gives `PGPU 1` for a device that is given, nothing for one that is not."""
    decision = device.decision
    if not decision.managed:
        return ""
    return ", ".join(f"{each.resource_class} {each.total}" for each in decision.given)


def vf_count(device: Device) -> str:
    """Gives `8/64`: VFs that exist, and that could."""
    sriov = device.function.sriov
    return f"{len(sriov.vfs)}/{sriov.total_vfs}" if sriov else ""


def health(device: Device) -> str:
    """Gives `suspect: its PCIe link has 8 of 16 lanes`; the state alone where there is no reason."""
    return printable(": ".join(filter(None, (device.health.state, "; ".join(device.health.reasons)))))


def ailment(device: Device) -> str:
    """Gives the health of a device that is not well, nothing for any other."""
    return "" if device.health.state in _QUIET else health(device)


def users(device: Device) -> str:
    """Gives what the host uses the device for, and the processes that have it open."""
    return printable("; ".join(filter(None, (device.in_use_by, *map(str, device.users)))))


def vf_users(device: Device) -> dict[int, str]:
    """Gives the same of the VFs that are in use, by index."""
    uses: dict[int, list[str]] = {index: [use] for index, use in device.vf_use}
    for index, processes in device.vf_users:
        uses.setdefault(index, []).extend(map(str, processes))
    return {index: printable("; ".join(found)) for index, found in uses.items()}


def link(link: Link | None) -> str:
    """Gives `16GT/s x8 of 32GT/s x16`: the link now and, unless it is that already, at its best."""
    if link is None:
        return ""
    now, best = _link(link.speed, link.width), _link(link.max_speed, link.max_width)
    return now if now == best else f"{now} of {best}"


def _link(speed: float | None, lanes: int | None) -> str:
    if speed is None and lanes is None:
        return "?"
    return f"{'?' if speed is None else f'{speed:g}'}GT/s x{'?' if lanes is None else lanes}"


def memory(mib: int | None) -> str:
    """Gives `40 GiB`; nothing if it is unknown."""
    if mib is None:
        return ""
    return f"{mib / 1024:.4g} GiB" if mib >= 1024 else f"{mib} MiB"


def partitions(gpu: GpuFacts | None) -> dict[str, str]:
    """Says how a GPU is divided now: MIG instances, vGPUs, compute partitions."""
    if gpu is None:
        return {}
    parts = {}
    if gpu.mig and gpu.mig.enabled != gpu.mig.pending:
        parts["MIG"] = f"{'on' if gpu.mig.pending else 'off'} after a reset"
    elif gpu.mig and gpu.mig.enabled:
        parts["MIG"] = counted(instance.profile for instance in gpu.mig.instances) or "on, no instance"
    if gpu.vgpu and gpu.vgpu.active:
        parts["vGPU"] = f"{gpu.vgpu.active} active"
    if gpu.partition:
        parts["partition"] = "/".join(filter(None, (gpu.partition.compute, gpu.partition.memory)))
    return {name: text for name, text in parts.items() if text}


def counted(names: Iterable[str]) -> str:
    """Gives `1g.10gb x4, 3g.40gb` for a list in which names stand several times."""
    counts: dict[str, int] = {}
    for each in names:
        counts[each] = counts.get(each, 0) + 1
    return ", ".join(f"{each} x{count}" if count > 1 else each for each, count in counts.items())


def remarks(device: Device) -> list[str]:
    """Gives what is out of the ordinary: how it is divided or switched, who uses it, what ails it."""
    found = [printable(f"{name} {text}") for name, text in partitions(device.claim.gpu).items()]
    if device.claim.net and device.claim.net.eswitch == "switchdev":
        found.append("switchdev")
    if device.users:
        found.append(f"in use by {printable('; '.join(map(str, device.users)))}")
    return [*found, *filter(None, [ailment(device)])]


def vf_runs(device: Device) -> list[tuple[str, list[VirtualFunction]]]:
    """Collapses the VFs to runs of the same driver and user, each with what they have in common."""
    uses = vf_users(device)
    runs: list[tuple[str, list[VirtualFunction]]] = []
    for vf in device.vfs:
        common = " ".join(filter(None, (printable(vf.driver or "no driver"), uses.get(vf.index))))
        if runs and runs[-1][0] == common:
            runs[-1][1].append(vf)
        else:
            runs.append((common, [vf]))
    return runs


def closing_lines(seen: Look) -> list[str]:
    """Gives what stands below every format for people: the problems, and what only root would see."""
    notes = [printable(f"  {note}") for note in seen.found.notes]
    return [
        *problem_lines(seen.found.problems),
        *(["", "Not seen for lack of rights (nothing is wrong with the host):", *notes] if notes else []),
    ]


def problem_lines(problems: Iterable[Problem]) -> list[str]:
    """Gives the problems as lines with a heading; none if there are none."""
    lines = [f"  {problem.device or 'host'}: {problem.problem} [{problem.source}]" for problem in problems]
    return ["", f"Problems ({len(lines)}), everything else was read:", *map(printable, lines)] if lines else []


def branches(items: Sequence[Item]) -> Iterator[tuple[Item, str, str]]:
    """Gives each item of a tree's level with what is drawn before it, and before all that hangs below it."""
    for number, item in enumerate(items, 1):
        last = number == len(items)
        yield item, "└── " if last else "├── ", "    " if last else "│   "
