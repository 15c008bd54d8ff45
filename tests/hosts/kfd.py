# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The topology that AMD's compute driver shows: CPUs, GPUs or their partitions, and links."""

from .description import Address, Host, KfdNode
from .tree import Tree

_KFD = "sys/devices/virtual/kfd/kfd"
_PCIE, _XGMI = 2, 11


def write_kfd(tree: Tree, host: Host) -> None:
    """Adds the nodes of a host that has some."""
    if not host.kfd:
        return
    tree.lines(_KFD, {"dev": "235:0"})
    tree.link("sys/class/kfd/kfd", _KFD)
    for number, node in enumerate(host.kfd):
        path = f"{_KFD}/topology/nodes/{number}"
        tree.lines(path, {"gpu_id": 4096 + number if node.address else 0, "name": node.name})
        values = _gpu(node, node.address) if node.address else {"cpu_cores_count": 64, "simd_count": 0, "vendor_id": 0}
        tree.files(path, {"properties": _text(values)})
        links = [*((_XGMI, peer) for peer in node.xgmi), *((_PCIE, peer) for peer in node.pcie)]
        for index, (kind, peer) in enumerate(links):
            values = {"type": kind, "version_major": 0, "node_from": number, "node_to": peer, "weight": 15, "flags": 1}
            tree.files(f"{path}/io_links/{index}", {"properties": _text(values)})


def _gpu(node: KfdNode, address: Address) -> dict[str, int]:
    return {
        "cpu_cores_count": 0,
        "simd_count": 38 * node.xccs,
        "io_links_count": len(node.xgmi) + len(node.pcie),
        "gfx_target_version": node.gfx_version,
        "vendor_id": 0x1002,
        "location_id": address.bus << 8 | address.devfn | node.partition << 28,
        "domain": address.domain,
        "drm_render_minor": node.render_minor,
        "hive_id": node.hive_id,
        "unique_id": node.unique_id,
        "num_xcc": node.xccs,
    }


def _text(values: dict[str, int]) -> str:
    return "".join(f"{name} {value}\n" for name, value in values.items())
