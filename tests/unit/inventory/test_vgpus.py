# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a rule of mode mdev or vgpu gives: its classes, counted from what exists and what there is room for."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devagent.drivers.nvidia import Nvidia
from devagent.inventory.build import build
from devagent.inventory.explain import explain
from devagent.inventory.vgpus import places
from devagent.model.claim import Mode
from devagent.model.device import Decision, Device, Share
from devagent.model.gpu import GpuFacts, MigFacts, MigInstance, MigProfile, NvmlGpu, VgpuFacts, VgpuType
from devagent.model.health import Health, State
from devagent.model.nova import NovaDevices
from devagent.model.pci import Function, Sriov, VirtualFunction
from devagent.model.policy import Policy, Rule
from devagent.model.provider import Inventory
from devagent.model.snapshot import Snapshot

from ..worlds import decide, function, look_at, port, rule, snapshot

GPU = "0000:3b:00.0"
ROOT = "0c6e1f57-6a3d-4f0b-9a55-2f7d5a3b8e10"
OURS = [str(uuid.uuid5(uuid.UUID(ROOT), str(number))) for number in range(4)]
NOVAS = "4b20d080-1b54-4048-85b3-a6a62d165c01"
EIGHT, SIXTEEN = "NVIDIA L40S-8Q", "NVIDIA L40S-16Q"
TOLD = (VgpuType(EIGHT, "1155", 8192, total=6), VgpuType(SIXTEEN, "1156", 16384, total=3))


def parts(mode: Mode = Mode.VGPU, **types: str | None) -> Rule:
    return rule(mode, types=tuple((f"CUSTOM_{name}" if name != "VGPU" else name, of) for name, of in types.items()))


def l40s(*carried: str, told: tuple[VgpuType, ...] = TOLD, **more: Any) -> list[Function]:
    """Gives a GPU with a VF for each of `carried`: the type that it carries, or the types that it could."""
    files = {}
    for index, text in enumerate(carried):
        current = text if text.isdigit() else "0"
        names = {each.name: each.id for each in TOLD}
        rows = "".join(f"{names[name]}  : {name}\n" for name in text.split(",") if name in names)
        files[f"virtfn{index}/nvidia/current_vgpu_type"] = current
        files[f"virtfn{index}/nvidia/creatable_vgpu_types"] = f"ID    : vGPU Name\n{rows}"
    vfs = [
        function(f"0000:3b:01.{index}", "10de:26b9", iommu_group=100 + index, physfn=GPU, driver="nvidia")
        for index in range(len(carried))
    ]
    links = tuple(VirtualFunction(index, vf.address, vf.driver, vf.iommu_group) for index, vf in enumerate(vfs))
    nvml = NvmlGpu(GPU, GpuFacts(vgpu=VgpuFacts(types=told)))
    head = function(ids="10de:26b9", sriov=Sriov(32, "26b9", links), attributes=files, nvml=nvml)
    return [replace(head, **more), *vfs]


def t4(available: str, *made: str, folder: str = "", **more: Any) -> Function:
    """Gives a GPU of which nvidia-222 can be made, so many more than those that exist."""
    start = f"{folder}mdev_supported_types/nvidia-222"
    files = {f"{start}/name": "GRID T4-8Q", f"{start}/available_instances": available}
    files |= {f"{start}/devices/{uid}/uevent": "" for uid in made}
    return function(ids="10de:1eb8", attributes=files, mdev_parent=True, **more)


def decided(functions: list[Function], how: Rule, **more: Any) -> Device:
    seen: Snapshot = replace(snapshot(*functions), **more)
    claims = [Nvidia().claim(each) for each in functions if each.physfn is None]
    return decide(seen, how, claims=claims)[GPU]


def given_by(functions: list[Function], how: Rule, **more: Any) -> tuple[Share, ...]:
    return decided(functions, how, **more).decision.given


FREE = f"{EIGHT},{SIXTEEN}"


# --- How much there is ---


def test_vgpus_are_counted_by_class_from_the_vfs_that_could_carry_them() -> None:
    device = decided(l40s(FREE, FREE, FREE, FREE), parts(A=EIGHT))
    assert device.decision == Decision(
        True, "4 of 4 CUSTOM_A possible now", "r", Mode.VGPU, "CUSTOM_A", 4, shares=(Share("CUSTOM_A", 4),)
    )


def test_a_made_one_is_still_a_part_of_the_total() -> None:
    assert given_by(l40s("1155", FREE, FREE), parts(A=EIGHT)) == (Share("CUSTOM_A", 3),)
    assert given_by([t4("3", OURS[0])], parts(Mode.MDEV, A="GRID T4-8Q")) == (Share("CUSTOM_A", 4),)
    assert given_by([t4("0", *OURS)], parts(Mode.MDEV, A="nvidia-222")) == (Share("CUSTOM_A", 4),)


def test_there_are_never_more_than_the_gpu_carries() -> None:
    assert given_by(l40s(*[FREE] * 5), parts(A=SIXTEEN)) == (Share("CUSTOM_A", 3),)


def test_what_another_type_keeps_from_being_made_is_closed() -> None:
    """A 16Q exists: on a GPU of one size at a time, no 8Q fits until it is gone."""
    decision = decided(l40s("1156", SIXTEEN, SIXTEEN, SIXTEEN), parts(A=EIGHT, B=SIXTEEN)).decision
    assert decision.given == (Share("CUSTOM_A", 4, closed=4), Share("CUSTOM_B", 3))
    assert decision.reason == "0 of 4 CUSTOM_A possible now; 3 of 3 CUSTOM_B possible now"
    assert (decision.resource_class, decision.total) == ("CUSTOM_A", 4), "the one with most stands for all"


def test_both_types_of_an_empty_gpu_are_open() -> None:
    assert given_by(l40s(FREE, FREE), parts(A=EIGHT, B=SIXTEEN)) == (Share("CUSTOM_A", 2), Share("CUSTOM_B", 2))


def test_a_class_without_a_type_counts_what_the_smallest_leaves_room_for() -> None:
    assert given_by(l40s("1156", EIGHT, FREE, FREE), parts(VGPU=None)) == (Share("VGPU", 4),)
    assert given_by(l40s("1155", EIGHT, EIGHT), parts(VGPU=None, A=EIGHT)) == (
        Share("CUSTOM_A", 3),
        Share("VGPU", 3, closed=1),
    )


def test_a_class_without_a_type_has_as_many_as_there_ever_could_be() -> None:
    shares = given_by(l40s("1156", *[SIXTEEN] * 5), parts(VGPU=None))
    assert shares == (Share("VGPU", 6, closed=3),), "six of the smallest type on an empty GPU"
    assert given_by(l40s(FREE, told=()), parts(VGPU=None)) == (Share("VGPU", 1),)


def test_classes_with_a_type_take_theirs_before_one_without() -> None:
    assert given_by(l40s(FREE), parts(A=None, VGPU=SIXTEEN)) == (Share("VGPU", 1), Share("CUSTOM_A", 1))


def test_beside_a_class_without_a_type_nothing_that_is_carried_is_strange() -> None:
    shares = given_by(l40s("1156", SIXTEEN), parts(A=EIGHT, VGPU=None))
    assert [share.resource_class for share in shares] == ["CUSTOM_A", "VGPU"]


def test_vfs_that_are_parents_of_mediated_devices_add_up() -> None:
    functions = l40s("", "", "")
    files: dict[str, str] = {}
    for index, made in enumerate(((OURS[0],), (), ())):
        files |= t4("0" if made else "1", *made, folder=f"virtfn{index}/").attributes
    head = replace(functions[0], attributes=files, mdev_parent=True, nvml=None)
    assert given_by([head, *functions[1:]], parts(Mode.MDEV, A="GRID T4-8Q")) == (Share("CUSTOM_A", 3),)
    few = replace(parts(Mode.MDEV, A="GRID T4-8Q"), vf_indexes=frozenset({1, 2}))
    assert given_by([head, *functions[1:]], few) == (Share("CUSTOM_A", 2),)
    both = replace(head, attributes={**files, **t4("1").attributes})
    assert given_by([both, *functions[1:]], few) == (Share("CUSTOM_A", 2),), "the PF itself is no parent beside its VFs"


def test_of_mediated_devices_on_vfs_there_are_no_more_than_the_gpu_has_room_for() -> None:
    """Each VF counts for itself, though all share one GPU's memory."""
    functions = l40s("", "", "", told=(VgpuType("GRID T4-8Q", "222", 8192, total=2),))
    files = {path: text for index in range(3) for path, text in t4("1", folder=f"virtfn{index}/").attributes.items()}
    head = replace(functions[0], attributes=files, mdev_parent=True)
    assert given_by([head, *functions[1:]], parts(Mode.MDEV, A="GRID T4-8Q")) == (Share("CUSTOM_A", 2),)


def test_parents_come_in_the_order_of_their_indexes_and_the_gpu_itself_only_where_it_has_none() -> None:
    files = {path: text for index in (10, 2) for path, text in t4("1", folder=f"virtfn{index}/").attributes.items()}
    files |= t4("1").attributes
    assert [place.index for place in places(function(attributes=files), Mode.MDEV)] == [2, 10]
    assert [place.index for place in places(t4("1"), Mode.MDEV)] == [None]


@pytest.mark.parametrize("text", [None, "N/A", "1155x", ""])
def test_a_vf_that_says_in_no_number_what_it_carries_is_no_place(text: str | None) -> None:
    head, *vfs = l40s(FREE, FREE, FREE)
    files = {path: own for path, own in head.attributes.items() if path != "virtfn0/nvidia/current_vgpu_type"}
    odd = replace(head, attributes=files | ({} if text is None else {"virtfn0/nvidia/current_vgpu_type": text}))
    assert given_by([odd, *vfs], parts(A=EIGHT)) == (Share("CUSTOM_A", 2),)


@pytest.mark.parametrize("name", ["junk", f"{OURS[0]}x"])
def test_what_is_no_uuid_is_no_mediated_device(name: str) -> None:
    assert given_by([t4("3", name)], parts(Mode.MDEV, A="nvidia-222")) == (Share("CUSTOM_A", 3),)


def test_a_gpu_that_is_its_own_parent_carries_as_many_as_nvml_says() -> None:
    told = NvmlGpu(GPU, GpuFacts(vgpu=VgpuFacts(types=(VgpuType("GRID T4-8Q", "222", 8192, total=4),))))
    shares = given_by([t4("2", OURS[0], nvml=told)], parts(Mode.MDEV, A="nvidia-222"))
    assert shares == (Share("CUSTOM_A", 4, closed=1),)


def test_where_all_vfs_carry_one_nothing_needs_to_say_what_could_be_made() -> None:
    head, *vfs = l40s("1155", "1155")
    files = {path: text for path, text in head.attributes.items() if "creatable" not in path}
    assert given_by([replace(head, attributes=files), *vfs], parts(A=EIGHT)) == (Share("CUSTOM_A", 2),)


def test_what_only_another_vf_could_carry_has_no_room_on_the_chosen_ones() -> None:
    few = replace(parts(A=EIGHT), vf_indexes=frozenset({1}))
    assert given_by(l40s(EIGHT, SIXTEEN), few) == (Share("CUSTOM_A", 1, closed=1),)


def test_other_parents_than_gpus_are_counted_by_their_own_files(tmp_path: Path) -> None:
    types = {"x-1": {"name": "X1", "available_instances": 3}}
    host = port({"id": "abcd:0001", "class": "088000", "driver": "x", "mdev": {"types": types}})
    (seen,) = look_at(tmp_path, host).values()
    own = decide(snapshot(seen.function), parts(Mode.MDEV, X="X1"), claims=[seen.claim])[seen.address]
    assert own.decision.given == (Share("CUSTOM_X", 3),)


# --- What is not given ---


# --- What MIG instances carry, which are made with it ---

ONE, ONE_Q, SEVEN = "NVIDIA H100-1-10C", "NVIDIA H100-1-10Q", "NVIDIA H100-7-80C"
BACKED = (VgpuType(ONE, "1130", total=7), VgpuType(ONE_Q, "1131", total=7), VgpuType(SEVEN, "1133", total=1))


def h100(*carried: str, free: int | None, there: int = 0, on: bool = True) -> list[Function]:
    """Gives a GPU with room for so many more 1g.10gb, of which some are there; no VF lists a type before that."""
    profiles = (MigProfile("1g.10gb", 9856, 7, free), MigProfile("7g.80gb", 81152, 1, 0 if there else 1))
    instances = tuple(MigInstance(number, "1g.10gb", number, 1) for number in range(there))
    facts = GpuFacts(vgpu=VgpuFacts(types=BACKED), mig=MigFacts(on, on, profiles, instances))
    return l40s(*carried, nvml=NvmlGpu(GPU, facts))


def test_a_type_of_a_mig_instance_has_room_where_there_is_room_for_the_instance() -> None:
    how = parts(A=ONE, B=SEVEN)
    assert given_by(h100(*[""] * 8, free=7), how) == (Share("CUSTOM_A", 7), Share("CUSTOM_B", 1))
    shares = given_by(h100("1130", *[""] * 7, free=4, there=3), how)
    assert shares == (Share("CUSTOM_A", 7), Share("CUSTOM_B", 1, closed=1)), "one is carried, two are ready, four fit"
    assert given_by(h100("1130", "1131", "", free=5, there=2), parts(A=ONE, B=ONE_Q)) == (
        Share("CUSTOM_A", 3, closed=1),
        Share("CUSTOM_B", 3, closed=1),
    )


def test_instances_of_another_profile_are_nobodys_of_this_one() -> None:
    shares = given_by(h100("1133", *[""] * 6, free=3, there=1), parts(A=ONE, B=SEVEN))
    assert shares[0] == Share("CUSTOM_A", 7, closed=3), "one is ready, three fit"
    assert decided(h100("1199", "", free=3, there=1), parts(A=ONE)).decision.unknown


def test_where_nvml_does_not_tell_who_asks_how_much_room_there_is_it_is_unknown() -> None:
    device = decided(h100("", "", free=None), parts(A=ONE))
    assert device.decision.unknown
    assert "how many more CUSTOM_A it has room for" in device.decision.reason


def test_without_mig_its_types_have_no_room() -> None:
    device = decided(h100("", "", free=None, on=False), parts(A=ONE))
    assert given_by(h100("", "", free=None, on=False), parts(A=ONE)) == (Share("CUSTOM_A", 2, closed=2),), device


def refusal(functions: list[Function], how: Rule, **more: Any) -> tuple[str, tuple[Share, ...]]:
    decision = decided(functions, how, **more).decision
    assert not decision.managed
    assert not decision.unknown
    return decision.reason, decision.given


def test_a_mediated_device_of_somebody_elses_keeps_the_device() -> None:
    text = (
        f"carries mediated device {NOVAS}, which devagent has not made: remove it, or write mode: ignore for the device"
    )
    assert refusal([t4("2", OURS[0], NOVAS)], parts(Mode.MDEV, A="GRID T4-8Q")) == (text, ())


def test_a_vgpu_of_a_type_that_no_class_stands_for_keeps_the_device() -> None:
    for others in (1, 2):
        reason, _ = refusal(l40s("1156", FREE, *["1156"] * others), parts(A=EIGHT))
        assert reason.startswith(f"carries {SIXTEEN} on VF 0 and {others} more, which devagent has not made")
    few = replace(parts(A=EIGHT), vf_indexes=frozenset({1}))
    assert given_by(l40s("1156", EIGHT, "1156"), few) == (Share("CUSTOM_A", 1),)


def test_a_type_that_the_device_has_not_is_named_with_those_that_it_has() -> None:
    reason, _ = refusal(l40s(FREE), parts(A="NVIDIA L40S-9Q"))
    assert reason == f"CUSTOM_A: the device has no type 'NVIDIA L40S-9Q' now (it has {SIXTEEN}, {EIGHT})"
    decision = decided(l40s(FREE), parts(A="NVIDIA L40S-9Q", B=EIGHT)).decision
    assert decision.given == (Share("CUSTOM_B", 1),)
    assert "CUSTOM_A: the device has no type" in decision.reason


def test_a_device_that_names_no_types_now_is_said_to_have_none() -> None:
    none = l40s("", told=())
    assert refusal(none, parts(A=EIGHT))[0] == f"CUSTOM_A: the device has no type '{EIGHT}' now (it has none)"
    assert refusal(none, parts(VGPU=None))[0] == "VGPU: the device has no types now"


def test_a_name_that_several_types_have_stands_for_none_of_them() -> None:
    twins = (TOLD[0], replace(TOLD[1], name=EIGHT))
    decision = decided(l40s(FREE, told=twins), parts(A=EIGHT, B="1155")).decision
    assert decision.given == (Share("CUSTOM_B", 1),)
    assert f"CUSTOM_A: '{EIGHT}' is the name of 2 types; write an id" in decision.reason


def test_one_type_under_two_names_is_given_once() -> None:
    decision = decided(l40s(FREE), parts(A=EIGHT, B="1155")).decision
    assert (decision.given, decision.reason.partition("; ")[2]) == (
        (Share("CUSTOM_A", 1),),
        "CUSTOM_B: '1155' stands for another class already",
    )


@pytest.mark.parametrize(("mode", "what"), [(Mode.MDEV, "mediated devices"), (Mode.VGPU, "vGPUs on VFs")])
def test_a_gpu_without_types_says_what_it_needs(mode: Mode, what: str) -> None:
    reason, _ = refusal([function()], parts(mode, A=EIGHT))
    assert reason == f"makes no {what} now: its vGPU driver must be loaded and, since NVIDIA's Ampere, its VFs be made"


def test_novas_mediated_devices_stay_novas() -> None:
    nova = NovaDevices(mdev_types=(("nvidia-222", ()),))
    reason, _ = refusal([t4("4")], parts(Mode.MDEV, A="GRID T4-8Q"), nova=nova)
    assert reason == "is managed by Nova: its enabled_mdev_types has nvidia-222"


def test_the_class_vgpu_is_novas_on_a_host_where_nova_makes_any_mediated_device() -> None:
    nova = NovaDevices(mdev_types=(("nvidia-558", ("0000:86:00.0",)),))
    mine = "VGPU is Nova's on this host, whose enabled_mdev_types has nvidia-558: name a class CUSTOM_..."
    assert refusal(l40s(FREE), parts(VGPU=EIGHT), nova=nova) == (mine, ())
    decision = decided(l40s(FREE), parts(VGPU=SIXTEEN, A=EIGHT), nova=nova).decision
    assert (decision.given, decision.reason) == ((Share("CUSTOM_A", 1),), f"1 of 1 CUSTOM_A possible now; {mine}")
    assert given_by(l40s(FREE), parts(VGPU=EIGHT)) == (Share("VGPU", 1),)


def test_vfs_that_a_guard_keeps_carry_nothing() -> None:
    device = decided(l40s(FREE, FREE, FREE), parts(A=EIGHT), host_use={"0000:3b:01.1": "a bond"})
    assert device.decision.given == (Share("CUSTOM_A", 2),)
    assert device.decision.vf_vetoes == ((1, "is used by the host: a bond"),)
    assert device.decision.reason == "2 of 2 CUSTOM_A possible now; VF 1 is used by the host: a bond"


def test_the_traits_of_a_rule_go_with_its_classes() -> None:
    how = replace(parts(A=EIGHT), traits=frozenset({"CUSTOM_GOLD"}))
    assert decided(l40s(FREE), how).decision.traits == {"CUSTOM_GOLD"}


def test_a_veto_names_rule_and_mode_and_what_only_lacks_a_type_has_no_mode() -> None:
    """By its mode a guard's veto is told from what the device does not offer."""
    used = decided(l40s(FREE), parts(A=EIGHT), host_use={GPU: "a display"}).decision
    assert used == Decision(False, "is used by the host: a display", "r", Mode.VGPU)
    nova = NovaDevices(mdev_types=(("nvidia-558", ("0000:86:00.0",)),))
    reserved = decided(l40s(FREE), parts(VGPU=EIGHT), nova=nova).decision
    assert reserved == Decision(False, reserved.reason, "r", Mode.VGPU)
    lacking = decided(l40s(FREE), parts(A="NVIDIA L40S-9Q")).decision
    assert lacking == Decision(False, lacking.reason, "r")


def test_the_vfs_that_a_guard_keeps_from_mode_vf_are_told_too() -> None:
    functions = [replace(each, iommu_group=100) if each.physfn else each for each in l40s("", "")]
    vfs = tuple(replace(vf, iommu_group=100) for vf in (functions[0].sriov or Sriov(0)).vfs)
    functions[0] = replace(functions[0], sriov=Sriov(32, "26b9", vfs))
    decision = decide(snapshot(*functions), rule(Mode.VF))[GPU].decision
    assert decision.vf_vetoes == ((0, "shares IOMMU group 100 with 1 more"), (1, "shares IOMMU group 100 with 1 more"))


# --- What is unknown stays as it is ---


@pytest.mark.parametrize(
    ("functions", "mode"),
    [
        ([t4("")], Mode.MDEV),
        ([t4("four")], Mode.MDEV),
        ([t4("4x")], Mode.MDEV),
        (l40s(FREE, unread=frozenset({"virtfn*"})), Mode.VGPU),
        (l40s("1199", FREE, told=()), Mode.VGPU),
        ([t4("4", unread=frozenset({"mdev_supported_types/nvidia-222/available_instances"}))], Mode.MDEV),
        (l40s(FREE, unread=frozenset({"virtfn0/nvidia/current_vgpu_type"})), Mode.VGPU),
        ([function(unread=frozenset({"answers"}))], Mode.VGPU),
    ],
)
def test_what_cannot_be_counted_is_unknown(functions: list[Function], mode: Mode) -> None:
    decision = decided(functions, parts(mode, A="nvidia-222" if mode is Mode.MDEV else EIGHT)).decision
    assert (decision.managed, decision.unknown, decision.given) == (False, True, ())


def test_types_that_nothing_names_are_told_in_their_order() -> None:
    reason = decided(l40s("1199", "1197", "1198", FREE), parts(A=EIGHT)).decision.reason
    assert reason.startswith("unknown: what type 1197 is, what type 1198 is, what type 1199 is; what was reported")


def test_what_tells_nothing_of_vgpus_may_be_unread() -> None:
    assert decided(l40s(FREE, unread=frozenset({"numa_node", "nvidia_x/y"})), parts(A=EIGHT)).decision.managed


def test_one_type_that_cannot_be_counted_makes_a_class_of_any_type_unknown() -> None:
    one = t4("4")
    other = {"mdev_supported_types/nvidia-223/name": "GRID T4-16Q"}
    both = replace(one, attributes={**one.attributes, **other})
    assert decided([both], parts(Mode.MDEV, VGPU=None)).decision.unknown


def test_a_type_that_does_not_say_how_many_more_can_be_made_makes_the_count_unknown() -> None:
    one = t4("4")
    named = {path: text for path, text in one.attributes.items() if path.endswith("/name")}
    decision = decided([replace(one, attributes=named)], parts(Mode.MDEV, A="nvidia-222")).decision
    reason = "unknown: how many more CUSTOM_A it has room for; what was reported of it stays"
    assert decision == Decision(False, reason, "r", unknown=True)


def test_a_vf_that_does_not_say_what_it_could_carry_makes_the_count_unknown() -> None:
    head, *vfs = l40s(FREE, FREE)
    files = {path: text for path, text in head.attributes.items() if path != "virtfn1/nvidia/creatable_vgpu_types"}
    assert decided([replace(head, attributes=files), *vfs], parts(A=EIGHT)).decision.unknown


# --- What Placement is told ---


def test_each_class_is_an_inventory_of_the_gpus_provider() -> None:
    functions = l40s("1156", SIXTEEN, SIXTEEN, SIXTEEN)
    functions[0] = replace(functions[0], attributes={**functions[0].attributes, "reset_method": "flr bus"})
    device = decided(functions, parts(A=EIGHT, B=SIXTEEN))
    (provider,) = [each for each in build([device], ROOT, "h").providers if each.inventories]
    assert provider.inventories == {
        "CUSTOM_A": Inventory(4, reserved=4, max_unit=4),
        "CUSTOM_B": Inventory(3, reserved=0, max_unit=3),
    }
    assert not [trait for trait in provider.traits if trait.startswith("CUSTOM_RESET")]


def test_a_sick_gpu_closes_all_its_classes() -> None:
    device = decided(l40s(FREE, FREE), parts(A=EIGHT, B=SIXTEEN))
    sick = replace(device, health=Health(State.UNHEALTHY, ("burnt",)))
    (provider,) = [each for each in build([sick], ROOT, "h").providers if each.inventories]
    assert {name: each.reserved for name, each in provider.inventories.items()} == {"CUSTOM_A": 2, "CUSTOM_B": 2}


def test_a_class_without_room_has_no_inventory() -> None:
    functions = l40s(SIXTEEN, told=())
    functions[0] = replace(functions[0], nvml=NvmlGpu(GPU, GpuFacts(vgpu=VgpuFacts(types=(VgpuType(EIGHT, "1155"),)))))
    device = decided(functions, parts(A=EIGHT))
    assert device.decision.given == (Share("CUSTOM_A", 0),)
    assert not [each for each in build([device], ROOT, "h").providers if each.inventories]


def test_an_explanation_names_every_class() -> None:
    how = parts(A=EIGHT, B=SIXTEEN)
    told = explain(decided(l40s(FREE, FREE), how), Policy((how,), "test"))
    assert told.offers == {"vgpu": "VGPU", "whole": "PGPU"}
    assert told.result.startswith("CUSTOM_A 2, CUSTOM_B 2: ")


# --- Nothing is given that no rule gives ---

CARRIED = st.lists(st.sampled_from([FREE, EIGHT, SIXTEEN, "", "1155", "1156", "1199"]), max_size=5)
TYPES = st.dictionaries(
    st.sampled_from(["A", "B", "VGPU"]), st.sampled_from([EIGHT, SIXTEEN, "1155", "NVIDIA L40S-9Q", None]), min_size=1
)


@given(
    carried=CARRIED,
    mode=st.sampled_from([*Mode, None]),
    types=TYPES,
    told=st.sampled_from([TOLD, TOLD[:1], ()]),
    indexes=st.none() | st.frozensets(st.integers(0, 4), min_size=1),
)
def test_only_a_rules_own_classes_are_given_and_no_more_than_there_are_vfs(
    carried: list[str],
    mode: Mode | None,
    types: dict[str, str | None],
    told: tuple[VgpuType, ...],
    indexes: frozenset[int] | None,
) -> None:
    how = replace(parts(Mode.VGPU, **types), mode=mode, vf_indexes=indexes)
    decision = decided(l40s(*carried, told=told), how).decision
    if mode is not Mode.VGPU:
        assert not decision.shares
        return
    assert {share.resource_class for share in decision.given} <= {name for name, _ in how.types}
    places = len([index for index in range(len(carried)) if indexes is None or index in indexes])
    for share in decision.given:
        assert 0 <= share.closed <= share.total <= places
        assert share.total <= 6
    if decision.managed:
        assert decision.total == max(share.total for share in decision.shares)
