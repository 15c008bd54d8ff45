# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The hosts of the simulated cloud: what each wants, and what the agent of a cloned one remembers."""

import hashlib
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from devagent.inventory.build import NUMA_ROOT, OURS
from devagent.model.provider import PREFIX, Inventory, Provider, ProviderTree
from devagent.placement.state import Memory

NUMA_NODES: Final = 2
_GPU: Final = (
    {"PGPU": Inventory(1, max_unit=1)},
    {"CUSTOM_PRODUCT_10DE_20B5", "CUSTOM_DRIVER_BOUND", "HW_GPU_API_VULKAN"},
)
_NIC: Final = (
    {"SRIOV_NET_VF": Inventory(8, max_unit=8)},
    {"CUSTOM_PRODUCT_15B3_101D", "CUSTOM_LINK_UP", "HW_NIC_SRIOV"},
)


def identity(host: int, position: int) -> str:
    """Gives the UUID of a host's provider; the database computes the same when it clones."""
    return str(uuid.UUID(hashlib.md5(f"{host}.{position}".encode(), usedforsecurity=False).hexdigest()))


def tree(host: int, devices: int, *, changed: bool = False) -> ProviderTree:
    """Gives what a host wants: two NUMA nodes, and GPUs and NICs in turn; `changed` has fewer VFs on one NIC."""
    root, name = identity(host, 0), f"{PREFIX}compute-{host}"
    nodes = [
        Provider(identity(host, 1 + node), f"{name}:numa{node}", root, traits=frozenset({OURS, NUMA_ROOT}))
        for node in range(NUMA_NODES)
    ]
    cards = [_card(name, identity(host, 1 + NUMA_NODES + card), card, nodes) for card in range(devices)]
    if changed:
        cards[-1] = replace(cards[-1], inventories={"SRIOV_NET_VF": Inventory(4, max_unit=4)})
    return ProviderTree(root, (*nodes, *cards))


def _card(name: str, uid: str, card: int, nodes: Sequence[Provider]) -> Provider:
    inventories, traits = (_GPU, _NIC)[card % 2]
    parent = nodes[card // 2 % len(nodes)].uuid
    return Provider(uid, f"{name}:0000:{card + 1:02x}:00.0", parent, inventories, frozenset({OURS, *traits}))


def remembered(host: int, devices: int, generations: Sequence[int]) -> Memory:
    """Gives what the agent of a cloned host remembers: as if it had made its first report itself."""
    desired = tree(host, devices)
    providers = {
        one.uuid: replace(one, generation=generation)
        for one, generation in zip(desired.providers, generations, strict=True)
    }
    names = {name for one in desired.providers for name in (*one.traits, *one.inventories)}
    return Memory(desired.root, f"compute-{host}", (1, 39), providers, names, full_read=time.time())
