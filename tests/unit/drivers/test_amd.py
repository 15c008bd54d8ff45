# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""AMD GPUs: those with amdgpu's files tell more."""

from __future__ import annotations

from pathlib import Path

import pytest

from devagent.drivers.amd import Amd
from devagent.model.claim import GpuFacts, Kind, Mode
from devagent.model.pci import Sriov

from ..worlds import function, look_at, port

MI210 = {"id": "1002:740f", "class": "038000", "driver": "amdgpu"}


def test_a_gpu_tells_its_id_and_memory(tmp_path: Path) -> None:
    files = {"unique_id": "4D8C3b93e1f70a52", "mem_info_vram_total": str(64 << 30)}
    (device,) = look_at(tmp_path, port(MI210 | {"attributes": files})).values()
    assert (device.claim.driver, device.claim.kind, device.claim.model) == ("amd", Kind.GPU, "MI210")
    assert device.claim.gpu == GpuFacts("4d8c3b93e1f70a52", 65536)
    assert device.claim.offers == {Mode.WHOLE: "PGPU"}
    assert device.decision.managed


@pytest.mark.parametrize(
    ("attributes", "facts"),
    [
        ({}, GpuFacts()),
        ({"unique_id": "0" * 16, "mem_info_vram_total": "0"}, GpuFacts(None, 0)),
        ({"unique_id": "none", "mem_info_vram_total": "-1"}, GpuFacts()),
        ({"unique_id": "4d8c", "mem_info_vram_total": "9" * 17}, GpuFacts()),
        ({"unique_id": "", "mem_info_vram_total": ""}, GpuFacts()),
    ],
)
def test_a_gpu_without_these_files_is_a_gpu(attributes: dict[str, str], facts: GpuFacts) -> None:
    assert Amd().claim(function(ids="1002:740f", attributes=attributes)).gpu == facts


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


def test_an_mi300_is_a_gpu_and_no_plain_accelerator(tmp_path: Path) -> None:
    (device,) = look_at(tmp_path, port({"id": "1002:74a1", "class": "120000", "driver": "amdgpu"})).values()
    assert (device.claim.driver, device.claim.kind) == ("amd", Kind.GPU)


def test_an_unknown_gpu_is_named_by_its_id() -> None:
    claim = Amd().claim(function(ids="1002:ffff"))
    assert (claim.model, claim.traits) == ("GPU [ffff]", frozenset())
