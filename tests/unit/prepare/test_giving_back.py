# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""How devices are brought back, reset and wiped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hosts.generate import generate

from devagent.model.claim import Mode
from devagent.model.plan import Plan
from devagent.model.policy import Match, Policy, Rule
from devagent.model.preparation import Holder, Preparation, Refusal, RefusalKind
from devagent.model.user import User
from devagent.prepare.planner import release
from devagent.prepare.treatment import Reset, Scrub, Treatment
from devagent.prepare.view import Bitstream

from ..worlds import described, look, port, write
from .scenes import A40, ALICE, BOB, H100, H100_NVML, T4, Machine, described_host, l40s, on_bus

GPU, NIC, VF7 = "0000:19:00.0", "0000:1b:00.0", "0000:1b:01.1"


def gpu8(treatment: Treatment | None = None) -> Machine:
    return Machine(described_host("gpu8"), {GPU: treatment} if treatment else {})


def steps(machine: Machine, preparation: Preparation) -> list[tuple[str, str, dict[str, Any]]]:
    """Plans the release and does it; gives its steps."""
    made = release(preparation, machine.view())
    assert isinstance(made, Plan), made
    for step in made.steps:
        machine.do(step)
    return [(step.verb, step.target, dict(step.arguments)) for step in made.steps]


def test_a_whole_gpu_is_reset_before_its_driver_sees_it_again() -> None:
    machine = gpu8()
    done = machine.prepare(machine.planned(machine.group(GPU)))
    assert steps(machine, done) == [("reset", GPU, {"method": None}), ("bind", GPU, {"driver": "nvidia"})]


def test_by_policy_it_stays_on_vfio() -> None:
    machine = gpu8(Treatment(Mode.WHOLE, keep=True))
    done = machine.prepare(machine.planned(machine.group(GPU)))
    assert steps(machine, done) == [("reset", GPU, {"method": None})]
    assert machine.planned(machine.group(GPU)).steps == ()


def test_by_policy_nothing_is_reset() -> None:
    machine = gpu8(Treatment(Mode.WHOLE, reset=Reset.NEVER))
    assert [verb for verb, *_ in steps(machine, machine.prepare(machine.planned(machine.group(GPU))))] == ["bind"]


def test_what_cannot_be_reset_is_not() -> None:
    device = {"id": "10de:20f1", "class": "030200", "driver": "nvidia", "reset": []}
    machine = Machine(on_bus(device))
    done = machine.prepare(machine.planned(machine.group("0000:3b:00.0")))
    assert [verb for verb, *_ in steps(machine, done)] == ["bind"]


def test_a_vf_that_was_on_vfio_all_along_is_only_reset() -> None:
    machine = gpu8()
    done = machine.prepare(machine.planned(machine.group(NIC)))
    assert steps(machine, done) == [("reset", "0000:1b:00.2", {"method": None})]


def test_a_vfs_attributes_are_neutral_before_the_host_gets_it_back() -> None:
    machine = gpu8()
    done = machine.prepare(machine.planned(machine.group(NIC, at=VF7, vlan="7", trust="true")))
    unset = {"index": 7, "mac": None, "rate": None}
    assert steps(machine, done) == [
        ("reset", VF7, {"method": None}),
        ("set_vf_attributes", NIC, {**unset, "vlan": 0, "trust": 0}),
        ("bind", VF7, {"driver": "mlx5_core"}),
    ]


def test_what_the_step_found_counts_more_than_what_the_plan_expected() -> None:
    machine = gpu8()
    machine.network[NIC, 7] = {"mac": "fa:16:3e:00:00:01", "vlan": 99, "trust": 0, "rate": 0}
    done = machine.prepare(machine.planned(machine.group(NIC, at=VF7, vlan="7")))
    done = replace(done, found={**done.found, 0: {"driver": "iavf"}})
    assert steps(machine, done)[1:] == [
        ("set_vf_attributes", NIC, {"index": 7, "mac": None, "vlan": 99, "trust": None, "rate": None}),
        ("bind", VF7, {"driver": "iavf"}),
    ]


def test_nothing_is_done_while_the_guest_still_runs() -> None:
    machine = gpu8()
    done = machine.prepare(machine.planned(machine.group(NIC)))
    user = User(4711, "qemu-system-x86", "/dev/vfio/38", ALICE)
    devices = tuple(
        replace(each, vf_users=((0, (user,)),)) if each.address == NIC else each for each in machine.devices
    )
    refusal = release(done, replace(machine, devices=devices).view())
    assert not isinstance(refusal, Plan)
    assert (refusal.kind, refusal.holders) == (RefusalKind.RETRY, (Holder(ALICE, 4711, "qemu-system-x86"),))


@pytest.mark.parametrize(("instance", "free"), [(ALICE, False), (BOB, True)])
def test_other_users_of_a_shared_parent_do_not_matter(instance: str, *, free: bool) -> None:
    machine = Machine(on_bus(T4), {"0000:3b:00.0": Treatment(Mode.VGPU, types={"CUSTOM_VGPU": "GRID T4-1B"})})
    done = machine.prepare(machine.planned(machine.group("0000:3b:00.0")))
    user = User(4711, "qemu-system-x86", "/dev/vfio/40", instance)
    devices = tuple(
        replace(each, users=(user,)) if each.address == "0000:3b:00.0" else each for each in machine.devices
    )
    assert isinstance(release(done, replace(machine, devices=devices).view()), Plan) is free


def test_the_vgpu_goes_before_its_gpu_instance_and_its_vf_is_never_reset() -> None:
    address = "0000:3b:00.0"
    treatment = Treatment(Mode.VGPU, types={"CUSTOM_VGPU": None})
    machine = Machine(on_bus(H100, nvml={address: H100_NVML}), {address: treatment})
    done = machine.prepare(machine.planned(machine.group(address, mig_profile="1g.10gb")))
    assert machine.instances == {(address, 0): "1g.10gb"}
    assert steps(machine, done) == [
        ("set_vgpu_type", "0000:3b:00.4", {"type": 0}),
        ("destroy_mig", address, {"profile": "1g.10gb", "placement": 0}),
    ]
    assert machine.instances == {}


def test_an_instance_that_the_look_may_not_see_is_removed_all_the_same() -> None:
    """NVML tells only privileged users of instances; to others it says that there are none."""
    address = "0000:3b:00.0"
    machine = Machine(
        on_bus(H100, nvml={address: H100_NVML}), {address: Treatment(Mode.VGPU, types={"CUSTOM_VGPU": None})}
    )
    done = machine.prepare(machine.planned(machine.group(address, mig_profile="1g.10gb")))
    blind = replace(machine, instances={})
    plan = release(done, blind.view())
    assert isinstance(plan, Plan)
    assert [step.verb for step in plan.steps] == ["set_vgpu_type", "destroy_mig"]


def test_a_mediated_device_is_removed_from_its_parent_which_is_not_reset() -> None:
    address = "0000:3b:00.0"
    machine = Machine(on_bus(T4), {address: Treatment(Mode.VGPU, types={"CUSTOM_VGPU": "GRID T4-1B"})})
    done = machine.prepare(machine.planned(machine.group(address, 2)))
    uids = [handle.key for handle in done.handles]
    assert steps(machine, done) == [
        ("remove_mdev", address, {"type": "nvidia-222", "uuid": uid}) for uid in reversed(uids)
    ]


def test_a_mediated_device_that_cannot_be_looked_for_is_removed_all_the_same() -> None:
    address = "0000:3b:00.0"
    machine = Machine(on_bus(T4), {address: Treatment(Mode.MDEV, types={"CUSTOM_VGPU": "GRID T4-1B"})})
    done = machine.prepare(machine.planned(machine.group(address)))
    blind = tuple(replace(each, claim=replace(each.claim, mdev=None)) for each in machine.devices)
    made = release(done, replace(machine, devices=blind).view())
    assert isinstance(made, Plan)
    assert [step.verb for step in made.steps] == ["remove_mdev"]


def test_an_image_stays_where_the_policy_does_not_wipe_it() -> None:
    address, interface = "0000:19:00.0", "38d782e3b6125343b9342433e348ac4c"
    machine = Machine(described_host("fpga"), {}, {"nlb": Bitstream("sha256:60", interface)})
    done = machine.prepare(machine.planned(machine.group(address, bitstream="nlb")))
    assert done.plan.steps[0].verb == "program_fpga"
    assert [verb for verb, *_ in steps(machine, done)] == ["reset", "bind"]


def test_a_vf_that_carried_a_vgpu_is_not_wiped_itself() -> None:
    machine = l40s(scrub=Scrub.GPU_RESET)
    done = machine.prepare(machine.planned(machine.group("0000:3b:00.0", vgpu_type="1155")))
    assert [verb for verb, *_ in steps(machine, done)] == ["set_vgpu_type"]


def test_what_needs_no_step_is_locked_all_the_same() -> None:
    machine = Machine(described_host("gpu8"), {NIC: Treatment(Mode.VF, reset=Reset.NEVER)})
    done = machine.prepare(machine.planned(machine.group(NIC)))
    made = release(done, machine.view())
    assert isinstance(made, Plan)
    assert (made.steps, made.locks) == ((), done.plan.locks)


def test_what_had_no_driver_has_none_again() -> None:
    machine = gpu8()
    machine.drivers[VF7] = None
    done = machine.prepare(machine.planned(machine.group(NIC, at=VF7)))
    assert steps(machine, done)[-1] == ("bind", VF7, {"driver": None})


def test_a_mediated_device_of_a_vf_is_removed_and_the_vf_stays_as_it_is() -> None:
    address = "0000:3b:00.0"
    machine = Machine(on_bus(A40), {address: Treatment(Mode.VGPU, types={"CUSTOM_VGPU": "NVIDIA A40-8Q"})})
    done = machine.prepare(machine.planned(machine.group(address)))
    assert [(verb, target) for verb, target, _ in steps(machine, done)] == [("remove_mdev", "0000:3b:00.4")]


def drive(serial: str | None, *, scrub: Scrub | None = Scrub.NVME_FORMAT) -> Machine:
    """Gives a drive that tells this serial number, or says nothing."""
    (device,) = (each for each in on_bus({"id": "144d:a80a", "class": "010802", "driver": "nvme"}) if each.claim.model)
    files = {**device.function.attributes, **({"nvme/nvme0/serial": serial} if serial else {})}
    device = replace(device, function=replace(device.function, attributes=files))
    return Machine((device,), {device.address: Treatment(Mode.WHOLE, scrub=scrub, types={"LOCAL_NVME": None})})


def test_a_drive_on_its_own_driver_that_does_not_say_who_it_is_is_not_wiped() -> None:
    address = "0000:3b:00.0"
    machine = drive("S4EVNX0M")
    done = machine.prepare(machine.planned(machine.group(address, 1, "LOCAL_NVME")))
    silent, other, driverless, passed = drive(None), drive("another"), drive(None), drive(None)
    driverless.drivers[address], passed.drivers[address] = None, "vfio-pci"
    refusal = release(done, silent.view())
    assert isinstance(refusal, Refusal)
    assert (refusal.kind, refusal.address) == (RefusalKind.RETRY, address)
    assert refusal.reason == (
        f"{address} does not say now whether it is what was given (nvme S4EVNX0M), so it is not wiped: "
        "see `devagent status` and dmesg"
    )
    # On VFIO none can say it; whose it is, if it says that, is asked elsewhere.
    for seen in (machine, driverless, passed, other):
        assert isinstance(release(done, seen.view()), Plan)
    both = {uid: {"mac": "02:00:00:00:00:01", **said} for uid, said in done.plan.told.items()}
    more = release(replace(done, plan=replace(done.plan, told=both)), silent.view())
    assert isinstance(more, Refusal)
    assert "(mac 02:00:00:00:00:01, nvme S4EVNX0M)" in more.reason
    assert isinstance(release(replace(done, plan=replace(done.plan, told={})), silent.view()), Plan)
    unwiped = replace(done, plan=replace(done.plan, wipes={}))
    assert isinstance(release(unwiped, silent.view()), Plan)
    assert isinstance(release(unwiped, replace(silent, devices=()).view()), Plan)


def test_what_lost_its_driver_meanwhile_is_reset_before_its_own_comes_back() -> None:
    machine = gpu8()
    done = machine.prepare(machine.planned(machine.group(GPU)))
    machine.drivers[GPU] = None
    assert steps(machine, done) == [("reset", GPU, {"method": None}), ("bind", GPU, {"driver": "nvidia"})]


@pytest.mark.parametrize("serial", ["S4EVNX0M?", "0123456789abcdefghijk", None])
def test_what_is_no_serial_number_is_not_said_to_who_wipes(serial: str | None) -> None:
    machine = drive(serial)
    done = machine.prepare(machine.planned(machine.group("0000:3b:00.0", 1, "LOCAL_NVME")))
    assert steps(machine, done)[-1] == ("scrub", "0000:3b:00.0", {"how": "nvme-format"})
    nothing = replace(done, plan=replace(done.plan, told={}))
    assert steps(machine, nothing)[-1][2] == {"how": "nvme-format"}


def test_a_kept_device_is_wiped_by_the_driver_that_it_had() -> None:
    """Before one that is made for it, of which there may be several."""
    machine = gpu8(Treatment(Mode.WHOLE, keep=True, scrub=Scrub.GPU_RESET))
    machine.drivers[GPU] = "nouveau"
    done = machine.prepare(machine.planned(machine.group(GPU), machine.group(NIC, at=VF7)))
    assert [(verb, target, more.get("driver")) for verb, target, more in steps(machine, done) if target == GPU] == [
        ("reset", GPU, None),
        ("bind", GPU, "nouveau"),
        ("scrub", GPU, None),
        ("bind", GPU, "vfio-pci"),
    ]


def test_what_was_on_vfio_all_along_is_wiped_by_a_driver_that_is_made_for_it() -> None:
    address = "0000:3b:00.0"
    machine = drive("S4EVNX0M")
    (device,) = machine.devices
    made_for = replace(device, function=replace(device.function, drivers=("vfio-pci", "nvme")))
    machine = replace(machine, devices=(made_for,), drivers={address: "vfio-pci"})
    machine.drivers[address] = "vfio-pci"
    done = machine.prepare(machine.planned(machine.group(address, 1, "LOCAL_NVME")))
    assert [(verb, more.get("driver")) for verb, _, more in steps(machine, done)][-3:] == [
        ("bind", "nvme"),
        ("scrub", None),
        ("bind", "vfio-pci"),
    ]


def test_a_vf_of_a_kind_for_which_no_driver_is_known_is_wiped_as_it_is() -> None:
    machine = Machine(described_host("gpu8"), {NIC: Treatment(Mode.VF, scrub=Scrub.GPU_RESET)})
    done = machine.prepare(machine.planned(machine.group(NIC)))
    made = release(done, machine.view())
    assert isinstance(made, Plan)
    assert [step.verb for step in made.steps] == ["reset", "scrub"]


def test_what_is_as_it_was_already_gets_no_step() -> None:
    machine = Machine(on_bus(T4), {"0000:3b:00.0": Treatment(Mode.VGPU, types={"CUSTOM_VGPU": "GRID T4-1B"})})
    done = machine.prepare(machine.planned(machine.group("0000:3b:00.0")))
    machine.mdevs.clear()
    assert steps(machine, done) == []


def test_a_vgpu_that_somebody_cleared_already_gets_no_step() -> None:
    machine = l40s()
    done = machine.prepare(machine.planned(machine.group("0000:3b:00.0", vgpu_type="1155")))
    machine.vgpus.clear()
    assert steps(machine, done) == []


def absent(machine: Machine, preparation: Preparation, *without: str, replaced: bool = False) -> Refusal:
    """Plans the release while cards are not there, and gives why it is refused."""
    devices = tuple(each for each in machine.devices if each.address not in without)
    seen = replace(machine, devices=devices).view()
    if replaced:
        seen = replace(seen, replaced=frozenset(without))
    refusal = release(preparation, seen)
    assert isinstance(refusal, Refusal)
    return refusal


def test_what_is_to_be_wiped_and_is_not_there_is_waited_for() -> None:
    machine = gpu8(Treatment(Mode.WHOLE, scrub=Scrub.GPU_RESET))
    done = machine.prepare(machine.planned(machine.group(GPU)))
    (name,) = done.plan.devices.values()
    forget = f"`devagent preparations forget {ALICE}`"
    refusal = absent(machine, done, GPU)
    assert (refusal.kind, refusal.address) == (RefusalKind.RETRY, GPU)
    assert refusal.reason == (
        f"{GPU} ({name}) is not there, so it cannot be wiped: put it back, or say {forget} if it is destroyed"
    )
    assert (
        f"{GPU} ({name}) is not there, another device is in its place"
        in absent(machine, done, GPU, replaced=True).reason
    )
    earlier = replace(done, plan=replace(done.plan, devices={}))
    assert absent(machine, earlier, GPU).reason.startswith(f"{GPU} is not there, so it cannot be wiped")


def test_of_a_vf_that_is_not_there_it_is_said_where_its_card_is_now() -> None:
    machine = Machine(described_host("gpu8"), {NIC: Treatment(Mode.VF, scrub=Scrub.NVME_FORMAT)})
    done = machine.prepare(machine.planned(machine.group(NIC, at=VF7)))
    fewer = tuple(
        replace(each, function=replace(each.function, sriov=replace(each.function.sriov, vfs=())))
        if each.address == NIC and each.function.sriov is not None
        else each
        for each in machine.devices
    )
    refusal = release(done, replace(machine, devices=fewer).view())
    assert isinstance(refusal, Refusal)
    assert f"is not there, its card is at {NIC}, so it cannot be wiped: make that card's VFs as they" in refusal.reason


def test_a_device_that_no_driver_but_vfio_knows_is_wiped_as_it_is() -> None:
    machine = Machine(
        on_bus({"id": "10de:20f1", "class": "030200", "driver": "vfio-pci"}),
        {"0000:3b:00.0": Treatment(Mode.WHOLE, scrub=Scrub.GPU_RESET)},
    )
    done = machine.prepare(machine.planned(machine.group("0000:3b:00.0")))
    made = release(done, machine.view())
    assert isinstance(made, Plan)
    assert [(step.verb, step.target) for step in made.steps] == [("reset", "0000:3b:00.0"), ("scrub", "0000:3b:00.0")]


def test_what_the_host_drives_again_is_not_reset_below_its_driver() -> None:
    machine = gpu8()
    done = machine.prepare(machine.planned(machine.group(GPU)))
    machine.drivers[GPU] = "nvidia"
    assert steps(machine, done) == []


def test_what_was_unplugged_gets_no_step() -> None:
    machine = gpu8()
    done = machine.prepare(machine.planned(machine.group(GPU), machine.group(NIC)))
    machine = replace(machine, devices=tuple(each for each in machine.devices if each.address != GPU))
    assert [target for _, target, _ in steps(machine, done)] == ["0000:1b:00.2"]


def test_what_no_rule_gives_any_more_is_brought_back_all_the_same() -> None:
    machine = gpu8()
    done = machine.prepare(machine.planned(machine.group(GPU)))
    devices = tuple(
        replace(each, decision=replace(each.decision, managed=False, mode=None)) for each in machine.devices
    )
    unmanaged = replace(machine, devices=devices)
    unmanaged.drivers[GPU] = "vfio-pci"
    assert steps(unmanaged, done)[-1] == ("bind", GPU, {"driver": "nvidia"})


def test_what_was_never_ready_is_neither_reset_nor_wiped() -> None:
    machine = gpu8(Treatment(Mode.WHOLE, scrub=Scrub.GPU_RESET))
    done = replace(machine.prepare(machine.planned(machine.group(GPU))), handles=())
    assert steps(machine, done) == [("bind", GPU, {"driver": "nvidia"})]


def test_only_what_was_done_is_taken_back() -> None:
    machine = gpu8()
    done = machine.prepare(machine.planned(machine.group(NIC, at=VF7, vlan="7")))
    assert [verb for verb, *_ in steps(machine, replace(done, done=(0,), handles=()))] == ["bind"]


def test_a_gpu_is_wiped_by_its_own_driver() -> None:
    machine = gpu8(Treatment(Mode.WHOLE, scrub=Scrub.GPU_RESET))
    done = machine.prepare(machine.planned(machine.group(GPU)))
    assert [verb for verb, *_ in steps(machine, done)] == ["reset", "bind", "scrub"]
    assert machine.cleaned == [(GPU, "reset"), (GPU, "gpu-reset")]


def test_an_nvme_vf_that_stays_on_vfio_goes_to_nvme_to_be_wiped() -> None:
    address = "0000:83:00.0"
    treatment = Treatment(Mode.VF, keep=True, scrub=Scrub.NVME_SANITIZE)
    machine = Machine(described_host("zoo"), {address: treatment})
    done = machine.prepare(machine.planned(machine.group(address)))
    vf = done.handles[0].function
    assert steps(machine, done) == [
        ("reset", vf, {"method": None}),
        ("bind", vf, {"driver": "nvme"}),
        ("scrub", vf, {"how": "nvme-sanitize"}),
        ("bind", vf, {"driver": "vfio-pci"}),
    ]


def test_an_fpga_gets_the_blank_image_once_its_driver_is_back() -> None:
    address = "0000:18:00.0"
    treatment = Treatment(Mode.WHOLE, scrub=Scrub.FPGA_BLANK, blank="sha256:00")
    images = {"blank": Bitstream("sha256:00", "f3c9941350814aadbced07eb84a6d0bb")}
    machine = Machine(described_host("fpga"), {address: treatment}, images)
    done = machine.prepare(machine.planned(machine.group(address)))
    assert steps(machine, done)[1:] == [
        ("bind", address, {"driver": "dfl-pci"}),
        (
            "program_fpga",
            address,
            {
                "region": "region1",
                "port": None,
                "digest": "sha256:00",
                "interface": "f3c9941350814aadbced07eb84a6d0bb",
            },
        ),
    ]


def test_a_release_only_goes_forward() -> None:
    machine = gpu8()
    done = machine.prepare(machine.planned(machine.group(GPU), machine.group(NIC, at=VF7, vlan="7")))
    made = release(done, machine.view())
    assert isinstance(made, Plan)
    assert all(step.undo is None for step in made.steps)
    assert (made.handles, made.locks) == ((), done.plan.locks)


def test_an_override_that_was_there_before_comes_back_with_the_driver() -> None:
    machine = gpu8()
    done = machine.prepare(machine.planned(machine.group(GPU)))
    found = {number: {**what, "override": "nvidia"} for number, what in done.found.items()}
    back = steps(machine, replace(done, found=found))[-1]
    assert back == ("bind", GPU, {"driver": "nvidia", "override": "nvidia"})


def test_only_the_drive_that_was_given_is_wiped_though_no_driver_claims_it(tmp_path: Path) -> None:
    """A drive without SR-IOV is known by its place, and by its serial number while it is on the driver nvme."""
    drive = {"id": "144d:a80a", "class": "010802", "driver": "nvme"}
    top = generate(described(port(drive), drivers=["vfio-pci"]), tmp_path / "h")
    folder = (top / "sys/bus/pci/devices/0000:3b:00.0").resolve()
    write(folder, {"nvme/nvme0/serial": "S4EVNX0M 1          \n"})
    devices = look(top, Policy((Rule("drives", mode=Mode.WHOLE, match=Match()),), "test"), every=True).devices
    machine = Machine(devices, {"0000:3b:00.0": Treatment(Mode.WHOLE, scrub=Scrub.NVME_FORMAT)})
    made = machine.planned(machine.group("0000:3b:00.0"))
    (said,) = made.told.values()
    assert said == {"nvme": "S4EVNX0M 1"}
    scrub = steps(machine, machine.prepare(made))[-1]
    assert scrub == ("scrub", "0000:3b:00.0", {"how": "nvme-format", "serial": "S4EVNX0M 1"})
    assert {device.identity.source for device in devices if device.address == "0000:3b:00.0"} == {"topology"}


def test_an_alveo_that_stays_on_vfio_is_wiped_by_the_pf_beside_it() -> None:
    images = {"blank": Bitstream("00" * 32)}
    treatment = Treatment(Mode.WHOLE, keep=True, scrub=Scrub.FPGA_BLANK, blank="00" * 32)
    machine = Machine(described_host("zoo"), {"0000:84:00.1": treatment}, images)
    done = machine.prepare(machine.planned(machine.group("0000:84:00.1")))
    assert [(verb, target) for verb, target, _ in steps(machine, done)] == [
        ("reset", "0000:84:00.1"),
        ("program_fpga", "0000:84:00.0"),
    ]
