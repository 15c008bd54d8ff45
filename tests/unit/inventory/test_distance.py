# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devagent.discovery import Discovery
from devagent.inventory.distance import LEGEND, distance, node
from devagent.model.device import Device
from devagent.model.gpu import Fabric, GpuFacts, GpuLink

from ..worlds import claim, function, managed

ROOT, OTHER_ROOT = "0000:3a:01.0", "0000:3a:02.0"
UP, DOWN, DOWN2 = "0000:3b:00.0", "0000:3c:00.0", "0000:3c:01.0"
UP2, DOWN3 = "0000:3d:00.0", "0000:3e:00.0"


def at(address: str, *path: str, node: int | None = 0, bus: str | None = "pci0000:3a") -> Device:
    return managed(function(address, pcie_path=path, numa_node=node, root_bus=bus))


def linked(device: Device, *links: GpuLink, fabric: Fabric | None = None) -> Device:
    return replace(device, claim=claim(device.function, gpu=GpuFacts(links=links, fabric=fabric)))


GPU = at("0000:40:00.0", ROOT, UP, DOWN)

CASES = {
    "itself": (GPU, "X"),
    "under the same switch": (at("0000:41:00.0", ROOT, UP, DOWN2), "PIX"),
    "another function of its card": (at("0000:40:00.1", ROOT, UP, DOWN), "PIX"),
    "under a switch below that switch": (at("0000:41:00.0", ROOT, UP, DOWN2, UP2, DOWN3), "PXB"),
    "under another switch below its root port": (at("0000:41:00.0", ROOT, UP2, DOWN3), "PXB"),
    "under another root port": (at("0000:41:00.0", OTHER_ROOT, UP2, DOWN3), "PHB"),
    "on the root bus itself": (at("0000:3a:1f.0"), "PHB"),
    "on another root bus of its node": (at("0000:41:00.0", "0000:50:00.0", bus="pci0000:50"), "NODE"),
    "on another node": (at("0000:41:00.0", "0000:50:00.0", bus="pci0000:50", node=1), "SYS"),
    "on another root bus of no known node": (at("0000:41:00.0", bus="pci0000:50", node=None), "?"),
    "in an unknown place": (at("0000:41:00.0", bus=None), "?"),
}


@pytest.mark.parametrize("what", CASES)
def test_distance_says_what_is_between(what: str) -> None:
    other, expected = CASES[what]
    assert distance(GPU, other, (0, 1)) == distance(other, GPU, (0, 1)) == expected


def test_functions_of_one_slot_on_the_root_bus_are_one_device() -> None:
    assert distance(at("0000:3a:1f.0"), at("0000:3a:1f.6")) == "PIX"


def test_a_path_that_could_not_be_read_is_no_distance() -> None:
    unread = replace(GPU, function=replace(GPU.function, address="0000:41:00.0", unread=frozenset({"path"})))
    assert distance(GPU, unread) == distance(unread, GPU) == "?"


def test_on_a_host_with_one_node_everything_is_on_it() -> None:
    other = at("0000:41:00.0", bus="pci0000:50", node=None)
    assert distance(GPU, other, (0,)) == distance(other, GPU, (0,)) == "NODE"
    assert node(replace(other.function, numa_node=1), (0,)) == 1
    assert node(other.function, (0,)) == 0
    assert node(other.function, ()) is None
    assert node(replace(other.function, unread=frozenset({"numa_node"})), (0,)) is None


PEER = at("0000:41:00.0", ROOT, UP, DOWN2)


@pytest.mark.parametrize(("kind", "code"), [("nvlink", "NV4"), ("xgmi", "XG4")])
def test_links_are_nearer_than_any_bridge_and_told_by_either_end(kind: str, code: str) -> None:
    one, other = linked(GPU, GpuLink(kind, PEER.address, 4)), linked(PEER)
    assert distance(one, other) == distance(other, one) == code
    elsewhere = linked(GPU, GpuLink(kind, "0000:99:00.0", 4))
    assert distance(elsewhere, other) == "PIX"
    assert f"{code[:2]}#" in dict(LEGEND)


def test_what_is_no_gpu_has_no_links() -> None:
    one = linked(GPU, GpuLink("nvlink", None, 4))
    assert distance(one, PEER) == distance(PEER, one) == "PIX"


def test_over_switches_as_many_links_count_as_both_have() -> None:
    one, other = linked(GPU, GpuLink("nvlink", None, 18)), linked(PEER, GpuLink("nvlink", None, 12))
    assert distance(one, other) == "NV12"
    assert distance(one, linked(PEER)) == "PIX"


def test_partitions_of_a_fabric_have_no_links_between_them() -> None:
    one, other = (
        linked(device, GpuLink("nvlink", None, 18), fabric=Fabric("completed", clique, "c"))
        for device, clique in ((GPU, 1), (PEER, 2))
    )
    assert distance(one, other) == "PIX"
    same = linked(PEER, GpuLink("nvlink", None, 18), fabric=Fabric("completed", 1, "c"))
    assert distance(one, same) == "NV18"
    silent = linked(PEER, GpuLink("nvlink", None, 18))
    assert distance(one, silent) == distance(silent, one) == "NV18"


PATHS = st.lists(st.sampled_from([ROOT, UP, DOWN, UP2]), max_size=5).map(tuple)
PLACES = st.builds(
    lambda address, path, node, bus: at(address, *path, node=node, bus=bus),
    st.sampled_from(["0000:40:00.0", "0000:41:00.0", "0000:41:00.1"]),
    PATHS,
    st.sampled_from([None, 0, 1]),
    st.sampled_from([None, "pci0000:3a", "pci0000:50"]),
)


@given(PLACES, PLACES)
def test_any_two_places_have_a_distance_that_the_legend_has_both_ways(one: Device, other: Device) -> None:
    assert distance(one, other) == distance(other, one)
    assert distance(one, other) in dict(LEGEND)


def test_of_gpu8_the_switches_are_told_from_the_sockets(discovery: Callable[[str], Discovery]) -> None:
    found = discovery("gpu8")
    devices = {device.address: device for device in found.devices}

    def between(one: str, other: str) -> str:
        return distance(devices[f"0000:{one}"], devices[f"0000:{other}"], found.host.numa_nodes)

    assert between("19:00.0", "1a:00.0") == "PIX"
    assert between("19:00.0", "1b:00.1") == "PIX"
    assert between("19:00.0", "3d:00.0") == "NODE"
    assert between("19:00.0", "88:00.0") == "SYS"
