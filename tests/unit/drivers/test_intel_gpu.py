# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Intel GPUs, with VFs where the kernel makes them PFs."""

from __future__ import annotations

from pathlib import Path

import pytest

from devagent.drivers.intel_gpu import IntelGpu
from devagent.model.claim import Claim, Kind, Mode
from devagent.model.health import State
from devagent.model.pci import Sriov

from ..worlds import function, look_at, port

FLEX = {"id": "8086:56c0", "class": "038000", "driver": "xe"}
GIB = 1 << 30


def claim(driver: str = "xe", sriov: Sriov | None = None, /, **attributes: str) -> Claim:
    files = {name.replace("__", "/"): text for name, text in attributes.items()}
    return IntelGpu().claim(function(ids="8086:56c0", driver=driver, sriov=sriov, attributes=files))


def memory(attributes: dict[str, str]) -> int | None:
    gpu = IntelGpu().claim(function(ids="8086:56c0", attributes=attributes)).gpu
    assert gpu is not None
    return gpu.memory_mib


def test_a_gpu_is_given_whole(tmp_path: Path) -> None:
    (device,) = look_at(tmp_path, port(FLEX)).values()
    assert (device.claim.driver, device.claim.kind) == ("intel_gpu", Kind.GPU)
    assert device.claim.model == "Data Center GPU Flex 170"
    assert device.claim.offers == {Mode.WHOLE: "PGPU"}
    assert device.decision.managed


def test_a_gpu_with_vfs_is_given_by_them(tmp_path: Path) -> None:
    vfs = {"total": 31, "count": 3, "device": "56c0", "driver": "vfio-pci"}
    found = look_at(tmp_path, port(FLEX | {"vfs": vfs}))
    decision = found["0000:3b:00.0"].decision
    assert list(found) == ["0000:3b:00.0"]
    assert (decision.mode, decision.resource_class, decision.total) == (Mode.VF, "CUSTOM_PCI_8086_56C0", 3)


@pytest.mark.parametrize("device", ["0bd5", "0bda", "0b69", "0be5"])
def test_a_max_is_not_divided(device: str) -> None:
    found = IntelGpu().claim(function(ids=f"8086:{device}", sriov=Sriov(63, "0bd5")))
    assert found.offers == {Mode.WHOLE: "PGPU"}
    assert "Ponte Vecchio" in found.refusals[Mode.VF]


@pytest.mark.parametrize(
    ("ids", "class_code", "recognised"),
    [("8086:56c0", "030000", True), ("8086:4940", "0b4000", False), ("10de:56c0", "030000", False)],
)
def test_displays_are_recognised(ids: str, class_code: str, recognised: bool) -> None:
    assert IntelGpu().recognises(function(ids=ids, class_code=class_code)) is recognised


def test_an_unknown_gpu_is_named_by_its_id() -> None:
    found = IntelGpu().claim(function(ids="8086:9999"))
    assert (found.model, found.traits) == ("GPU [9999]", frozenset())


@pytest.mark.parametrize(
    ("attributes", "mib"),
    [
        ({}, None),
        ({"tile0/physical_vram_size_bytes": str(16 * GIB)}, 16384),
        ({f"tile{tile}/physical_vram_size_bytes": str(16 * GIB) for tile in range(2)}, 32768),
        ({"drm/card1/lmem_total_bytes": str(14 * GIB)}, 14336),
        ({"tile0/physical_vram_size_bytes": str(GIB), "tile1/physical_vram_size_bytes": "?"}, None),
        ({"tile0/physical_vram_size_bytes": "9" * 30}, None),
        ({"drm/card1/lmem_total_bytes": "-1"}, None),
    ],
)
def test_memory_is_all_tiles_together(attributes: dict[str, str], mib: int | None) -> None:
    assert memory(attributes) == mib


def test_vfs_are_numbered_as_the_pci_core_does() -> None:
    files = {"sriov_admin__pf__profile__sched_priority": "low [normal] high"}
    for vf, quantum in ((1, "20"), (2, "20"), (10, "40")):
        files[f"sriov_admin__vf{vf}__profile__exec_quantum_ms"] = quantum
        files[f"sriov_admin__vf{vf}__profile__preempt_timeout_us"] = "0"
        files[f"sriov_admin__vf{vf}__profile__vram_quota"] = str(4 * GIB)
    assert claim(**files).facts == (
        ("SR-IOV admin", "sysfs sriov_admin"),
        ("VF 0-1", "execution quantum 20 ms, VRAM 4096 MiB"),
        ("VF 9", "execution quantum 40 ms, VRAM 4096 MiB"),
    )


@pytest.mark.parametrize("text", ["", "-1", "9" * 60, "twenty"])
def test_a_profile_that_is_no_number_is_left_out(text: str) -> None:
    assert claim(sriov_admin__vf1__profile__exec_quantum_ms=text).facts == ()


@pytest.mark.parametrize(
    ("driver", "sriov", "files", "admin"),
    [
        ("xe", Sriov(31), {}, "debugfs only"),
        ("xe", None, {}, None),
        ("vfio-pci", Sriov(31), {}, None),
        ("i915", Sriov(31), {"drm__card0__iov__pf__auto_provisioning": "1"}, "sysfs iov of Intel's i915"),
        ("i915", Sriov(31), {"drm__card0__prelim_iov__pf__auto_provisioning": "1"}, "sysfs prelim_iov of Intel's i915"),
    ],
)
def test_where_vfs_get_their_shares(driver: str, sriov: Sriov | None, files: dict[str, str], admin: str | None) -> None:
    assert dict(claim(driver, sriov, **files).facts).get("SR-IOV admin") == admin


def test_survivability_mode_is_no_health() -> None:
    health = claim(survivability_mode="Survivability mode type: Boot\nCapability Info: 0xc").health
    assert health is not None
    assert health.state is State.UNHEALTHY
    assert claim().health is None


def test_a_gvt_g_parent_tells_its_types() -> None:
    mdev = claim("i915", mdev_supported_types__i915_GVTg_V5_4__name="GVTg_V5_4").mdev
    assert mdev is not None
    assert [each.name for each in mdev.types] == ["GVTg_V5_4"]
