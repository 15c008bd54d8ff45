# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads the facts of the host as a whole: name, kernel, boot, NUMA nodes, IOMMU, Nova's compute id."""

from __future__ import annotations

import re
import uuid

from devagent.errors import Unreadable
from devagent.model.snapshot import HostFacts, Problem
from devagent.sources.host import Tree

NODES = "sys/devices/system/node"


def facts(host: Tree, problems: list[Problem]) -> HostFacts:
    """Gives what can be read of the host; what cannot goes to `problems`."""

    def read(path: str) -> str | None:
        try:
            return host.file(path) or None
        except Unreadable as error:
            problems.append(Problem("system", None, str(error)))
            return None

    nodes = _nodes(host, problems)
    cpus = ((node, read(f"{NODES}/node{node}/cpulist")) for node in nodes)
    return HostFacts(
        hostname=read("proc/sys/kernel/hostname") or read("etc/hostname"),
        kernel=read("proc/sys/kernel/osrelease") or _kernel(read("proc/version")),
        boot_id=read("proc/sys/kernel/random/boot_id"),
        compute_id=_compute_id(host, problems),
        iommu=bool(_names(host, "sys/kernel/iommu_groups", problems)),
        numa_nodes=nodes,
        node_cpus=tuple((node, text) for node, text in cpus if text),
    )


def _kernel(version: str | None) -> str | None:
    """Gives the release from /proc/version: `Linux version 3.10.0-862.el7.x86_64 (builder@...) ...`."""
    match = re.match(r"Linux version (\S+)", version or "")
    return match[1] if match else None


def _compute_id(host: Tree, problems: list[Problem]) -> str | None:
    """Gives Nova's own compute node UUID (nova/virt/node.py, 2023.1 on).

    It is readable by Nova's user only on some distributions, which is no problem of the host.
    """
    for path in ("var/lib/nova/compute_id", "etc/nova/compute_id"):
        try:
            text = host.file(path)
        except Unreadable as error:
            if not error.denied:
                problems.append(Problem("system", None, str(error)))
            continue
        if text:
            try:
                return str(uuid.UUID(text))
            except ValueError:
                problems.append(Problem("system", None, f"{path} holds {text[:40]!r}, which is no UUID"))
    return None


def _nodes(host: Tree, problems: list[Problem]) -> tuple[int, ...]:
    matches = (re.fullmatch(r"node([0-9]{1,4})", name) for name in _names(host, NODES, problems))
    return tuple(sorted(int(match[1]) for match in matches if match))


def _names(host: Tree, path: str, problems: list[Problem]) -> list[str]:
    try:
        return host.names(path)
    except Unreadable as error:
        problems.append(Problem("system", None, str(error)))
        return []
