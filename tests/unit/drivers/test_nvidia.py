# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""NVIDIA GPUs are known by their ids, whatever driver they are on."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devagent.drivers.nvidia import MODELS, Nvidia
from devagent.model.claim import Claim, Kind, Mode
from devagent.model.gpu import (
    Fabric,
    GpuFacts,
    GpuLink,
    MemoryErrors,
    MigFacts,
    MigInstance,
    MigProfile,
    NvmlGpu,
    VgpuFacts,
    VgpuType,
)
from devagent.model.health import Health, State
from devagent.model.identity import Identity
from devagent.model.pci import Sriov

from ..custom_names import is_custom
from ..worlds import decide, function, look_at, port, rule, snapshot

A100 = {"id": "10de:20f1", "class": "030200", "driver": "nvidia", "vfs": {"total": 16, "offset": 4}}


@pytest.mark.parametrize("driver", ["nvidia", "vfio-pci", None])
def test_a_gpu_is_a_gpu_on_any_driver(tmp_path: Path, driver: str | None) -> None:
    (device,) = look_at(tmp_path, port(A100 | {"driver": driver})).values()
    assert (device.claim.driver, device.claim.kind, device.claim.vendor) == ("nvidia", Kind.GPU, "NVIDIA")
    assert device.claim.model == "A100 PCIe 40GB"
    assert device.claim.traits == frozenset({"CUSTOM_MODEL_A100_PCIE_40GB", "CUSTOM_MIG_CAPABLE"})
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


# --- with NVML ---

ADDRESS = "0000:3b:00.0"


def claimed(attributes: dict[str, str] | None = None, ids: str = "10de:20f1", **nvml: object) -> Claim:
    """Claims a GPU of which NVML says the facts given by their names."""
    top = {key: nvml.pop(key) for key in list(nvml) if key in NvmlGpu.__dataclass_fields__}
    answer = NvmlGpu(ADDRESS, GpuFacts(**nvml), **top)  # type: ignore[arg-type]
    return Nvidia().claim(function(ADDRESS, ids, attributes=attributes or {}, nvml=answer))


def test_what_nvml_says_is_the_gpus() -> None:
    claim = claimed(uuid="GPU-1", serial="132", memory_mib=40960, driver_version="575.57.08")
    assert claim.gpu == GpuFacts("GPU-1", "132", 40960)
    assert claim.identities == (Identity("nvml", "GPU-1"),)
    assert claim.facts == (("driver version", "575.57.08"),)
    assert claim.health == Health(State.HEALTHY)


def test_without_nvml_nothing_is_known_of_its_health() -> None:
    claim = Nvidia().claim(function())
    assert (claim.health, claim.identities, claim.gpu, claim.mdev) == (None, (), GpuFacts(), None)


def test_nvml_names_a_model_that_the_table_lacks_for_people_only() -> None:
    claim = claimed(ids="10de:ffff", name="NVIDIA Z9000")
    assert (claim.model, claim.traits) == ("NVIDIA Z9000", frozenset())


@pytest.mark.parametrize("device_id", MODELS)
def test_a_model_can_be_a_trait(device_id: str) -> None:
    assert all(is_custom(each) or each.startswith("HW_") for each in claimed(ids=f"10de:{device_id}").traits)


@pytest.mark.parametrize(("device_id", "capable"), [("1eb8", False), ("26b9", False), ("2335", True), ("2bb5", True)])
def test_what_can_be_divided_is_known_by_its_id(device_id: str, capable: bool) -> None:
    assert ("CUSTOM_MIG_CAPABLE" in Nvidia().claim(function(ids=f"10de:{device_id}")).traits) is capable


ROOM = (MigProfile("1g.5gb", 4864, 7, 4), MigProfile("3g.20gb", 19968, 2, 1), MigProfile("7g.40gb", 40192, 1, 0))
PLACED = (MigInstance(1, "3g.20gb", 0, 4), MigInstance(2, "1g.5gb", 4, 1), MigInstance(3, "1g.5gb", 5, 1))


@pytest.mark.parametrize(
    ("mig", "text", "refusal"),
    [
        (MigFacts(False, False), "off", None),
        (MigFacts(False, True), "off, on after a reset", "MIG will be on after its next reset"),
        (MigFacts(True, False), "on, off after a reset", "MIG is on"),
        (MigFacts(True, True), "on", "MIG is on"),
        (MigFacts(True, True, ROOM), "on; room for 4x 1g.5gb or 1x 3g.20gb", "MIG is on"),
        (MigFacts(True, True, ROOM, PLACED), "on: 1x 3g.20gb, 2x 1g.5gb; room for 4x 1g.5gb or 1x 3g.20gb", "MIG is"),
    ],
)
def test_a_gpu_that_mig_divides_is_not_given_whole(mig: MigFacts, text: str, refusal: str | None) -> None:
    claim = claimed(mig=mig)
    assert dict(claim.facts)["MIG"] == text
    assert (Mode.WHOLE in claim.offers) is (refusal is None)
    assert claim.refusals.get(Mode.WHOLE, "").startswith(refusal or "")
    assert ("CUSTOM_MIG_ENABLED" in claim.traits) is mig.enabled


def test_a_gpu_that_carries_vgpus_is_not_given_whole() -> None:
    claim = claimed(vgpu=VgpuFacts("mdev", active=2))
    assert claim.refusals[Mode.WHOLE] == "carries 2 vGPUs"
    claim = claimed(vgpu=VgpuFacts(host_mode="sriov"))
    assert (Mode.WHOLE in claim.offers, claim.facts) == (True, (("vGPU", "no framework yet, 0 types, 0 active"),))


def test_vgpus_of_the_vendors_framework_come_from_the_vfs() -> None:
    table = "ID    : vGPU Name\n1155  : NVIDIA L40S-1Q\n"
    files = {"virtfn0/nvidia/creatable_vgpu_types": table, "virtfn0/nvidia/current_vgpu_type": "0"}
    claim = claimed(files, vgpu=VgpuFacts(heterogeneous=True, types=(VgpuType("NVIDIA L40S-1Q", "1155", 1024, 32),)))
    assert claim.gpu is not None
    assert claim.gpu.vgpu == VgpuFacts(
        "vfio", heterogeneous=True, types=(VgpuType("NVIDIA L40S-1Q", "1155", 1024, 32, 1),)
    )
    assert claim.facts == (("vGPU", "vfio, 1 type, 0 active, sizes can be mixed"),)
    assert "CUSTOM_VGPU_VFIO" in claim.traits


def test_mediated_devices_are_vgpus(tmp_path: Path) -> None:
    files = {
        "mdev_supported_types/nvidia-222/name": "GRID T4-1B",
        "mdev_supported_types/nvidia-222/available_instances": "15",
        "mdev_supported_types/nvidia-222/description": "num_heads=4, framebuffer=1024M, max_instance=16",
        "mdev_supported_types/nvidia-222/devices/4b20d080-1b54-4048-85b3-a6a62d165c01/uevent": "",
    }
    (device,) = look_at(tmp_path, port({"id": "10de:1eb8", "class": "030200", "attributes": files})).values()
    assert device.claim.gpu is not None
    assert device.claim.gpu.vgpu == VgpuFacts(
        "mdev", types=(VgpuType("GRID T4-1B", "nvidia-222", 1024, 16, 15),), active=1
    )
    assert device.claim.mdev is not None
    assert device.claim.mdev.devices == (("4b20d080-1b54-4048-85b3-a6a62d165c01", "nvidia-222"),)
    assert "CUSTOM_VGPU_MDEV" in device.claim.traits
    assert device.decision.reason == "carries 1 vGPU"


@pytest.mark.parametrize(
    ("links", "text"),
    [
        ((GpuLink("nvlink", "0000:5e:00.0", 1),), "1 link to 1 GPU"),
        ((GpuLink("nvlink", "0000:5e:00.0", 4), GpuLink("nvlink", "0000:af:00.0", 8)), "12 links to 2 GPUs"),
        ((GpuLink("nvlink", None, 18),), "18 links to switches"),
        ((GpuLink("nvlink", "0000:5e:00.0", 4), GpuLink("nvlink", None, 2)), "4 links to 1 GPU, 2 links to switches"),
    ],
)
def test_nvlinks_are_summed_up(links: tuple[GpuLink, ...], text: str) -> None:
    claim = claimed(links=links)
    assert claim.facts == (("NVLink", text),)
    assert "CUSTOM_NVLINK" in claim.traits


def test_a_clique_is_a_trait_within_its_cluster() -> None:
    claim = claimed(fabric=Fabric("completed", 3, "01234567-89ab-cdef-0123-456789abcdef"))
    assert "CUSTOM_NVLINK_CLIQUE_01234567_89AB_CDEF_0123_456789ABCDEF_3" in claim.traits
    assert claim.facts == (("NVLink fabric", "completed, clique 3"),)
    assert "CLIQUE" not in str(claimed(fabric=Fabric("completed", 3)).traits)


@pytest.mark.parametrize(
    ("nvml", "state", "words"),
    [
        ({"recovery_action": "none"}, State.HEALTHY, ""),
        ({"recovery_action": "gpu reset"}, State.UNHEALTHY, f"nvidia-smi --gpu-reset -i {ADDRESS}"),
        ({"recovery_action": "node reboot"}, State.UNHEALTHY, "a reboot of this host"),
        ({"recovery_action": "drain and reset"}, State.UNHEALTHY, f"then nvidia-smi --gpu-reset -i {ADDRESS}"),
        ({"recovery_action": "bus reset"}, State.UNHEALTHY, "a reset of its PCIe bus"),
        ({"recovery_action": "drain p2p"}, State.SUSPECT, "everything which uses NVLink is ended"),
        ({"recovery_action": "recover imex domain"}, State.SUSPECT, "restart nvidia-imex"),
        ({"recovery_action": "action 9"}, State.UNHEALTHY, "an action 9 that is not known here"),
        ({"errors": MemoryErrors(failure=True, pending=False)}, State.UNHEALTHY, "could not be remapped"),
        ({"errors": MemoryErrors(failure=False, pending=True)}, State.SUSPECT, "only mended by a reset"),
        ({"errors": MemoryErrors(ecc=True, uncorrected=2)}, State.HEALTHY, ""),
        ({"fabric": Fabric("in progress")}, State.SUSPECT, "is in progress (is nvidia-fabricmanager running?)"),
        ({"fabric": Fabric("limited capacity", 1)}, State.SUSPECT, "its NVLink fabric is limited capacity"),
        ({"lost": True}, State.LOST, "has fallen off the bus"),
        ({"failures": (("open", "Insufficient External Power"),)}, State.SUSPECT, "Insufficient External Power"),
        ({"uuid": "GPU-1", "failures": (("x", "Unknown Error"),)}, State.HEALTHY, ""),
    ],
)
def test_health_is_the_worst_that_nvml_says(nvml: dict[str, object], state: State, words: str) -> None:
    health = claimed(**nvml).health  # type: ignore[arg-type]
    assert health is not None
    assert health.state is state
    assert (words in health.reasons[0]) if words else health.reasons == ()


def test_all_that_is_wrong_is_said() -> None:
    health = claimed(lost=True, errors=MemoryErrors(failure=True), recovery_action="bus reset").health
    assert health is not None
    assert (health.state, len(health.reasons)) == (State.LOST, 3)


def test_notable_facts_are_said_in_words() -> None:
    errors = MemoryErrors(uncorrected=1, remapped_correctable=2, remapped_uncorrectable=1)
    missing = (("a", "not in this library"), ("b", "Unknown Error"), ("c", "not in this library"))
    assert claimed(errors=errors, failures=missing, uuid="GPU-1").facts == (
        ("memory", "3 rows remapped"),
        ("ECC", "1 uncorrected error since the driver was loaded"),
        ("NVML", "not in this library: a, c; Unknown Error: b"),
    )


NAMES = [pattern.replace("*", "{}") for pattern in Nvidia.asks]


@settings(deadline=None)
@given(
    st.dictionaries(
        st.builds(str.format, st.sampled_from(NAMES), st.text("0/x", max_size=3), st.just("y"), st.just("z")),
        st.text(max_size=40) | st.sampled_from(["0", "7", "7 : A-1Q", "ID : x\n7 : A-1Q\n8: B"]),
    )
)
def test_whatever_the_files_hold_is_a_claim(files: dict[str, str]) -> None:
    claim = claimed(files, vgpu=VgpuFacts(types=(VgpuType("A-1Q", "7", 1024, 4),)))
    assert not claim.offers.keys() & claim.refusals.keys()
