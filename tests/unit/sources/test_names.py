# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The names in pci.ids are found without reading all of it, and a capture holds no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from devagent.model.snapshot import Problem
from devagent.sources.host import Directory
from devagent.sources.names import PATHS, names

from ..worlds import Link, World, function, write
from .noting import Noting

IDS = """\
#
#\tList of PCI ID's
#
0010  Allied Telesis, Inc
\t8139  AT-2500TX V3 Ethernet
10de  NVIDIA Corporation
# one of many
\t20b5  GA100 [A100 PCIe 80GB]
\t\t10de 20f1  a subsystem, no device
\t20f1  GA100 [A100 PCIe 40GB]
\t\t10de 145f  NVIDIA A100
15b3  Mellanox Technologies
\t101d  MT2892 Family [ConnectX-6 Dx]
8086  Intel Corporation
\t20f1  not NVIDIA's
ffff  Illegal Vendor ID


C 00  Unclassified device
\t00  Non-VGA unclassified device
"""
FOUND = {
    "10de:20f1": ("NVIDIA Corporation", "GA100 [A100 PCIe 40GB]"),
    "15b3:101d": ("Mellanox Technologies", "MT2892 Family [ConnectX-6 Dx]"),
}


def found(top: Path, *ids: str) -> tuple[dict[str, tuple[str, str]], list[Problem]]:
    problems: list[Problem] = []
    with Directory(top) as tree:
        return names(tree, [function(ids=each) for each in ids], problems), problems


@pytest.mark.parametrize("path", PATHS)
def test_names_are_found_wherever_the_file_is(tmp_path: Path, path: str) -> None:
    write(tmp_path, {path: IDS})
    assert found(tmp_path, "10de:20f1", "15b3:101d", "10de:20f1") == (FOUND, [])


def test_an_unknown_device_has_its_vendors_name_and_an_unknown_vendor_none(tmp_path: Path) -> None:
    write(tmp_path, {PATHS[0]: IDS})
    expected = {"10de:8139": ("NVIDIA Corporation", ""), "ffff:20f1": ("Illegal Vendor ID", "")}
    assert found(tmp_path, "10de:8139", "ffff:20f1", "abcd:20f1") == (expected, [])


def test_vendors_out_of_order_are_found(tmp_path: Path) -> None:
    _, nvidia, after = IDS.partition("10de  NVIDIA")
    write(tmp_path, {PATHS[0]: f"fffe  Home\n\t0001  Made\n{nvidia}{after}0010  Allied\n\t8139  AT\n"})
    expected = {"0010:8139": ("Allied", "AT"), "fffe:0001": ("Home", "Made")} | FOUND
    assert found(tmp_path, "15b3:101d", "10de:20f1", "fffe:0001", "0010:8139") == (expected, [])


def test_an_excerpt_holds_all_that_is_found_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, {PATHS[0]: IDS})
    with Noting(tmp_path) as tree:
        names(tree, [function(ids=each) for each in ("15b3:101d", "10de:20f1")], [])
    assert tree.kept == [
        "10de  NVIDIA Corporation\n\t20f1  GA100 [A100 PCIe 40GB]\n"
        "15b3  Mellanox Technologies\n\t101d  MT2892 Family [ConnectX-6 Dx]\n"
    ]
    write(tmp_path, {PATHS[0]: tree.kept[0]})
    assert found(tmp_path, "10de:20f1", "15b3:101d") == (FOUND, [])


def test_without_pci_ids_nothing_has_a_name(tmp_path: Path) -> None:
    assert found(tmp_path, "10de:20f1") == ({}, [])
    assert found(write(tmp_path, {PATHS[0]: b"\xff"})) == ({}, [])


def test_a_link_to_another_of_the_paths_is_no_problem(tmp_path: Path) -> None:
    write(tmp_path, {PATHS[1]: Link("/" + PATHS[2]), PATHS[2]: IDS})
    assert found(tmp_path, "10de:20f1", "15b3:101d") == (FOUND, [])


def test_a_file_that_is_no_text_is_named_and_the_next_one_read(tmp_path: Path) -> None:
    world: World = {PATHS[0]: b"\xff\xfe", PATHS[1]: IDS}
    expected = [Problem("names", None, "usr/share/hwdata/pci.ids: is not text")]
    assert found(write(tmp_path, world), "10de:20f1", "15b3:101d") == (FOUND, expected)
