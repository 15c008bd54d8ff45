# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The facts of the host as a whole, and that none of them is needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devagent.errors import Unreadable
from devagent.model.snapshot import HostFacts, Problem
from devagent.sources.host import Directory
from devagent.sources.system import facts

from ..worlds import World, write

ID = "0c6e1f57-6a3d-4f0b-9a55-2f7d5a3b8e10"


def told(top: Path, world: World | None = None) -> tuple[HostFacts, list[str]]:
    problems: list[Problem] = []
    with Directory(write(top, world or {})) as tree:
        return facts(tree, problems), [problem.problem for problem in problems]


def test_a_host_that_tells_nothing_is_no_problem(tmp_path: Path) -> None:
    assert told(tmp_path) == (HostFacts(), [])


def test_a_described_host_tells_everything(host_tree: Callable[[str], Path]) -> None:
    found, problems = told(host_tree("gpu8"))
    assert found == HostFacts(
        hostname="gpu8.example.org",
        kernel="6.12.57-amd64",
        boot_id="5a0a6e0c-52d4-4a40-8f0c-7d6c3e0b9f11",
        compute_id=ID,
        iommu=True,
        numa_nodes=(0, 1),
        node_cpus=((0, "0-31,64-95"), (1, "32-63,96-127")),
    )
    assert problems == []


def test_a_host_without_groups_has_no_iommu(host_tree: Callable[[str], Path]) -> None:
    assert not told(host_tree("vm"))[0].iommu


def test_the_hostname_of_etc_stands_in(tmp_path: Path) -> None:
    assert told(tmp_path, {"etc/hostname": "a\n"})[0].hostname == "a"
    assert told(tmp_path, {"proc/sys/kernel/hostname": "b\n"})[0].hostname == "b"


@pytest.mark.parametrize(
    ("version", "kernel"),
    [
        ("Linux version 3.10.0-862.el7.x86_64 (builder@x) (gcc version 4.8.5)\n", "3.10.0-862.el7.x86_64"),
        ("Linux version\n", None),
        ("FreeBSD 14\n", None),
    ],
)
def test_the_kernels_version_stands_in_for_its_release(tmp_path: Path, version: str, kernel: str | None) -> None:
    assert told(tmp_path, {"proc/version": version})[0].kernel == kernel


@pytest.mark.parametrize("path", ["var/lib/nova/compute_id", "etc/nova/compute_id"])
@pytest.mark.parametrize("text", [f"{ID}\n", ID.upper(), ID.replace("-", "")])
def test_novas_compute_id_is_found(tmp_path: Path, path: str, text: str) -> None:
    assert told(tmp_path, {path: text}) == (HostFacts(compute_id=ID), [])


def test_a_compute_id_that_is_none_is_a_problem_and_the_next_file_is_asked(tmp_path: Path) -> None:
    found, problems = told(tmp_path, {"var/lib/nova/compute_id": "x\n", "etc/nova/compute_id": f"{ID}\n"})
    assert found.compute_id == ID
    assert problems == ["var/lib/nova/compute_id holds 'x', which is no UUID"]


@pytest.mark.parametrize(
    ("world", "problem"),
    [
        ({"var/lib/nova/compute_id/": ""}, "var/lib/nova/compute_id: is a directory"),
        ({"var/lib/nova/compute_id": b"\xff"}, "var/lib/nova/compute_id: is not text"),
    ],
)
def test_a_compute_id_that_cannot_be_read_is_a_problem(tmp_path: Path, world: World, problem: str) -> None:
    assert told(tmp_path, world) == (HostFacts(), [problem])


def test_a_compute_id_that_is_novas_alone_is_no_problem(tmp_path: Path) -> None:
    write(tmp_path, {"var/lib/nova/compute_id": ID})
    problems: list[Problem] = []
    with Denied(tmp_path) as tree:
        assert facts(tree, problems) == HostFacts()
    assert problems == []


class Denied(Directory):
    """A tree in which Nova's files may not be read."""

    def _read(self, path: str, limit: int, **how: Any) -> bytes | None:
        if path.endswith("compute_id"):
            raise Unreadable(path, "permission denied")
        return super()._read(path, limit, **how)


def test_only_nodes_are_numa_nodes(tmp_path: Path) -> None:
    names = ["node0", "node10", "node2", "nodex", "node", "has_cpu", "node99999"]
    assert told(tmp_path, {f"sys/devices/system/node/{name}/": "" for name in names})[0].numa_nodes == (0, 2, 10)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("proc/sys/kernel/hostname", "hostname"),
        ("proc/sys/kernel/osrelease", "kernel"),
        ("proc/sys/kernel/random/boot_id", "boot_id"),
    ],
)
def test_what_cannot_be_read_is_a_problem_and_unknown(tmp_path: Path, path: str, field: str) -> None:
    found, problems = told(tmp_path, {path: b"\xff"})
    assert getattr(found, field) is None
    assert problems == [f"{path}: is not text"]
