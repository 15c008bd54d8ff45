# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Takes one snapshot of a host from all the sources."""

from __future__ import annotations

from dataclasses import replace

from devagent.errors import Unreadable
from devagent.model.pci import Function
from devagent.model.snapshot import Problem, Snapshot
from devagent.sources import pci, system, users
from devagent.sources.host import Tree


def scan(host: Tree, reads: pci.Reads) -> Snapshot:
    """Looks at everything that discovery needs; never raises for what a host may hold."""
    problems: list[Problem] = []
    facts = system.facts(host, problems)
    functions: dict[str, Function] = {}
    unknown: frozenset[str] = frozenset()
    complete = True
    try:
        functions, unknown = pci.scan(host, reads, problems)
    except Unreadable as error:
        problems.append(Problem(pci.SOURCE, None, str(error)))
        complete = False
    host_use, host_use_known = users.host_use(host, problems)
    iommu = facts.iommu or any(function.iommu_group is not None for function in functions.values())
    nodes = {function.numa_node for function in functions.values() if function.numa_node is not None}
    return Snapshot(
        host=replace(facts, iommu=iommu, numa_nodes=tuple(sorted(nodes.union(facts.numa_nodes)))),
        functions=functions,
        host_use=host_use,
        host_use_known=host_use_known,
        unknown=unknown,
        complete=complete,
        problems=tuple(problems),
    )
