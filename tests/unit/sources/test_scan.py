# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""One snapshot from all sources, whatever a host holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from hosts.generate import generate

from devagent.model.snapshot import HostFacts, Problem, Snapshot
from devagent.sources.host import Directory
from devagent.sources.scan import scan

from ..worlds import PCI, Link, World, described, look, modalias, port, write


def taken(top: Path) -> Snapshot:
    with Directory(top) as tree:
        return scan(tree, lambda _: frozenset(), lambda _: frozenset()).snapshot


def test_an_empty_host_is_a_host(tmp_path: Path) -> None:
    assert taken(tmp_path) == Snapshot(HostFacts())


@pytest.mark.parametrize(
    "bus", [{PCI: "x"}, {PCI: Link("devices")}, {PCI: Link("nowhere")}, {"sys/bus/pci": Link("pci")}]
)
def test_a_pci_bus_that_cannot_be_read_is_no_reason_to_raise(tmp_path: Path, bus: World) -> None:
    found = taken(write(tmp_path, {"proc/sys/kernel/hostname": "h\n", **bus}))
    assert found.functions == {}
    assert found.host.hostname == "h"
    if PCI in bus:
        assert [(problem.source, problem.device) for problem in found.problems] == [("pci", None)]


def test_nodes_are_those_of_the_system_and_of_the_functions(tmp_path: Path) -> None:
    function = f"{PCI}/0000:3b:00.0"
    world = {f"{function}/modalias": modalias("10de:20f1"), f"{function}/numa_node": "3\n"}
    assert taken(write(tmp_path, {**world, "sys/devices/system/node/node1/": ""})).host.numa_nodes == (1, 3)


def test_a_group_proves_an_iommu(tmp_path: Path) -> None:
    function = f"{PCI}/0000:3b:00.0"
    world: World = {f"{function}/modalias": modalias("10de:20f1"), f"{function}/iommu_group": Link("../../groups/4")}
    assert taken(write(tmp_path, world)).host.iommu


def test_a_group_of_no_function_proves_an_iommu_too(tmp_path: Path) -> None:
    assert taken(write(tmp_path, {"sys/kernel/iommu_groups/0/": ""})).host.iommu
    assert not taken(write(tmp_path / "other", {"sys/kernel/iommu_groups/": ""})).host.iommu


def test_users_and_functions_stand_under_the_same_address(tmp_path: Path) -> None:
    nic = {"id": "8086:1563", "class": "020000", "driver": "ixgbe", "net": ["eno1"]}
    route = {"interface": "eno1", "address": "192.0.2.10/24", "gateway": "192.0.2.1"}
    found = taken(generate(described(port(nic), route=route), tmp_path / "h"))
    assert found.host_use == {"0000:3b:00.0": "default route (eno1)"}
    assert found.functions.keys() >= found.host_use.keys()


def test_problems_come_once_and_in_order(tmp_path: Path) -> None:
    world: World = {
        f"{PCI}/0000:02:00.0": Link("nowhere"),
        f"{PCI}/0000:01:00.0": Link("nowhere"),
        f"{PCI}/odd": "",
        "proc/net/route": b"\xff",
    }
    problems = look(write(tmp_path, world)).problems
    assert [(problem.device, problem.source) for problem in problems] == [
        (None, "pci"),
        (None, "users"),
        ("0000:01:00.0", "pci"),
        ("0000:02:00.0", "pci"),
    ]
    assert len(set(problems)) == len(problems)
    assert all(isinstance(problem, Problem) for problem in problems)


class Unplugging(Directory):
    """A machine whose device is pulled out before the look is over: its files have gone, its link has not yet."""

    def stamp(self, path: str) -> int | None:
        return None if path == f"{PCI}/0000:3b:00.0/modalias" else super().stamp(path)


def test_what_is_unplugged_during_the_look_is_gone_and_not_torn(tmp_path: Path) -> None:
    world = {f"{PCI}/0000:{bus}:00.0/modalias": modalias("10de:20f1") for bus in ("3b", "3c")}
    world |= {f"{PCI}/0000:3b:00.0/numa_node": "torn"}
    with Unplugging(write(tmp_path, world), machine=True) as tree:
        found = scan(tree, lambda _: frozenset(), lambda _: frozenset()).snapshot
    assert list(found.functions) == ["0000:3c:00.0"]
    assert not [each for each in found.problems if each.device == "0000:3b:00.0"]
