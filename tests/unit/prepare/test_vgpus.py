# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""vGPUs by NVIDIA's own framework, mediated devices, and MIG below them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from devagent.model.claim import Mode
from devagent.model.gpu import MigFacts, MigProfile
from devagent.model.handle import MdevHandle, PciHandle
from devagent.model.plan import Plan, Step
from devagent.model.preparation import Holder, Holdings, Refusal, RefusalKind
from devagent.model.user import User
from devagent.prepare.planner import plan
from devagent.prepare.treatment import Treatment

from .scenes import A40, ALICE, BOB, H100, H100_NVML, L40S, NOBODY, T4, Machine, held, on_bus, provider

GPU = "0000:3b:00.0"
VFS = [f"0000:3b:00.{function}" for function in (4, 5, 6, 7)]
EIGHT, SIXTEEN = "NVIDIA L40S-8Q", "NVIDIA L40S-16Q"


def machine(device: Any, mode: Mode = Mode.VGPU, types: dict[str, str | None] | None = None, **more: Any) -> Machine:
    return Machine(on_bus(device, **more), {GPU: Treatment(mode, types=types or {"CUSTOM_VGPU": None})})


def h100() -> Machine:
    return machine(H100, nvml={GPU: H100_NVML})


def mig(of: Machine, **values: Any) -> Machine:
    """Gives the same machine with other MIG facts."""
    (gpu,) = (each for each in of.devices if each.address == GPU)
    facts = gpu.claim.gpu
    assert facts is not None
    assert facts.mig is not None
    changed = replace(gpu, claim=replace(gpu.claim, gpu=replace(facts, mig=replace(facts.mig, **values))))
    return replace(of, devices=tuple(changed if each is gpu else each for each in of.devices))


# --- NVIDIA's vendor-specific VFIO ---


def test_a_vgpu_is_a_type_on_a_free_vf_that_stays_with_its_driver() -> None:
    l40s = machine(L40S)
    made = l40s.planned(l40s.group(GPU, vgpu_type=EIGHT))
    assert made.steps == (Step("set_vgpu_type", VFS[0], {"type": 1155}, {"type": 0}),)
    assert made.handles == (PciHandle(provider(GPU, l40s.devices), "CUSTOM_VGPU", VFS[0]),)


def test_the_class_can_stand_for_the_type() -> None:
    l40s = machine(L40S, types={"CUSTOM_VGPU_16Q": SIXTEEN})
    assert l40s.planned(l40s.group(GPU)).steps[0].arguments == {"type": 1156}
    refusal = l40s.refused(l40s.group(GPU, vgpu_type=EIGHT))
    reason = f"CUSTOM_VGPU_16Q is '{SIXTEEN}': it cannot be '{EIGHT}'"
    assert refusal == Refusal(RefusalKind.INVALID, reason, GPU)


def test_classes_of_different_types_can_be_asked_for_at_once() -> None:
    l40s = machine(L40S, types={"CUSTOM_A": EIGHT, "CUSTOM_B": SIXTEEN})
    both = replace(l40s.group(GPU), resources={"CUSTOM_B": 1, "CUSTOM_A": 2})
    made = l40s.planned(both)
    assert [(step.target, step.arguments["type"]) for step in made.steps] == [
        (VFS[0], 1155),
        (VFS[1], 1155),
        (VFS[2], 1156),
    ]


def test_without_a_type_the_possible_ones_are_said() -> None:
    l40s = machine(L40S)
    refusal = l40s.refused(l40s.group(GPU))
    reason = f"which type of {GPU} is not said: it has {SIXTEEN}, {EIGHT}"
    assert refusal == Refusal(RefusalKind.INVALID, reason, GPU)


def test_not_even_the_only_type_is_taken_without_being_said() -> None:
    t4 = machine(T4)
    assert t4.refused(t4.group(GPU)).reason == f"which type of {GPU} is not said: it has GRID T4-1B"


def test_a_gpu_without_any_type_says_so() -> None:
    nothing = {"nvidia/current_vgpu_type": "0", "nvidia/creatable_vgpu_types": "ID    : vGPU Name\n"}
    bare = machine({**L40S, "vfs": {**L40S["vfs"], "attributes": nothing}})
    assert bare.refused(bare.group(GPU, vgpu_type=EIGHT)).reason == f"{GPU} has no type '{EIGHT}': it has none"


def test_an_unknown_type_may_be_another_gpus() -> None:
    l40s = machine(L40S)
    refusal = l40s.refused(l40s.group(GPU, vgpu_type="NVIDIA L4-1Q"))
    reason = f"{GPU} has no type 'NVIDIA L4-1Q': it has {SIXTEEN}, {EIGHT}"
    assert refusal == Refusal(RefusalKind.PERMANENT, reason, GPU)


def test_a_vf_that_carries_somebodys_vgpu_is_busy() -> None:
    l40s = machine(L40S)
    l40s.vgpus[VFS[0]] = 1155
    assert l40s.planned(l40s.group(GPU, vgpu_type=EIGHT)).steps[0].target == VFS[1]
    refusal = l40s.refused(l40s.group(GPU, at=VFS[0], vgpu_type=EIGHT))
    assert refusal.kind is RefusalKind.RETRY
    assert refusal.reason == f"{VFS[0]} carries a vGPU of type 1155 that no consumer holds"


def test_a_type_that_no_vf_can_make_now_is_busy_with_those_who_have_the_others() -> None:
    full = {
        **L40S["vfs"],
        "attributes": {"nvidia/current_vgpu_type": "0", "nvidia/creatable_vgpu_types": "ID : Name\n"},
    }
    l40s = machine({**L40S, "vfs": full}, nvml={GPU: with_types()})
    refusal = l40s.refused(l40s.group(GPU, vgpu_type=EIGHT), holdings=held(VFS[3]))
    assert (refusal.kind, refusal.holders) == (RefusalKind.RETRY, (Holder(BOB),))
    consumers = [f"{letter}e1f0f6a-27d4-4a3c-9a3e-0c1d2e3f4a5b" for letter in "fbda"]
    everybody = Holdings(dict(zip(VFS, consumers, strict=True)))
    crowd = l40s.refused(l40s.group(GPU, vgpu_type=EIGHT), holdings=everybody).holders
    assert crowd == tuple(map(Holder, sorted(consumers)))


def without(of: Machine, path: str, text: str | None = None) -> Machine:
    """Gives the same machine, on which one file below the GPU says something else, or is not there."""
    (gpu,) = (each for each in of.devices if each.address == GPU)
    files = {name: old for name, old in gpu.function.attributes.items() if name != path}
    files |= {path: text} if text is not None else {}
    changed = replace(gpu, function=replace(gpu.function, attributes=files))
    return replace(of, devices=tuple(changed if each is gpu else each for each in of.devices))


def test_a_vf_that_does_not_say_what_it_carries_is_passed_over() -> None:
    l40s = without(machine(L40S), "virtfn0/nvidia/current_vgpu_type")
    assert l40s.planned(l40s.group(GPU, vgpu_type=EIGHT)).steps[0].target == VFS[1]
    refusal = l40s.refused(l40s.group(GPU, at=VFS[0], vgpu_type=EIGHT))
    assert (refusal.kind, refusal.address) == (RefusalKind.PERMANENT, VFS[0])
    assert refusal.reason == f"{VFS[0]} does not say which vGPU it carries"


@pytest.mark.parametrize("table", [None, "ID    : vGPU Name\n1156  : NVIDIA L40S-16Q\n"])
def test_a_vf_on_which_the_type_cannot_be_made_now_is_passed_over(table: str | None) -> None:
    l40s = without(machine(L40S), "virtfn0/nvidia/creatable_vgpu_types", table)
    assert l40s.planned(l40s.group(GPU, vgpu_type=EIGHT)).steps[0].target == VFS[1]
    refusal = l40s.refused(l40s.group(GPU, at=VFS[0], vgpu_type=EIGHT), holdings=held(VFS[3]))
    assert (refusal.kind, refusal.address, refusal.holders) == (RefusalKind.RETRY, VFS[0], (Holder(BOB),))
    assert refusal.reason == f"{VFS[0]} has no room for a vGPU {EIGHT} now"


def test_a_vf_that_shares_its_iommu_group_carries_no_vgpu() -> None:
    l40s = machine(L40S)
    (gpu,) = (each for each in l40s.devices if each.address == GPU)
    assert gpu.function.sriov is not None
    crowded = tuple(replace(vf, iommu_group=gpu.function.iommu_group) for vf in gpu.vfs)
    sriov = replace(gpu.function.sriov, vfs=crowded)
    changed = replace(gpu, function=replace(gpu.function, sriov=sriov))
    l40s = replace(l40s, devices=tuple(changed if each is gpu else each for each in l40s.devices))
    refusal = l40s.refused(l40s.group(GPU, at=VFS[0], vgpu_type=EIGHT))
    assert refusal.kind is RefusalKind.PERMANENT
    assert "shares IOMMU group" in refusal.reason


def with_types() -> dict[str, Any]:
    types = [{"name": EIGHT, "id": "1155", "memory_mib": 8192, "total": 6}]
    return {"name": "NVIDIA L40S", "facts": {"vgpu": {"types": types}}}


def test_groups_of_one_request_count_together() -> None:
    l40s = machine(L40S)
    three = l40s.group(GPU, 3, vgpu_type=EIGHT)
    refusal = l40s.refused(three, l40s.group(GPU, 2, vgpu_type=EIGHT))
    assert refusal.kind is RefusalKind.RETRY
    assert refusal.reason == f"{GPU} has room for 1 more {EIGHT}, 2 asked for"


def test_what_is_promised_to_others_but_not_made_yet_counts() -> None:
    l40s = machine(L40S)
    refusal = l40s.refused(l40s.group(GPU, 4, vgpu_type=EIGHT), holdings=held(VFS[3]))
    reason = f"{GPU} has room for 3 more {EIGHT}, 4 asked for"
    assert refusal == Refusal(RefusalKind.RETRY, reason, GPU, (Holder(BOB),))


def test_what_others_have_and_the_look_shows_is_not_counted_a_second_time() -> None:
    l40s = machine(L40S)
    l40s.vgpus |= {VFS[2]: 1155, VFS[3]: 1155}
    (gpu,) = (each for each in l40s.devices if each.address == GPU)
    facts = gpu.claim.gpu
    assert facts is not None
    assert facts.vgpu is not None
    types = tuple(replace(each, available=2) for each in facts.vgpu.types)
    fewer = replace(gpu, claim=replace(gpu.claim, gpu=replace(facts, vgpu=replace(facts.vgpu, types=types))))
    l40s = replace(l40s, devices=tuple(fewer if each is gpu else each for each in l40s.devices))
    made = l40s.planned(l40s.group(GPU, 2, vgpu_type=EIGHT), holdings=held(VFS[2], VFS[3]))
    assert [handle.function for handle in made.handles] == VFS[:2]


def test_more_than_the_gpu_ever_carries_is_permanent() -> None:
    l40s = machine(L40S, nvml={GPU: with_types()})
    refusal = l40s.refused(l40s.group(GPU, 7, vgpu_type=EIGHT))
    reason = f"{GPU} never has more than 6 {EIGHT}, 7 asked for"
    assert refusal == Refusal(RefusalKind.PERMANENT, reason, GPU)
    (known,) = with_types()["facts"]["vgpu"]["types"]
    four = machine(L40S, nvml={GPU: {"name": "NVIDIA L40S", "facts": {"vgpu": {"types": [{**known, "total": 4}]}}}})
    assert len(four.planned(four.group(GPU, 4, vgpu_type=EIGHT)).handles) == 4


def test_before_the_vfs_are_made_there_is_nothing_to_give() -> None:
    bare = machine({**L40S, "vfs": {"total": 32}})
    refusal = bare.refused(bare.group(GPU, vgpu_type=EIGHT))
    assert (refusal.kind, refusal.address) == (RefusalKind.PERMANENT, GPU)
    assert refusal.reason == f"{GPU} carries no virtual devices now: an NVIDIA GPU needs its VFs first"


# --- MIG ---


def test_a_mig_profile_makes_the_instance_and_then_the_vgpu_for_computing() -> None:
    gpu = h100()
    made = gpu.planned(gpu.group(GPU, mig_profile="1g.10gb"))
    assert [(step.verb, step.target, dict(step.arguments)) for step in made.steps] == [
        ("create_mig", GPU, {"profile": "1g.10gb", "placement": None}),
        ("set_vgpu_type", VFS[0], {"type": 1130}),
    ]


def test_every_vgpu_gets_an_instance_of_its_own() -> None:
    gpu = h100()
    made = gpu.planned(gpu.group(GPU, 2, mig_profile="1g.10gb"))
    assert [step.verb for step in made.steps] == ["create_mig", "create_mig", "set_vgpu_type", "set_vgpu_type"]


def test_instances_of_several_groups_count_together() -> None:
    gpu = h100()
    two = gpu.group(GPU, 2, mig_profile="1g.10gb")
    assert gpu.refused(two, two).reason == f"{GPU} has room for 1 more MIG 1g.10gb, 2 asked for"


def test_the_series_can_be_asked_for() -> None:
    gpu = h100()
    made = gpu.planned(gpu.group(GPU, mig_profile="1g.10gb", vgpu_type="NVIDIA H100-1-10Q"))
    assert made.steps[1].arguments == {"type": 1131}


def test_the_series_can_be_that_of_the_class() -> None:
    gpu = machine(H100, types={"CUSTOM_Q": "NVIDIA H100-1-10Q"}, nvml={GPU: H100_NVML})
    made = gpu.planned(gpu.group(GPU, mig_profile="1g.10gb"))
    assert made.steps[1].arguments == {"type": 1131}


def test_a_profile_with_media_engines_has_types_of_its_own() -> None:
    gpu = h100()
    assert gpu.planned(gpu.group(GPU, mig_profile="1g.10gb+me")).steps[1].arguments == {"type": 1132}


@pytest.mark.parametrize(
    ("count", "profile", "kind", "reason"),
    [
        (4, "1g.10gb", RefusalKind.RETRY, f"{GPU} has room for 3 more MIG 1g.10gb, 4 asked for"),
        (8, "1g.10gb", RefusalKind.PERMANENT, f"{GPU} never has more than 7 MIG 1g.10gb, 8 asked for"),
        (1, "7g.80gb", RefusalKind.RETRY, f"{GPU} has room for 0 more MIG 7g.80gb, 1 asked for"),
        (
            1,
            "2g.20gb",
            RefusalKind.PERMANENT,
            f"mig_profile: {GPU} has no '2g.20gb': it has 1g.10gb, 1g.10gb+me, 7g.80gb",
        ),
    ],
)
def test_what_does_not_fit_is_refused(count: int, profile: str, kind: RefusalKind, reason: str) -> None:
    gpu = h100()
    refusal = gpu.refused(gpu.group(GPU, count, mig_profile=profile))
    assert refusal == Refusal(kind, reason, GPU)


def test_a_type_of_another_profile_is_refused() -> None:
    gpu = h100()
    refusal = gpu.refused(gpu.group(GPU, mig_profile="1g.10gb", vgpu_type="NVIDIA H100-7-80C"))
    assert refusal.reason == f"{GPU} has no type 'NVIDIA H100-7-80C': it has NVIDIA H100-1-10C, NVIDIA H100-1-10Q"


def test_a_class_of_a_type_that_only_a_mig_instance_carries_makes_one() -> None:
    gpu = machine(H100, types={"CUSTOM_MIG_1G_10GB": "NVIDIA H100-1-10C"}, nvml={GPU: H100_NVML})
    made = gpu.planned(gpu.group(GPU))
    assert [(step.verb, dict(step.arguments)) for step in made.steps] == [
        ("create_mig", {"profile": "1g.10gb", "placement": None}),
        ("set_vgpu_type", {"type": 1130}),
    ]
    free = machine(H100, types={"VGPU": None}, nvml={GPU: H100_NVML})
    for name in ("vgpu_type", "mdev_type"):
        made = free.planned(free.group(GPU, **{name: "1132"}))
        assert made.steps[0].arguments["profile"] == "1g.10gb+me"


def test_an_instance_that_somebody_has_made_beforehand_is_used() -> None:
    table = {"nvidia/current_vgpu_type": "0", "nvidia/creatable_vgpu_types": "ID : Name\n1130 : NVIDIA H100-1-10C\n"}
    ready = {**H100, "vfs": {**H100["vfs"], "attributes": table}}
    gpu = machine(ready, types={"CUSTOM_A": "NVIDIA H100-1-10C"}, nvml={GPU: H100_NVML})
    assert [step.verb for step in gpu.planned(gpu.group(GPU)).steps] == ["set_vgpu_type"]
    asked = gpu.planned(gpu.group(GPU, mig_profile="1g.10gb"))
    assert [step.verb for step in asked.steps] == ["create_mig", "set_vgpu_type"]


def test_where_nobody_says_how_many_more_fit_the_driver_decides() -> None:
    gpu = h100()
    unknown = mig(gpu, profiles=(MigProfile("1g.10gb", 9856, 7),))
    assert [step.verb for step in unknown.planned(unknown.group(GPU, 4, mig_profile="1g.10gb")).steps][:4] == [
        "create_mig"
    ] * 4
    none = mig(gpu, profiles=())
    assert none.refused(none.group(GPU, mig_profile="1g.10gb")).reason.endswith("has no '1g.10gb': it has none")


@pytest.mark.parametrize("facts", [MigFacts(False, False), MigFacts(False, True), MigFacts(True, False)])
def test_mig_is_never_turned_on_for_a_consumer(facts: MigFacts) -> None:
    gpu = mig(h100(), enabled=facts.enabled, pending=facts.pending)
    refusal = gpu.refused(gpu.group(GPU, mig_profile="1g.10gb"))
    assert (refusal.kind, refusal.address) == (RefusalKind.PERMANENT, GPU)
    assert refusal.reason.startswith(f"{GPU} has MIG off")


def test_a_gpu_that_knows_no_mig_has_it_off() -> None:
    l40s = machine(L40S)
    refusal = l40s.refused(l40s.group(GPU, mig_profile="1g.10gb"))
    assert (refusal.kind, refusal.address) == (RefusalKind.PERMANENT, GPU)
    assert refusal.reason.startswith(f"{GPU} has MIG off")


def test_an_instance_is_made_by_its_profile_and_removed_by_what_was_made() -> None:
    gpu = h100()
    step, *_ = gpu.planned(gpu.group(GPU, mig_profile="1g.10gb")).steps
    assert (step.arguments, step.undo) == ({"profile": "1g.10gb", "placement": None},) * 2


# --- mediated devices ---


def test_a_mediated_device_is_made_with_a_uuid_of_the_consumers_own() -> None:
    t4 = machine(T4)
    made, again = (t4.planned(t4.group(GPU, vgpu_type="GRID T4-1B")) for _ in range(2))
    (handle,) = made.handles
    assert isinstance(handle, MdevHandle)
    assert (handle.parent, handle.mdev_type) == (GPU, "nvidia-222")
    arguments = {"type": "nvidia-222", "uuid": handle.uuid}
    assert made.steps == (Step("create_mdev", GPU, arguments, arguments),)
    assert again == made
    assert t4.planned(t4.group(GPU, vgpu_type="nvidia-222"), consumer=BOB).handles != made.handles


def test_a_mediated_devices_type_can_be_asked_for_by_either_name() -> None:
    t4 = machine(T4, Mode.MDEV)
    made = t4.planned(t4.group(GPU, mdev_type="GRID T4-1B"))
    assert made == t4.planned(t4.group(GPU, vgpu_type="GRID T4-1B"))


def test_a_parent_without_vfs_makes_several() -> None:
    t4 = machine(T4)
    made = t4.planned(t4.group(GPU, 2, vgpu_type="GRID T4-1B"), t4.group(GPU, vgpu_type="GRID T4-1B"))
    assert len({handle.key for handle in made.handles}) == 3
    assert {handle.function for handle in made.handles} == {GPU}
    refusal = t4.refused(t4.group(GPU, 4, vgpu_type="GRID T4-1B"))
    assert (refusal.kind, refusal.reason) == (
        RefusalKind.RETRY,
        f"{GPU} has room for 3 more GRID T4-1B, 4 asked for",
    )


def test_what_others_will_make_of_the_parent_counts_until_it_is_seen() -> None:
    t4 = machine(T4)
    uid = "4b20d080-1b54-4048-85b3-a6a62d165c01"
    holdings = Holdings(consumers={uid: BOB}, parents={uid: GPU})
    refusal = t4.refused(t4.group(GPU, 3, vgpu_type="GRID T4-1B"), holdings=holdings)
    assert (refusal.kind, refusal.holders) == (RefusalKind.RETRY, (Holder(BOB),))
    assert t4.planned(t4.group(GPU, 2, vgpu_type="GRID T4-1B"), holdings=holdings).handles
    t4.mdevs[uid] = (GPU, "nvidia-222")
    assert t4.planned(t4.group(GPU, 3, vgpu_type="GRID T4-1B"), holdings=holdings).handles


def test_a_parent_of_which_more_is_promised_than_it_has_room_for_has_room_for_none() -> None:
    t4 = machine(T4)
    uids = [f"4b20d080-1b54-4048-85b3-a6a62d165c0{number}" for number in range(4)]
    holdings = Holdings(consumers=dict.fromkeys(uids, BOB), parents=dict.fromkeys(uids, GPU))
    refusal = t4.refused(t4.group(GPU, vgpu_type="GRID T4-1B"), holdings=holdings)
    reason = f"{GPU} has room for 0 more GRID T4-1B, 1 asked for"
    assert refusal == Refusal(RefusalKind.RETRY, reason, GPU, (Holder(BOB),))


def test_what_others_will_make_of_vfs_counts_until_it_is_seen() -> None:
    a40 = machine(A40)
    uid = "4b20d080-1b54-4048-85b3-a6a62d165c01"
    (gpu,) = (each for each in a40.devices if each.address == GPU)
    assert gpu.claim.mdev is not None
    assert [(each.name, each.available) for each in gpu.claim.mdev.types] == [("NVIDIA A40-8Q", 3)]
    three = a40.group(GPU, 3, vgpu_type="NVIDIA A40-8Q")
    assert len(a40.planned(three).handles) == 3
    refusal = a40.refused(three, holdings=Holdings(consumers={uid: BOB}, parents={uid: VFS[0]}))
    assert refusal.reason == f"{GPU} has room for 2 more NVIDIA A40-8Q, 3 asked for"


def test_a_uuid_that_is_left_over_is_not_used_again() -> None:
    t4 = machine(T4)
    (first,) = t4.planned(t4.group(GPU, vgpu_type="GRID T4-1B")).handles
    t4.mdevs[first.key] = (GPU, "nvidia-222")
    (second,) = t4.planned(t4.group(GPU, vgpu_type="GRID T4-1B")).handles
    assert second.key != first.key


def test_a_uuid_that_the_journal_knows_is_not_used_again_though_the_look_does_not_show_it() -> None:
    t4 = machine(T4)
    (first,) = t4.planned(t4.group(GPU, vgpu_type="GRID T4-1B")).handles
    holdings = Holdings(consumers={first.key: ALICE}, parents={first.key: GPU})
    (second,) = t4.planned(t4.group(GPU, vgpu_type="GRID T4-1B"), holdings=holdings).handles
    assert second.key != first.key


def test_a_parent_that_has_no_room_now_is_passed_over() -> None:
    a40 = without(machine(A40), "virtfn0/mdev_supported_types/nvidia-558/available_instances", "0")
    assert a40.planned(a40.group(GPU, vgpu_type="NVIDIA A40-8Q")).steps[0].target == VFS[1]
    taken = Holdings(consumers={"u": BOB}, parents={"u": VFS[2]})
    refusal = a40.refused(a40.group(GPU, at=VFS[0], vgpu_type="NVIDIA A40-8Q"), holdings=taken)
    assert (refusal.kind, refusal.address, refusal.holders) == (RefusalKind.RETRY, VFS[0], (Holder(BOB),))
    assert refusal.reason == f"{VFS[0]} has no room for a NVIDIA A40-8Q now"


def a100_with_mig(room: int) -> Machine:
    """Gives a GPU in parts whose VFs are parents of so many mediated devices of one type."""
    types = {"nvidia-699": {"name": "GRID A100-1-5C", "available_instances": room}}
    facts = {
        "mig": {"enabled": True, "pending": True, "profiles": [{"name": "1g.5gb", "memory_mib": 4864, "total": 7}]}
    }
    return machine(
        {**A40, "id": "10de:20f1", "mdev": {"types": types, "vfs": True}},
        nvml={GPU: {"name": "NVIDIA A100-PCIE-40GB", "facts": facts}},
    )


def test_below_a_mig_instance_a_mediated_device_needs_no_room_before_that_is_made() -> None:
    a100 = a100_with_mig(0)
    made = a100.planned(a100.group(GPU, mig_profile="1g.5gb"))
    assert [(step.verb, step.target) for step in made.steps] == [("create_mig", GPU), ("create_mdev", VFS[0])]
    asked = a100.group(GPU, vgpu_type="GRID A100-1-5C")
    assert [step.verb for step in a100.planned(asked).steps] == ["create_mig", "create_mdev"]
    ready = a100_with_mig(1)
    assert [(step.verb, step.target) for step in ready.planned(asked).steps] == [("create_mdev", VFS[0])]


def test_vfs_that_are_parents_make_one_each() -> None:
    a40 = machine(A40)
    made = a40.planned(a40.group(GPU, 2, vgpu_type="NVIDIA A40-8Q"))
    assert [step.target for step in made.steps] == VFS[:2]
    taken = Holdings(consumers={"u": BOB}, parents={"u": VFS[0]})
    assert a40.planned(a40.group(GPU, vgpu_type="NVIDIA A40-8Q"), holdings=taken).steps[0].target == VFS[1]


def test_a_whole_parent_of_somebodys_mediated_device_is_not_given() -> None:
    t4 = Machine(on_bus(T4))
    taken = Holdings(consumers={"u": BOB}, parents={"u": GPU})
    refusal = t4.refused(t4.group(GPU), holdings=taken)
    assert (refusal.kind, refusal.holders) == (RefusalKind.RETRY, (Holder(BOB),))


def test_other_devices_than_gpus_make_mediated_devices_by_their_own_name() -> None:
    idxd = {
        "id": "8086:0b25",
        "class": "088000",
        "driver": "idxd",
        "mdev": {"types": {"idxd-1dwq-v1": {"name": "idxd-1dwq-v1", "available_instances": 3}}},
    }
    dsa = machine(idxd, Mode.MDEV, {"CUSTOM_DSA": "idxd-1dwq-v1"})
    (handle,) = dsa.planned(dsa.group(GPU)).handles
    assert isinstance(handle, MdevHandle)
    assert handle.mdev_type == "idxd-1dwq-v1"
    assert dsa.planned(dsa.group(GPU, mdev_type="idxd-1dwq-v1"), consumer=ALICE).handles == (handle,)


def test_a_parent_stays_with_the_host_so_its_group_who_has_it_open_and_what_was_made_of_it_matter_not() -> None:
    beside = {"id": "10de:1eb8", "class": "030000", "driver": "nvidia", "at": "01.0", "iommu_with": "00.0"}
    crowded = Machine(
        on_bus({**T4, "at": "00.0"}, beside),
        {GPU: Treatment(Mode.MDEV, types={"CUSTOM_A": None}, vf_indexes=frozenset({0}))},
    )
    opened = (replace(each, users=(User(7, "nvidia-vgpu-mgr", "/dev/nvidia0"),)) for each in crowded.devices)
    crowded = replace(crowded, devices=tuple(opened))
    asked = crowded.group(GPU, vgpu_type="GRID T4-1B")
    seen = replace(crowded.view(), stale=frozenset({GPU}))
    assert len(seen.groups[seen.parts[GPU][1].iommu_group or 0]) == 2
    made = plan(ALICE, [asked], seen, NOBODY)
    assert isinstance(made, Plan)
    assert [step.verb for step in made.steps] == ["create_mdev"]
