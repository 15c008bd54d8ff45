# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""NVIDIA GPUs are known by their ids, whatever driver they are on."""

from __future__ import annotations

from pathlib import Path

import pytest

from devagent.drivers.nvidia import Nvidia
from devagent.model.claim import Kind, Mode
from devagent.model.pci import Sriov

from ..worlds import decide, function, look_at, port, rule, snapshot

A100 = {"id": "10de:20f1", "class": "030200", "driver": "nvidia", "vfs": {"total": 16, "offset": 4}}


@pytest.mark.parametrize("driver", ["nvidia", "vfio-pci", None])
def test_a_gpu_is_a_gpu_on_any_driver(tmp_path: Path, driver: str | None) -> None:
    (device,) = look_at(tmp_path, port(A100 | {"driver": driver})).values()
    assert (device.claim.driver, device.claim.kind, device.claim.vendor) == ("nvidia", Kind.GPU, "NVIDIA")
    assert device.claim.model == "A100 PCIe 40GB"
    assert device.claim.traits == frozenset({"CUSTOM_MODEL_A100_PCIE_40GB"})
    assert device.decision.managed
    assert device.decision.resource_class == "PGPU"


@pytest.mark.parametrize(
    ("ids", "class_code", "recognised"),
    [
        ("10de:20f1", "030200", True),
        ("10de:1eb8", "030000", True),
        ("10de:20f1", "038000", True),
        ("10de:228b", "040300", False),
        ("10de:22a3", "068000", False),
        ("1002:20f1", "030200", False),
    ],
)
def test_display_and_3d_controllers_are_recognised(ids: str, class_code: str, recognised: bool) -> None:
    assert Nvidia().recognises(function(ids=ids, class_code=class_code)) is recognised


def test_an_unknown_gpu_is_named_by_its_id_and_has_no_model_trait() -> None:
    claim = Nvidia().claim(function(ids="10de:ffff"))
    assert (claim.model, claim.traits) == ("GPU [ffff]", frozenset())


def test_a_v100_has_its_standard_compute_capability() -> None:
    assert "HW_GPU_CUDA_COMPUTE_CAPABILITY_V7_0" in Nvidia().claim(function(ids="10de:1db6")).traits


def test_a_vf_of_a_gpu_is_refused_with_the_reason() -> None:
    gpu = function(sriov=Sriov(16))
    device = decide(snapshot(gpu), rule(Mode.VF), claims=[Nvidia().claim(gpu)])[gpu.address]
    assert device.decision.reason == "a VF of an NVIDIA GPU is nothing without a vGPU type"


def test_a_gpu_whose_vfs_carry_vgpus_is_not_given_at_all(tmp_path: Path) -> None:
    in_use = A100 | {"vfs": {"total": 16, "count": 4, "offset": 4, "driver": "nvidia"}}
    found = look_at(tmp_path, port(in_use))
    assert list(found) == ["0000:3b:00.0"]
    assert not found["0000:3b:00.0"].decision.managed
