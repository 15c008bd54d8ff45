# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""KFD's topology: nodes, partitions and links by PCI address."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from devagent.discovery import Discovery
from devagent.model.gpu import KfdNode
from devagent.sources import kfd
from devagent.sources.host import Directory

from ..worlds import PCI, World, function, write

GPU0, GPU1 = "0000:11:00.0", "0000:12:00.0"
LINK = "type {kind}\nversion_major 0\nnode_from 0\nnode_to {to}\nweight 15\n"


def properties(location: int, **more: int) -> str:
    values = {"simd_count": 304, "vendor_id": 0x1002, "location_id": location, "domain": 0} | more
    return "".join(f"{name} {value}\n" for name, value in values.items())


def link(kind: int, to: int) -> str:
    return LINK.format(kind=kind, to=to)


def topology(top: Path, world: World) -> tuple[KfdNode, ...]:
    functions = {f"{PCI}/{address}/vendor": "0x1002\n" for address in (GPU0, GPU1)}
    with Directory(write(top, functions | {f"{kfd.NODES}/{name}": text for name, text in world.items()})) as tree:
        return kfd.topology(tree)


def test_a_node_tells_what_it_is(tmp_path: Path) -> None:
    told = properties(
        0x1100,
        hive_id=0x9904E7B2C1D05A38,
        gfx_target_version=90402,
    )
    cpu = "cpu_cores_count 64\nsimd_count 0\nvendor_id 0\nlocation_id 0\n"
    (node,) = topology(tmp_path, {"0/properties": cpu, "1/properties": told})
    assert node == KfdNode(GPU0, 1, "9904e7b2c1d05a38", "gfx942")


@pytest.mark.parametrize(("version", "name"), [(90010, "gfx90a"), (100300, "gfx1030"), (110001, "gfx1101"), (0, None)])
def test_the_architecture_is_spelt_as_compilers_do(tmp_path: Path, version: int, name: str | None) -> None:
    (node,) = topology(tmp_path, {"1/properties": properties(0x1100, gfx_target_version=version)})
    assert node.gfx_version == name


@pytest.mark.parametrize("location", [0x1200 | 3 << 28, 0x1203])
def test_a_partition_has_its_gpus_address(tmp_path: Path, location: int) -> None:
    (node,) = topology(tmp_path, {"5/properties": properties(location)})
    assert node.address == GPU1


def test_a_domain_is_part_of_the_address(tmp_path: Path) -> None:
    (node,) = topology(tmp_path, {"1/properties": properties(0xC100, domain=0x10000)})
    assert node.address == "10000:c1:00.0"


def test_links_lead_to_other_gpus(tmp_path: Path) -> None:
    world = {
        "0/properties": "vendor_id 0\n",
        "1/properties": properties(0x1100),
        "2/properties": properties(0x1200),
        "3/properties": properties(0x1200 | 1 << 28),
        "1/io_links/0/properties": link(2, 0),
        "1/io_links/1/properties": link(11, 2),
        "1/io_links/2/properties": link(11, 3),
        "2/io_links/0/properties": link(11, 3),
        "2/io_links/1/properties": link(2, 1),
        "3/io_links/0/properties": link(13, 1),
        "3/io_links/1/properties": link(11, 77),
    }
    links = [node.links for node in topology(tmp_path, world)]
    assert links == [(("xgmi", GPU1),), (("pcie", GPU0),), ()]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        "vendor_id 4098\n",
        "vendor_id 4098\nlocation_id -1\n",
        "vendor_id 4098\nlocation_id 99999999999999999999999\n",
        f"vendor_id 4098\nlocation_id 4352\ndomain {1 << 40}\n",
        "vendor_id 4098\nlocation_id\n",
        b"\xff\xfe",
        "x" * 5000,
    ],
)
def test_a_node_that_says_nothing_usable_is_left_out(tmp_path: Path, text: str | bytes) -> None:
    found = topology(tmp_path, {"1/properties": text, "2/properties": properties(0x1100), "x/properties": "", "3": ""})
    assert [node.address for node in found] == [GPU0]


@pytest.mark.parametrize("hive_id", [0, 1 << 64])
def test_a_hive_that_is_zero_or_no_number_of_64_bits_is_none(tmp_path: Path, hive_id: int) -> None:
    (node,) = topology(tmp_path, {"1/properties": properties(0x1100, hive_id=hive_id)})
    assert node.hive_id is None


def test_a_host_without_kfd_has_no_nodes(tmp_path: Path) -> None:
    assert topology(tmp_path, {}) == ()


@pytest.mark.parametrize(
    ("ids", "driver", "seen"),
    [("1002:74a1", "amdgpu", True), ("1002:74a1", "vfio-pci", False), ("10de:74a1", "amdgpu", False)],
)
def test_only_what_amdgpu_drives_is_looked_for(ids: str, driver: str, seen: bool) -> None:
    assert kfd.sees(function(ids=ids, driver=driver)) is seen
    assert bool(kfd.look(seen).subjects) is seen


def test_the_described_host_has_a_node_per_partition(discovery: Callable[[str], Discovery]) -> None:
    gpus = [device.function for device in discovery("zoo").devices if device.claim.driver == "amd"]
    assert [[node.node for node in gpu.kfd] for gpu in gpus] == [[2], [3, 4], []]
