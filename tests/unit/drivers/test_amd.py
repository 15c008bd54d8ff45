# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""AMD GPUs: those with amdgpu's files tell more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from devagent.drivers.amd import Amd
from devagent.model.claim import Kind, Mode
from devagent.model.gpu import GpuFacts, GpuLink, KfdNode, Partition
from devagent.model.identity import Identity
from devagent.model.pci import Sriov, VirtualFunction

from ..worlds import function, look_at, port

MI210 = {"id": "1002:740f", "class": "038000", "driver": "amdgpu"}
ADDRESS, PEER, OTHER = "0000:3b:00.0", "0000:5b:00.0", "0000:7b:00.0"


def partition(**attributes: str) -> Partition | None:
    gpu = Amd().claim(function(ids="1002:74a1", attributes=attributes)).gpu
    assert gpu is not None
    return gpu.partition


def test_a_gpu_tells_its_id_and_memory(tmp_path: Path) -> None:
    files = {"unique_id": "4D8C3b93e1f70a52", "mem_info_vram_total": str(64 << 30)}
    (device,) = look_at(tmp_path, port(MI210 | {"attributes": files})).values()
    assert (device.claim.driver, device.claim.kind, device.claim.model) == ("amd", Kind.GPU, "MI210")
    assert device.claim.gpu == GpuFacts("4d8c3b93e1f70a52", memory_mib=65536)
    assert device.claim.offers == {Mode.WHOLE: "PGPU"}
    assert device.identity == Identity("amdgpu", "4d8c3b93e1f70a52")
    assert device.decision.managed


@pytest.mark.parametrize(
    ("attributes", "facts"),
    [
        ({}, GpuFacts()),
        ({"unique_id": "0" * 16, "mem_info_vram_total": "0"}, GpuFacts(memory_mib=0)),
        ({"unique_id": "none", "mem_info_vram_total": "-1"}, GpuFacts()),
        ({"unique_id": "4d8c", "mem_info_vram_total": "9" * 17}, GpuFacts()),
        ({"unique_id": "", "mem_info_vram_total": ""}, GpuFacts()),
        ({"serial_number": "692251001234"}, GpuFacts(serial="692251001234")),
        ({"serial_number": "01-02-03-04-05-06-07-08"}, GpuFacts()),
        ({"serial_number": "N/A"}, GpuFacts()),
        ({"serial_number": "0000"}, GpuFacts()),
        ({"serial_number": "\x1b[2J"}, GpuFacts()),
    ],
)
def test_a_gpu_without_these_files_is_a_gpu(attributes: dict[str, str], facts: GpuFacts) -> None:
    claim = Amd().claim(function(ids="1002:740f", attributes=attributes))
    assert (claim.gpu, claim.identities) == (facts, ())


@pytest.mark.parametrize(
    ("ids", "class_code", "recognised"),
    [
        ("1002:740f", "038000", True),
        ("1002:74a1", "120000", True),
        ("1002:ab28", "040300", False),
        ("1022:740f", "038000", False),
    ],
)
def test_displays_and_accelerators_are_recognised(ids: str, class_code: str, recognised: bool) -> None:
    assert Amd().recognises(function(ids=ids, class_code=class_code)) is recognised


def test_a_pf_offers_its_vfs_by_their_own_id() -> None:
    pf = function(ids="1002:74a1", class_code="120000", sriov=Sriov(8, "74b5"))
    assert Amd().claim(pf).offers == {Mode.WHOLE: "PGPU", Mode.VF: "CUSTOM_PCI_1002_74B5"}
    pf = function(ids="1002:74a1", class_code="120000", sriov=Sriov(8))
    assert Amd().claim(pf).offers[Mode.VF] == "CUSTOM_PCI_1002_74A1"


def test_only_gim_makes_vfs() -> None:
    card: dict[str, Any] = {"ids": "1002:74a1", "class_code": "120000"}
    amdgpu = Amd().claim(function(**card, driver="amdgpu", sriov=Sriov(8, "74b5")))
    assert amdgpu.refusals == {Mode.VF: "amdgpu makes no VFs: that takes AMD's SR-IOV host driver gim in its place"}
    assert amdgpu.offers == {Mode.WHOLE: "PGPU"}
    vfs = (VirtualFunction(0, "0000:3b:02.0"),)
    gim = Amd().claim(function(**card, driver="gim", sriov=Sriov(1, "74b5", vfs)))
    assert (gim.offers[Mode.VF], gim.refusals) == ("CUSTOM_PCI_1002_74B5", {})
    assert dict(gim.facts)["VFs"].startswith("made by gim")


def test_partitions_are_told_with_what_is_possible() -> None:
    assert partition(
        current_compute_partition="CPX",
        available_compute_partition="SPX, DPX, QPX, CPX",
        current_memory_partition="NPS4",
        available_memory_partition="NPS1, NPS4",
    ) == Partition("CPX", ("SPX", "DPX", "QPX", "CPX"), "NPS4", ("NPS1", "NPS4"))
    fixed = partition(
        current_compute_partition="SPX",
        available_compute_partition="SPX",
        current_memory_partition="NPS1",
        available_memory_partition="NPS1",
    )
    assert fixed is not None
    assert fixed.changeable is False


def test_gims_memory_mode_counts_where_amdgpus_is_missing() -> None:
    assert partition(memory_partition_mode="NPS4") == Partition(memory="NPS4")


@pytest.mark.parametrize("text", ["", "Not supported", "UNKNOWN", "SPXX", "9" * 5000, "\0"])
def test_what_is_no_partition_is_none(text: str) -> None:
    names = (f"{which}_{what}_partition" for which in ("current", "available") for what in ("compute", "memory"))
    assert partition(**dict.fromkeys(names, text)) is None


def test_xgmi_links_are_told_once_per_peer() -> None:
    links = (("pcie", PEER), ("xgmi", ADDRESS), ("xgmi", OTHER), ("xgmi", PEER))
    nodes = tuple(KfdNode(ADDRESS, number, hive_id="99", gfx_version="gfx942", links=links) for number in (3, 4))
    claim = Amd().claim(function(ADDRESS, "1002:74a1", kfd=nodes))
    assert claim.gpu is not None
    assert claim.gpu.links == (GpuLink("xgmi", PEER, 1), GpuLink("xgmi", OTHER, 1))
    assert claim.facts == (("KFD nodes", "3, 4"), ("architecture", "gfx942"), ("XGMI hive", "99"))


def test_facts_are_what_was_said() -> None:
    files = {"product_name": "AMD Instinct MI210\nmore", "board_info": "type : cem", "vbios_version": "unknown"}
    claim = Amd().claim(function(ids="1002:740f", attributes=files | {"product_number": "\x1b[31m"}))
    assert claim.facts == (("product", "AMD Instinct MI210"), ("board", "cem"))


def test_an_mi300_is_a_gpu_and_no_plain_accelerator(tmp_path: Path) -> None:
    (device,) = look_at(tmp_path, port({"id": "1002:74a1", "class": "120000", "driver": "amdgpu"})).values()
    assert (device.claim.driver, device.claim.kind) == ("amd", Kind.GPU)


def test_an_unknown_gpu_is_named_by_its_id() -> None:
    claim = Amd().claim(function(ids="1002:ffff"))
    assert (claim.model, claim.traits) == ("GPU [ffff]", frozenset())
