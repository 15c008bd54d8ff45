# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What of virtual GPUs there is room for: what the VFs say, bounded by what the GPU carries."""

from __future__ import annotations

import pytest

from devagent.model.gpu import VgpuFacts, VgpuType
from devagent.model.mdev import mdev_facts
from devagent.model.vgpu import vgpu_facts

ONE, EIGHT, EIGHT_C = (
    VgpuType("NVIDIA L40S-1Q", "1155", 1024, 32),
    VgpuType("NVIDIA L40S-8Q", "1157", 8192, 6),
    VgpuType("NVIDIA L40S-8C", "1166", 8192, 6),
)
TOLD = VgpuFacts(host_mode="sriov", types=(ONE, EIGHT, EIGHT_C))
NOTHING = "ID    : vGPU Name\n"
ALL = f"{NOTHING}1155  : NVIDIA L40S-1Q\n1157  : NVIDIA L40S-8Q\n1166  : NVIDIA L40S-8C\n"
EIGHTS = f"{NOTHING}1157  : NVIDIA L40S-8Q\n1166  : NVIDIA L40S-8C\n"


def vfs(*vfs: tuple[str, str]) -> dict[str, str]:
    """Gives the files of VFs by what each could carry, and what it carries."""
    files = {}
    for index, (creatable, current) in enumerate(vfs):
        files[f"virtfn{index}/nvidia/creatable_vgpu_types"] = creatable.strip()
        files[f"virtfn{index}/nvidia/current_vgpu_type"] = current
    return files


def available(files: dict[str, str], told: VgpuFacts | None = TOLD) -> dict[str, int | None]:
    facts = vgpu_facts(files, mdev_facts(files), told)
    assert facts is not None
    return {each.name[7:]: each.available for each in facts.types}


def test_an_empty_gpu_has_room_for_as_many_as_it_carries() -> None:
    assert available(vfs(*[(ALL, "0")] * 32)) == {"L40S-1Q": 32, "L40S-8Q": 6, "L40S-8C": 6}


def test_fewer_vfs_carry_fewer() -> None:
    assert available(vfs(*[(ALL, "0")] * 4)) == {"L40S-1Q": 4, "L40S-8Q": 4, "L40S-8C": 4}


def test_what_is_carried_takes_room_from_all_of_its_size() -> None:
    assert available(vfs((NOTHING, "1157"), *[(EIGHTS, "0")] * 15)) == {"L40S-1Q": 0, "L40S-8Q": 5, "L40S-8C": 5}


def test_a_full_gpu_has_no_room() -> None:
    files = vfs(*[(NOTHING, "1157")] * 6, *[(NOTHING, "0")] * 10)
    assert set(available(files).values()) == {0}
    facts = vgpu_facts(files, None, TOLD)
    assert facts is not None
    assert (facts.framework, facts.active) == ("vfio", 6)


def test_without_nvml_the_vfs_alone_tell() -> None:
    files = vfs((ALL, "0"), (EIGHTS, "0"))
    assert available(files, None) == {"L40S-1Q": 1, "L40S-8Q": 2, "L40S-8C": 2}
    facts = vgpu_facts(files, None, None)
    assert facts is not None
    assert facts.types[0] == VgpuType("NVIDIA L40S-1Q", "1155", available=1)


@pytest.mark.parametrize("text", ["0", "", "-1", "1157x", "none"])
def test_only_a_number_is_a_vgpu(text: str) -> None:
    facts = vgpu_facts({"virtfn0/nvidia/current_vgpu_type": text}, None, TOLD)
    assert facts is not None
    assert (facts.framework, facts.active, facts.types) == ("vfio", 0, TOLD.types)


def test_nvml_may_know_of_more_vgpus() -> None:
    facts = vgpu_facts(vfs((ALL, "0")), None, VgpuFacts(active=2))
    assert facts is not None
    assert facts.active == 2


def test_before_there_are_vfs_the_framework_is_unknown() -> None:
    assert vgpu_facts({}, None, TOLD) == TOLD
    assert vgpu_facts({"reset_method": "flr"}, None, None) is None


def mdev(parent: str, type: str, available: int, name: str, made: str = "") -> dict[str, str]:
    folder = f"{parent}mdev_supported_types/{type}"
    files = {f"{folder}/name": name, f"{folder}/available_instances": str(available)}
    return files | ({f"{folder}/devices/{made}/uevent": ""} if made else {})


MADE = "4b20d080-1b54-4048-85b3-a6a62d165c01"


def test_a_gpu_that_is_itself_the_parent_counts_right() -> None:
    files = mdev("", "nvidia-1155", 12, "NVIDIA L40S-1Q", MADE) | mdev("", "nvidia-9", 2, "NVIDIA X-9")
    facts = vgpu_facts(files, mdev_facts(files), TOLD)
    assert facts is not None
    assert (facts.framework, facts.active, facts.host_mode) == ("mdev", 1, "sriov")
    assert facts.types == (
        VgpuType("NVIDIA L40S-1Q", "nvidia-1155", 1024, 32, 12),
        VgpuType("NVIDIA X-9", "nvidia-9", available=2),
    )


def test_vfs_that_are_parents_share_the_gpus_room() -> None:
    files = mdev("virtfn0/", "nvidia-1157", 0, "NVIDIA L40S-8Q", MADE)
    for index in range(1, 16):
        files |= mdev(f"virtfn{index}/", "nvidia-1157", 1, "NVIDIA L40S-8Q")
    assert available(files) == {"L40S-8Q": 5}
