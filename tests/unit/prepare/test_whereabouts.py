# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Where the devices of a plan are now, and which functions it may touch."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from typing import Any

import pytest

from devagent.model.claim import Mode
from devagent.model.device import Device
from devagent.model.identity import Identity
from devagent.model.plan import Plan
from devagent.prepare.beside import beside
from devagent.prepare.treatment import Scrub, Treatment
from devagent.prepare.view import functions
from devagent.prepare.whereabouts import Whereabouts, whereabouts

from .scenes import ROOT, T4, Machine, described_host, on_bus, provider

HERE, THERE, NIC = "0000:3b:00.0", "0000:3b:01.0", "0000:3b:02.0"
DRIVE: dict[str, Any] = {"id": "144d:a80a", "class": "010802", "driver": "nvme"}
CARD: dict[str, Any] = {"id": "15b3:101d", "class": "020000", "driver": "mlx5_core", "vfs": {"total": 2, "count": 2}}
FORMAT = Treatment(Mode.WHOLE, scrub=Scrub.NVME_FORMAT)


def host(here: str | None, there: str | None = None, *, tells: bool = True) -> tuple[Device, ...]:
    """Gives a NIC with two VFs and two slots for drives, each with the drive of a serial number, or empty."""
    slots = {HERE: here, THERE: there}
    found = on_bus(*({**DRIVE, "at": at[-4:]} for at, serial in slots.items() if serial), {**CARD, "at": NIC[-4:]})
    return tuple(drive(each, serial, tells=tells) if (serial := slots.get(each.address)) else each for each in found)


def drive(device: Device, serial: str, *, tells: bool) -> Device:
    files = {**device.function.attributes, "nvme/nvme0/serial": serial} if tells else device.function.attributes
    return replace(device, identity=Identity("nvme", serial), function=replace(device.function, attributes=files))


def given(devices: tuple[Device, ...], address: str, treatment: Treatment = FORMAT, /, **more: Any) -> Plan:
    machine = Machine(devices, {address: treatment})
    return machine.planned(machine.group(address, 1, "LOCAL_NVME", **more))


def where(plan: Plan, devices: tuple[Device, ...], listed: Container[str] = ()) -> Whereabouts:
    return whereabouts(plan, devices, ROOT, listed)


@pytest.fixture
def plan() -> Plan:
    """Gives the drive A whole, to be wiped afterwards."""
    treatment = replace(FORMAT, types={"LOCAL_NVME": None})
    return given(host("A", "B"), HERE, treatment)


def test_what_stands_where_it_was_given_is_at_home(plan: Plan) -> None:
    assert where(plan, host("A", "B")) == Whereabouts({}, {})


def test_what_is_gone_has_no_place_and_nobody_stands_there(plan: Plan) -> None:
    assert where(plan, host(None, "B")) == Whereabouts({}, {})


def test_another_device_in_its_place_is_a_stranger(plan: Plan) -> None:
    found = where(plan, host("C", "B"))
    assert found == Whereabouts({HERE: HERE}, {})
    assert [each.address for each in found.near(host("C", "B"))] == [
        each.address for each in host("C", "B") if each.address != HERE
    ]


def test_what_was_given_whole_and_is_to_be_wiped_is_followed_to_where_it_is_now(plan: Plan) -> None:
    swapped = host("B", "A")
    found = where(plan, swapped)
    assert found == Whereabouts({HERE: HERE}, {HERE: THERE})
    done = Machine(host("A", "B")).prepare(plan)
    assert [handle.function for handle in found.followed(done).handles] == [THERE]
    assert THERE in [each.address for each in found.near(swapped)]


def test_what_did_not_move_is_followed_nowhere(plan: Plan) -> None:
    done = Machine(host("A", "B")).prepare(plan)
    assert Whereabouts({}, {}).followed(done) == done


def test_what_a_device_told_is_enough_to_know_another_one(plan: Plan) -> None:
    assert where(replace(plan, devices={}), host("C", "B")).strangers == {HERE: HERE}


def test_two_that_changed_places_are_both_looked_at() -> None:
    devices = host("A", "B")
    machine = Machine(devices, dict.fromkeys((HERE, THERE), replace(FORMAT, types={"LOCAL_NVME": None})))
    both = machine.planned(*(machine.group(at, 1, "LOCAL_NVME") for at in (HERE, THERE)))
    found = where(both, host("B", "A"))
    assert found == Whereabouts({HERE: HERE, THERE: THERE}, {HERE: THERE, THERE: HERE})
    assert found.near(host("B", "A")) == host("B", "A")


def test_what_is_not_to_be_wiped_is_not_followed() -> None:
    plan = given(host("A", "B"), HERE, Treatment(Mode.WHOLE, types={"LOCAL_NVME": None}))
    assert where(plan, host("B", "A")) == Whereabouts({HERE: HERE}, {})


def test_what_a_device_tells_counts_more_than_what_was_settled_on(plan: Plan) -> None:
    """A card that was cloned, or a book of identities that was lost: the serial number is the same."""
    renamed = tuple(
        replace(each, identity=Identity("topology", "slot 7")) if each.address == HERE else each
        for each in host("A", "B")
    )
    assert where(plan, renamed) == Whereabouts({}, {})


def test_of_one_that_tells_nothing_now_what_was_settled_on_decides(plan: Plan) -> None:
    assert where(plan, host("A", "B", tells=False)) == Whereabouts({}, {})
    assert where(plan, host("C", "B", tells=False)) == Whereabouts({HERE: HERE}, {})


@pytest.mark.parametrize("listed", [True, False])
def test_of_a_plan_that_does_not_say_what_it_gave_the_provider_decides_while_placement_lists_it(
    plan: Plan, *, listed: bool
) -> None:
    """As an earlier version wrote it."""
    silent = replace(plan, devices={}, told={})
    mine = provider(HERE, host("A", "B"))
    known = (mine,) if listed else ()
    assert where(silent, host("A", "B"), known) == Whereabouts({}, {})
    assert where(silent, host("C", "B"), known).strangers == ({HERE: HERE} if listed else {})


def test_a_vf_is_at_home_while_its_pf_is_and_else_the_pf_is_a_stranger() -> None:
    devices = host("A")
    card = next(each for each in devices if each.address == NIC)
    treatment = Treatment(Mode.VF, scrub=Scrub.NVME_SANITIZE, types={"CUSTOM_VF": None})
    machine = Machine(devices, {NIC: treatment})
    plan = machine.planned(machine.group(NIC, 1, "CUSTOM_VF"))
    vf = plan.handles[0].function
    assert vf != NIC
    assert where(plan, devices) == Whereabouts({}, {})
    other = tuple(replace(each, identity=Identity("mac", "other")) if each is card else each for each in devices)
    assert where(replace(plan, told={}), other) == Whereabouts({NIC: vf}, {})


def test_a_vf_is_not_followed_to_where_its_card_is_now() -> None:
    """Its number there may be another; who released it is told where the card is."""

    def at(slot: str) -> tuple[Device, ...]:
        return tuple(replace(each, identity=Identity("mac", "A")) for each in on_bus({**CARD, "at": slot}) if each.vfs)

    machine = Machine(at("02.0"), {NIC: Treatment(Mode.VF, scrub=Scrub.NVME_SANITIZE, types={"CUSTOM_VF": None})})
    plan = machine.planned(machine.group(NIC, 1, "CUSTOM_VF"))
    assert where(replace(plan, told={}), at("04.0")) == Whereabouts({}, {})


def test_a_mediated_device_stays_at_the_address_that_it_was_made_of() -> None:
    devices = on_bus(T4)
    machine = Machine(devices, {HERE: Treatment(Mode.VGPU, types={"CUSTOM_VGPU": "GRID T4-1B"})})
    made = machine.prepare(machine.planned(machine.group(HERE)))
    assert Whereabouts({}, {HERE: THERE}).followed(made).handles == made.handles


def test_a_plan_may_touch_its_card_and_the_companions_in_its_group_and_nothing_else() -> None:
    gpu = {"id": "10de:1eb8", "class": "030000", "driver": "nvidia", "at": "00.0"}
    audio = {"id": "10de:10f8", "class": "040300", "driver": "snd_hda_intel", "at": "00.1", "iommu_with": "00.0"}
    machine = Machine(on_bus(gpu, audio, {**CARD, "at": "02.0"}))
    plan = machine.planned(machine.group(HERE))
    assert beside(plan.handles, machine.view()) == {HERE, "0000:3b:00.1"}


def test_with_a_vf_all_of_its_card_is_touched() -> None:
    machine = Machine(described_host("gpu8"))
    plan = machine.planned(machine.group("0000:1b:00.0"))
    card = next(each for each in machine.devices if each.address == "0000:1b:00.0")
    assert beside(plan.handles, machine.view()) == {part.address for part in functions(card)}


def test_a_group_that_went_to_no_guest_is_nobodys_companion() -> None:
    crowd = {"id": "10de:1eb8", "class": "030000", "driver": "nvidia"}
    machine = Machine(on_bus({**crowd, "at": "00.0"}, {**crowd, "at": "01.0", "iommu_with": "00.0"}))
    alone = Machine(on_bus({**crowd, "at": "00.0"}, {**crowd, "at": "01.0"}))
    plan = alone.planned(alone.group(HERE))
    assert beside(plan.handles, machine.view()) == {HERE}


def test_without_an_iommu_a_plan_may_touch_its_card_alone_and_what_is_gone_nothing() -> None:
    machine = Machine(host("A"))
    (drive,) = (each for each in machine.devices if each.address == HERE)
    plan = given(machine.devices, HERE, replace(FORMAT, types={"LOCAL_NVME": None}))
    off = replace(drive, function=replace(drive.function, iommu_group=None))
    assert beside(plan.handles, Machine((off,)).view()) == {HERE}
    assert beside(plan.handles, Machine(()).view()) == frozenset()


def test_an_alveos_management_pf_is_touched_with_its_user_pf() -> None:
    machine = Machine(described_host("zoo"))
    plan = machine.planned(machine.group("0000:84:00.1"))
    assert "0000:84:00.0" in beside(plan.handles, machine.view())
