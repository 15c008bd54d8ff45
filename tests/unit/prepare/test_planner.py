# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which functions a consumer gets, and why it gets none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from devagent.model.claim import Mode
from devagent.model.handle import PciHandle
from devagent.model.health import Health
from devagent.model.health import State as HealthState
from devagent.model.plan import Group, Plan, Step
from devagent.model.preparation import Holder, Holdings, Refusal, RefusalKind
from devagent.model.user import User
from devagent.prepare.lock_keys import lock_keys
from devagent.prepare.planner import plan
from devagent.prepare.treatment import Reset, Treatment
from devagent.prepare.view import view

from .scenes import ALICE, BOB, L40S, NOBODY, ROOT, Machine, described_host, held, on_bus, provider

NIC, GPU, NVME, QAT = "0000:1b:00.0", "0000:19:00.0", "0000:83:00.0", "0000:6b:00.0"
# VFs 0-3 of gpu8's NICs are on vfio-pci, 4-7 on mlx5_core.
VFS = [f"0000:1b:00.{function}" for function in range(2, 8)] + ["0000:1b:01.0", "0000:1b:01.1"]
QEMU = User(4711, "qemu-system-x86", "/dev/vfio/38", ALICE, "instance-0000001a")


def gpu8(**treatments: Treatment) -> Machine:
    return Machine(described_host("gpu8"), {NIC if name == "nic" else GPU: each for name, each in treatments.items()})


def changed(machine: Machine, address: str, **values: Any) -> Machine:
    """Gives the same machine, but for facts of one device."""
    devices = (replace(each, **values) if each.address == address else each for each in machine.devices)
    return replace(machine, devices=tuple(devices))


def test_a_vf_that_is_with_vfio_already_needs_no_step() -> None:
    made = gpu8().planned(gpu8().group(NIC))
    assert made.steps == ()
    assert made.handles == (PciHandle(provider(NIC, described_host("gpu8")), "SRIOV_NET_VF", VFS[0]),)
    assert made.locks == ("group:38", f"pf:{NIC}")


def test_vfs_on_the_hosts_driver_are_taken_after_all_others() -> None:
    machine = gpu8()
    made = machine.planned(machine.group(NIC, 5))
    assert [handle.function for handle in made.handles] == VFS[:5]
    assert made.steps == (Step("bind", VFS[4], {"driver": "vfio-pci"}, {"driver": "mlx5_core"}),)


def test_of_equal_vfs_the_one_released_longest_ago_is_taken() -> None:
    machine = gpu8()
    holdings = Holdings(released={VFS[0]: 300.0, VFS[1]: 100.0, VFS[2]: 200.0, VFS[3]: 50.0})
    made = machine.planned(machine.group(NIC, 4), holdings=holdings)
    assert [handle.function for handle in made.handles] == [VFS[3], VFS[1], VFS[2], VFS[0]]


def test_what_never_was_given_comes_before_what_was_released_and_of_that_the_lowest() -> None:
    machine = gpu8()
    made = machine.planned(machine.group(NIC, 3), holdings=Holdings(released={VFS[0]: 300.0, VFS[2]: 100.0}))
    assert [handle.function for handle in made.handles] == [VFS[1], VFS[3], VFS[2]]


def test_a_variant_driver_of_the_policy_counts_more_than_the_one_it_is_on() -> None:
    machine = gpu8(nic=Treatment(Mode.VF, driver="mlx5_vfio_pci"))
    made = machine.planned(machine.group(NIC))
    assert made.steps == (Step("bind", VFS[0], {"driver": "mlx5_vfio_pci"}, {"driver": "vfio-pci"}),)


def test_without_a_policy_the_variant_that_the_kernel_offers_is_taken() -> None:
    machine = gpu8()
    nic = next(each for each in machine.devices if each.address == NIC)
    machine = changed(machine, NIC, function=replace(nic.function, vf_vfio_driver="mlx5_vfio_pci"))
    (step,) = machine.planned(machine.group(NIC, at=VFS[7])).steps
    assert step.arguments == {"driver": "mlx5_vfio_pci"}


def test_a_whole_gpu_goes_from_its_driver_to_vfio() -> None:
    machine = gpu8()
    made = machine.planned(machine.group(GPU))
    assert made.steps == (Step("bind", GPU, {"driver": "vfio-pci"}, {"driver": "nvidia"}),)
    assert made.handles[0].function == GPU


def test_the_audio_in_a_gpus_group_goes_along() -> None:
    gpu = {"id": "10de:1eb8", "class": "030000", "driver": "nvidia", "at": "00.0"}
    audio = {"id": "10de:10f8", "class": "040300", "driver": "snd_hda_intel", "at": "00.1", "iommu_with": "00.0"}
    machine = Machine(on_bus(gpu, audio))
    made = machine.planned(machine.group("0000:3b:00.0"))
    assert [(step.target, step.arguments, step.undo) for step in made.steps] == [
        ("0000:3b:00.0", {"driver": "vfio-pci"}, {"driver": "nvidia"}),
        ("0000:3b:00.1", {"driver": "vfio-pci"}, {"driver": "snd_hda_intel"}),
    ]
    assert [handle.function for handle in made.handles] == ["0000:3b:00.0"]


@pytest.mark.parametrize("driver", [None, "vfio-pci"])
def test_what_goes_along_and_the_host_does_not_drive_is_left_as_it_is(driver: str | None) -> None:
    gpu = {"id": "10de:1eb8", "class": "030000", "driver": "nvidia", "at": "00.0"}
    audio = {"id": "10de:10f8", "class": "040300", "driver": driver, "at": "00.1", "iommu_with": "00.0"}
    machine = Machine(on_bus(gpu, audio))
    assert [step.target for step in machine.planned(machine.group("0000:3b:00.0")).steps] == ["0000:3b:00.0"]


def test_a_group_with_another_device_in_it_is_not_given() -> None:
    machine = gpu8()
    nic = next(each for each in machine.devices if each.address == NIC)
    crowded = tuple(replace(vf, iommu_group=38) for vf in nic.vfs)
    assert nic.function.sriov is not None
    machine = changed(machine, NIC, function=replace(nic.function, sriov=replace(nic.function.sriov, vfs=crowded)))
    refusal = machine.refused(machine.group(NIC, at=VFS[0]))
    reason = f"{VFS[0]} shares IOMMU group 38 with {VFS[1]} and 6 more"
    assert refusal == Refusal(RefusalKind.PERMANENT, reason, VFS[0])


@pytest.mark.parametrize("neighbour", [{"id": "10de:1eb8", "class": "030000"}, {"id": "10de:10f8", "class": "040300"}])
def test_of_another_slot_not_even_what_is_no_device_by_itself_goes_along(neighbour: dict[str, str]) -> None:
    gpu = {"id": "10de:1eb8", "class": "030000", "driver": "nvidia", "at": "00.0"}
    beside = {**neighbour, "driver": "nvidia", "at": "01.0", "iommu_with": "00.0"}
    whole = Treatment(Mode.WHOLE, types={"PGPU": None})
    machine = Machine(on_bus(gpu, beside), {"0000:3b:00.0": whole})
    refusal = machine.refused(machine.group("0000:3b:00.0"))
    group = machine.view().parts["0000:3b:00.0"][1].iommu_group
    reason = f"0000:3b:00.0 shares IOMMU group {group} with 0000:3b:01.0"
    assert refusal == Refusal(RefusalKind.PERMANENT, reason, "0000:3b:00.0")
    third = {**beside, "at": "02.0"}
    machine = Machine(on_bus(gpu, beside, third), {"0000:3b:00.0": whole})
    assert machine.refused(machine.group("0000:3b:00.0")).reason == f"{reason} and 1 more"


def test_what_is_held_is_passed_over() -> None:
    machine = gpu8()
    made = machine.planned(machine.group(NIC), holdings=held(VFS[0], VFS[2]))
    assert made.handles[0].function == VFS[1]


def test_when_all_is_held_it_is_said_by_whom() -> None:
    machine = gpu8()
    refusal = machine.refused(machine.group(NIC), holdings=held(*VFS))
    assert (refusal.kind, refusal.holders) == (RefusalKind.RETRY, (Holder(BOB),))
    assert f"{VFS[0]} is held by consumer {BOB}" in refusal.reason


def test_the_vfs_of_a_pf_that_somebody_holds_are_held_too() -> None:
    machine = gpu8()
    assert machine.refused(machine.group(NIC, at=VFS[0]), holdings=held(NIC)).kind is RefusalKind.RETRY


def unwiped(machine: Machine, *left: tuple[str, str], **held_by: str) -> Holdings:
    """Says that the NIC was given to consumers at addresses, to be wiped; `a` and `b` are those who still hold them."""
    (nic,) = (each for each in machine.devices if each.address == NIC)
    return Holdings(dict(zip((VFS[0], VFS[1]), held_by.values(), strict=False)), unwiped={nic.key: dict(left)})


def test_what_has_left_its_place_unwiped_is_given_to_nobody() -> None:
    machine = gpu8()
    away = "0000:5e:00.2"
    refusal = machine.refused(
        machine.group(NIC, at=VFS[3]), holdings=unwiped(machine, (away, BOB), ("0000:5e:00.1", ALICE))
    )
    assert (refusal.kind, refusal.address, refusal.holders) == (RefusalKind.RETRY, NIC, (Holder(ALICE),))
    assert refusal.reason == (
        f"{NIC} was given to consumer {ALICE} as 0000:5e:00.1, and is not wiped since: "
        f"see `devagent preparations show {ALICE}`"
    )
    # The same slot, but its devices were taken for others meanwhile.
    back = machine.refused(machine.group(NIC, at=VFS[3]), holdings=unwiped(machine, (VFS[0], BOB)))
    assert back.holders == (Holder(BOB),)
    # Another one has that address by now.
    assert machine.refused(machine.group(NIC, at=VFS[3]), holdings=unwiped(machine, (VFS[0], BOB), a=ALICE)).holders


def test_what_stands_where_it_was_given_is_wiped_when_it_is_released_and_the_rest_of_its_card_is_free() -> None:
    machine = gpu8()
    holdings = unwiped(machine, (VFS[0], ALICE), (VFS[1], BOB), a=ALICE, b=BOB)
    assert machine.planned(machine.group(NIC), holdings=holdings).handles[0].function == VFS[2]
    # Held on, but at an address at which the card has nothing.
    gone = replace(
        holdings, unwiped={next(iter(holdings.unwiped)): {"0000:5e:00.2": BOB}}, consumers={"0000:5e:00.2": BOB}
    )
    assert machine.refused(machine.group(NIC), holdings=gone).holders == (Holder(BOB),)


def test_a_vf_without_a_driver_goes_to_vfio() -> None:
    machine = gpu8()
    machine.drivers[VFS[0]] = None
    made = machine.planned(machine.group(NIC, at=VFS[0]))
    assert made.steps == (Step("bind", VFS[0], {"driver": "vfio-pci"}, {"driver": None}),)


def test_a_consumer_does_not_get_again_what_it_has() -> None:
    machine = gpu8()
    made = machine.planned(machine.group(NIC), consumer=ALICE, holdings=held(VFS[0], consumer=ALICE))
    assert made.handles[0].function == VFS[1]


def test_a_function_that_a_process_has_open_is_busy() -> None:
    machine = changed(gpu8(), NIC, vf_users=((0, (QEMU,)),))
    assert machine.planned(machine.group(NIC)).handles[0].function == VFS[1]
    refusal = machine.refused(machine.group(NIC, at=VFS[0]))
    assert refusal.kind is RefusalKind.RETRY
    assert refusal.holders == (Holder(ALICE, 4711, "qemu-system-x86"),)
    assert refusal.reason.startswith(f"{VFS[0]} is in use by qemu-system-x86 (pid 4711)")


def test_a_gpu_that_a_process_of_the_host_has_open_is_busy() -> None:
    users = User(7, "nvidia-persiste", "/dev/nvidia0"), User(8, "python3", "/dev/nvidia0")
    machine = changed(gpu8(), GPU, users=users)
    refusal = machine.refused(machine.group(GPU))
    assert (refusal.kind, refusal.address) == (RefusalKind.RETRY, GPU)
    assert refusal.reason == f"{GPU} is in use by {users[0]}, {users[1]}"
    assert [str(each) for each in refusal.holders] == ["nvidia-persiste (pid 7)", "python3 (pid 8)"]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"vf_use": ((0, "default route (ens1)"),)}, f"{VFS[0]} is used by the host: default route (ens1)"),
        (
            {"health": Health(HealthState.UNHEALTHY, ("its link is gone",))},
            f"Mellanox ConnectX-6 Dx {NIC} is unhealthy: its link is gone",
        ),
    ],
)
def test_what_waiting_does_not_help_is_permanent(values: dict[str, Any], reason: str) -> None:
    machine = changed(gpu8(), NIC, **values)
    refusal = machine.refused(machine.group(NIC, at=VFS[0]))
    assert (refusal.kind, refusal.reason) == (RefusalKind.PERMANENT, reason)


@pytest.mark.parametrize(
    ("health", "said"),
    [
        (Health(HealthState.LOST, ()), "lost: nothing says why"),
        (Health(HealthState.UNHEALTHY, ("its link is gone", "XID 79")), "unhealthy: its link is gone; XID 79"),
    ],
)
def test_what_is_sick_is_not_given_and_all_that_is_known_of_why_is_said(health: Health, said: str) -> None:
    refusal = changed(gpu8(), NIC, health=health).refused(gpu8().group(NIC, at=VFS[0]))
    assert (refusal.address, refusal.reason) == (NIC, f"Mellanox ConnectX-6 Dx {NIC} is {said}")


def test_a_suspect_device_is_still_given() -> None:
    machine = changed(gpu8(), NIC, health=Health(HealthState.SUSPECT, ("an error",)))
    assert machine.planned(machine.group(NIC)).handles


@pytest.mark.parametrize("place", [NIC, VFS[0]])
def test_a_stuck_function_or_pf_is_left_alone(place: str) -> None:
    machine = gpu8()
    refusal = machine.refused(machine.group(NIC, at=VFS[0]), holdings=Holdings(stuck={place: "unbind hangs"}))
    assert (refusal.kind, refusal.address) == (RefusalKind.PERMANENT, place)
    assert refusal.reason == f"{place} is stuck: unbind hangs"


def test_vfs_that_the_policy_keeps_are_not_given() -> None:
    machine = gpu8(nic=Treatment(Mode.VF, vf_indexes=frozenset({6, 7})))
    assert machine.planned(machine.group(NIC)).handles[0].function == VFS[6]
    refusal = machine.refused(machine.group(NIC, at=VFS[0]))
    assert (refusal.address, refusal.reason) == (VFS[0], f"VF 0 of {NIC} stays with the host by policy")


def test_what_a_guard_vetoes_is_not_given() -> None:
    devices = described_host("gpu8")
    machine = gpu8()
    vetoed = view(devices, ROOT, vetoes={VFS[0]: "is managed by Nova"})
    refusal = plan(ALICE, [machine.group(NIC, at=VFS[0])], vetoed, NOBODY)
    assert refusal == Refusal(RefusalKind.PERMANENT, f"{VFS[0]} is managed by Nova", VFS[0])


def test_a_device_that_cannot_be_reset_is_not_given_where_the_policy_requires_it() -> None:
    devices = on_bus({"id": "10de:20f1", "class": "030200", "driver": "nvidia", "reset": []})
    machine = Machine(devices, {"0000:3b:00.0": Treatment(Mode.WHOLE, reset=Reset.REQUIRED)})
    refusal = machine.refused(machine.group("0000:3b:00.0"))
    reason = "0000:3b:00.0 cannot be reset, which the policy requires"
    assert refusal == Refusal(RefusalKind.PERMANENT, reason, "0000:3b:00.0")
    assert replace(machine, treatments={}).planned(machine.group("0000:3b:00.0")).steps


def test_what_the_policy_requires_to_be_reset_and_can_be_is_given() -> None:
    machine = gpu8(nic=Treatment(Mode.VF, reset=Reset.REQUIRED))
    assert machine.planned(machine.group(NIC)).handles
    (nic,) = (each for each in machine.devices if each.address == NIC)
    files = {name: text for name, text in nic.function.attributes.items() if name != "virtfn0/reset_method"}
    assert len(files) < len(nic.function.attributes)
    silent = changed(machine, NIC, function=replace(nic.function, attributes=files))
    assert silent.refused(machine.group(NIC, at=VFS[0])).reason.startswith(f"{VFS[0]} cannot be reset")


def test_of_several_reasons_the_one_that_is_to_be_mended_first_is_said() -> None:
    devices = on_bus({"id": "10de:20f1", "class": "030200", "driver": "nvidia", "reset": []}, drivers=[])
    machine = Machine(devices, {"0000:3b:00.0": Treatment(Mode.WHOLE, reset=Reset.REQUIRED)})
    asked = machine.group("0000:3b:00.0")
    assert machine.refused(asked).reason.endswith("has no VFIO driver: load vfio-pci")
    (gpu,) = (each for each in devices if each.address == "0000:3b:00.0")
    off = changed(machine, gpu.address, function=replace(gpu.function, iommu_group=None))
    assert off.refused(asked).reason.endswith("is in no IOMMU group: the host's IOMMU is off")
    loaded = replace(off, treatments={"0000:3b:00.0": Treatment(Mode.WHOLE, "vfio-pci", reset=Reset.REQUIRED)})
    assert loaded.refused(asked).reason.endswith("is in no IOMMU group: the host's IOMMU is off")


def test_without_an_iommu_nothing_is_given() -> None:
    machine = gpu8()
    gpu = next(each for each in machine.devices if each.address == GPU)
    machine = changed(machine, GPU, function=replace(gpu.function, iommu_group=None))
    refusal = machine.refused(machine.group(GPU))
    assert (refusal.kind, refusal.address) == (RefusalKind.PERMANENT, GPU)
    assert refusal.reason == f"{GPU} is in no IOMMU group: the host's IOMMU is off"


def test_a_pf_is_given_whole_only_without_its_vfs() -> None:
    machine = gpu8(nic=Treatment(Mode.WHOLE))
    refusal = machine.refused(machine.group(NIC))
    reason = f"{NIC} has 8 VFs: it can be given whole only without any"
    assert refusal == Refusal(RefusalKind.PERMANENT, reason, NIC)


def test_a_device_that_the_host_itself_uses_is_not_given_whole() -> None:
    machine = changed(gpu8(), GPU, in_use_by="console (/dev/fb0)")
    refusal = machine.refused(machine.group(GPU))
    assert refusal == Refusal(RefusalKind.PERMANENT, f"{GPU} is used by the host: console (/dev/fb0)", GPU)


def test_what_was_changed_since_the_look_is_asked_for_again() -> None:
    machine = gpu8()
    seen = replace(machine.view(), stale=frozenset({VFS[0]}))
    chosen = plan(ALICE, [machine.group(NIC)], seen, NOBODY)
    assert isinstance(chosen, Plan)
    assert chosen.handles[0].function == VFS[1]
    refusal = plan(ALICE, [machine.group(NIC, at=VFS[0])], seen, NOBODY)
    assert isinstance(refusal, Refusal)
    assert (refusal.kind, refusal.address) == (RefusalKind.RETRY, VFS[0])
    assert refusal.reason == f"{VFS[0]} was changed since it was looked at"


def test_a_host_without_a_vfio_driver_says_so() -> None:
    machine = Machine(on_bus({"id": "10de:20f1", "class": "030200", "driver": "nvidia"}, drivers=[]))
    refusal = machine.refused(machine.group("0000:3b:00.0"))
    reason = "0000:3b:00.0 has no VFIO driver: load vfio-pci"
    assert refusal == Refusal(RefusalKind.PERMANENT, reason, "0000:3b:00.0")


def test_a_pf_without_vfs_says_what_to_do() -> None:
    machine = Machine(on_bus({**L40S, "id": "15b3:101d", "class": "020000", "vfs": {"total": 8}}))
    machine = replace(machine, treatments={"0000:3b:00.0": Treatment(Mode.VF, types={"CUSTOM_VF": None})})
    refusal = machine.refused(machine.group("0000:3b:00.0", 1, "CUSTOM_VF"))
    assert (refusal.kind, refusal.address) == (RefusalKind.PERMANENT, "0000:3b:00.0")
    assert refusal.reason.endswith("0000:3b:00.0 has no VFs: make some first")


def test_more_than_are_free_are_refused_with_the_number() -> None:
    machine = gpu8()
    refusal = machine.refused(machine.group(NIC, 7), holdings=held(VFS[0], VFS[1]))
    assert refusal.kind is RefusalKind.RETRY
    assert refusal.reason.startswith(f"Mellanox ConnectX-6 Dx {NIC}: 7 asked for, 6 free: {VFS[0]} is held by")


def test_more_than_there_are_is_permanent() -> None:
    machine = gpu8()
    refusal = machine.refused(machine.group(NIC, 9))
    assert (refusal.kind, refusal.reason) == (
        RefusalKind.PERMANENT,
        f"Mellanox ConnectX-6 Dx {NIC}: 9 asked for, 8 free",
    )


def test_a_given_address_must_be_the_providers() -> None:
    machine = gpu8()
    refusal = machine.refused(machine.group(NIC, at="0000:1b:00.1"))
    assert (refusal.kind, refusal.address) == (RefusalKind.PERMANENT, "0000:1b:00.1")
    assert refusal.reason.startswith("0000:1b:00.1 is no function of Mellanox ConnectX-6 Dx")


def test_one_address_is_one_device() -> None:
    machine = gpu8()
    refusal = machine.refused(machine.group(NIC, 2, at=VFS[0]))
    assert (refusal.kind, refusal.reason) == (RefusalKind.INVALID, f"{VFS[0]} is one device: 2 are asked for")


def test_groups_of_one_request_never_share_a_function() -> None:
    machine = gpu8()
    made = machine.planned(machine.group(NIC), machine.group(NIC, at=VFS[0]), machine.group(NIC))
    # Who asks by address gets it, though another group comes first; the handles stand in the groups' order.
    assert [handle.function for handle in made.handles] == [VFS[1], VFS[0], VFS[2]]


def test_the_same_address_twice_is_a_mistake() -> None:
    machine = gpu8()
    refusal = machine.refused(machine.group(NIC, at=VFS[0]), machine.group(NIC, at=VFS[0]))
    assert (refusal.kind, refusal.address) == (RefusalKind.INVALID, VFS[0])
    assert refusal.reason == f"{VFS[0]} is asked for twice"


def test_the_order_of_classes_and_properties_changes_nothing() -> None:
    types = {"CUSTOM_C": None, "CUSTOM_A": "NVIDIA L40S-8Q", "CUSTOM_B": "NVIDIA L40S-16Q"}
    machine = Machine(on_bus(L40S), {"0000:3b:00.0": Treatment(Mode.VGPU, types=types)})
    asked = machine.group("0000:3b:00.0")
    plans = [machine.planned(replace(asked, resources=dict.fromkeys(names, 1))) for names in (["CUSTOM_A", "CUSTOM_B"],
             ["CUSTOM_B", "CUSTOM_A"])]  # fmt: skip
    assert plans[0] == plans[1]
    unknown = machine.refused(replace(asked, properties=dict.fromkeys("hbgeacfd", "x")))
    assert unknown.reason.startswith("a, b, c, d, e, f, g, h: 0000:3b:00.0 is given as vgpu")
    other = machine.refused(machine.group("0000:3b:00.0", 1, "FPGA"))
    assert other.reason == "0000:3b:00.0 is no FPGA: it gives CUSTOM_A, CUSTOM_B, CUSTOM_C"


@pytest.mark.parametrize(
    ("count", "name", "more", "kind", "reason"),
    [
        (1, "FPGA", {}, RefusalKind.PERMANENT, f"{GPU} is no FPGA: it gives PGPU"),
        (0, None, {}, RefusalKind.INVALID, "PGPU: 0 is no number of devices"),
        (2, None, {}, RefusalKind.INVALID, f"{GPU} is one device: 2 are asked for"),
        (
            1,
            None,
            {"colour": "red"},
            RefusalKind.INVALID,
            f"colour: {GPU} is given as whole, which has no such property",
        ),
    ],
)
def test_a_wrong_request_says_what_is_wrong(
    count: int, name: str | None, more: dict[str, str], kind: RefusalKind, reason: str
) -> None:
    machine = gpu8()
    refusal = machine.refused(machine.group(GPU, count, name, **more))
    assert (refusal.kind, refusal.reason) == (kind, reason)
    assert refusal.address == (GPU if more else None)


def test_a_provider_without_a_device_is_another_hosts_or_gone() -> None:
    refusal = gpu8().refused(Group(ROOT, {"PGPU": 1}))
    assert (refusal.kind, refusal.address) == (RefusalKind.PERMANENT, None)


def test_nothing_asked_for_is_a_mistake() -> None:
    machine = gpu8()
    refusal = machine.refused(replace(machine.group(GPU), resources={}))
    assert refusal.kind is RefusalKind.INVALID


def test_locks_are_of_the_pfs_and_groups_that_are_touched_and_of_no_others() -> None:
    machine = gpu8()
    made = machine.planned(machine.group(GPU), machine.group(NIC, at=VFS[7]))
    assert made.locks == ("group:13", "group:45", f"pf:{GPU}", f"pf:{NIC}")


def test_what_is_in_no_group_has_the_lock_of_its_pf_and_what_is_gone_has_none() -> None:
    machine = gpu8()
    (gpu,) = (each for each in machine.devices if each.address == GPU)
    machine = changed(machine, GPU, function=replace(gpu.function, iommu_group=None))
    assert lock_keys(machine.view(), [GPU, "0000:ff:00.0"]) == (f"pf:{GPU}",)


def novas() -> Machine:
    """Gives gpu8 with a NIC that a rule leaves to Nova's own PCI tracking."""
    machine = gpu8(nic=Treatment(Mode.VF))
    nic = next(each for each in machine.devices if each.address == NIC)
    decision = replace(nic.decision, managed=False, owner="nova", resource_class=None, rule="nics")
    return changed(machine, NIC, decision=decision)


def test_what_nova_gave_is_made_ready_at_its_address_whatever_its_class_is_called() -> None:
    machine = novas()
    group = Group(provider(NIC, machine.devices), {"CUSTOM_PCI_15B3_101E": 1}, VFS[7], owner="nova")
    made = machine.planned(group)
    assert [handle.function for handle in made.handles] == [VFS[7]]
    assert [step.verb for step in made.steps] == ["bind"]
    anywhere = machine.refused(replace(group, address=None))
    assert (anywhere.kind, anywhere.reason) == (
        RefusalKind.INVALID,
        f"{NIC} is given by Nova itself: say by its address which function",
    )


def test_what_nova_gives_is_not_had_from_placement() -> None:
    machine = novas()
    refused = machine.refused(Group(provider(NIC, machine.devices), {"SRIOV_NET_VF": 1}, VFS[0]))
    assert (refused.kind, refused.reason) == (
        RefusalKind.INVALID,
        f"{NIC} is given by Nova itself (owner: nova), as rule nics has it",
    )


def test_what_placement_gives_is_not_had_by_saying_that_nova_gave_it() -> None:
    machine = gpu8()
    refused = machine.refused(replace(machine.group(NIC), owner="nova", address=VFS[0]))
    assert (refused.kind, "is given by Placement, and not by Nova itself" in refused.reason) == ("invalid", True)
