# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a host says of itself: names, ids, kernel and NUMA nodes."""

from .description import Host
from .tree import Tree

_NODES = "sys/devices/system/node"
_NEAR, _FAR = 10, 21
_NODE_KIB = 263843520


def write_system(tree: Tree, host: Host) -> None:
    """Adds the host's identity and its NUMA nodes."""
    tree.lines("proc/sys/kernel", {"hostname": host.hostname, "osrelease": host.kernel, "ostype": "Linux"})
    tree.lines("proc/sys/kernel/random", {"boot_id": host.boot_id})
    tree.lines("proc", {"version": f"Linux version {host.kernel} (builder@example.org) #1 SMP PREEMPT_DYNAMIC"})
    tree.lines("etc", {"machine-id": host.machine_id})
    if host.compute_id:
        tree.lines("var/lib/nova", {"compute_id": host.compute_id})
    _write_nodes(tree, host)


def _write_nodes(tree: Tree, host: Host) -> None:
    last = len(host.nodes) - 1
    listed = f"0-{last}" if last else "0"
    tree.lines(_NODES, {"online": listed, "possible": listed})
    for number, cpus in enumerate(host.nodes):
        distances = (_NEAR if other == number else _FAR for other in range(len(host.nodes)))
        memory = {"MemTotal": _NODE_KIB, "MemFree": _NODE_KIB // 2, "MemUsed": _NODE_KIB - _NODE_KIB // 2}
        tree.lines(f"{_NODES}/node{number}", {"cpulist": cpus, "distance": " ".join(map(str, distances))})
        meminfo = "".join(f"Node {number} {name + ':':<16}{size:>8} kB\n" for name, size in memory.items())
        tree.files(f"{_NODES}/node{number}", {"meminfo": meminfo})
