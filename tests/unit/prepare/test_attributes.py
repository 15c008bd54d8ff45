# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a consumer may ask of a NIC's VF."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devagent.model.claim import NetFacts, NetInterface
from devagent.model.plan import Step
from devagent.model.preparation import RefusalKind

from .scenes import Machine, described_host

NIC = "0000:1b:00.0"
UNSET = {"mac": None, "vlan": None, "trust": None, "rate": None}


def gpu8(net: NetFacts | None = None) -> Machine:
    devices = described_host("gpu8")
    if net is not None:
        devices = tuple(
            replace(each, claim=replace(each.claim, net=net)) if each.address == NIC else each for each in devices
        )
    return Machine(devices)


def test_what_is_asked_for_is_set_through_the_pf_and_undone_to_neutral() -> None:
    machine = gpu8()
    made = machine.planned(machine.group(NIC, mac="FA:16:3e:0b:7c:01", vlan="120", trust="true", rate="2500"))
    assert made.steps == (
        Step(
            "set_vf_attributes",
            NIC,
            {"index": 0, "mac": "fa:16:3e:0b:7c:01", "vlan": 120, "trust": 1, "rate": 2500},
            {"index": 0, "mac": "00:00:00:00:00:00", "vlan": 0, "trust": 0, "rate": 0},
        ),
    )


def test_what_is_not_asked_for_stays() -> None:
    machine = gpu8()
    (step,) = machine.planned(machine.group(NIC, vlan="7")).steps
    assert step.arguments == {"index": 0, **UNSET, "vlan": 7}
    assert step.undo == {"index": 0, **UNSET, "vlan": 0}


def test_the_driver_is_bound_first() -> None:
    machine = gpu8()
    made = machine.planned(machine.group(NIC, at="0000:1b:01.1", vlan="7"))
    assert [step.verb for step in made.steps] == ["bind", "set_vf_attributes"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mac", "01:00:5e:00:00:01"),  # multicast
        ("mac", "00:00:00:00:00:00"),
        ("mac", "fa:16:3e:0b:7c"),
        ("mac", "fa-16-3e-0b-7c-01"),
        ("vlan", "4095"),
        ("vlan", "-1"),
        ("vlan", "٣"),  # a digit, but none that anybody means
        ("vlan", ""),
        ("trust", "yes"),
        ("rate", "4294967296"),
        ("rate", "2.5"),
    ],
)
def test_nonsense_is_refused_by_name(name: str, text: str) -> None:
    machine = gpu8()
    refusal = machine.refused(machine.group(NIC, **{name: text}))
    assert refusal.kind is RefusalKind.INVALID
    assert refusal.reason.startswith(f"{name}: {text!r} is ")


@pytest.mark.parametrize(("name", "text"), [("vlan", "0"), ("vlan", "4094"), ("trust", "false"), ("rate", "0")])
def test_the_ends_of_the_ranges_are_possible(name: str, text: str) -> None:
    machine = gpu8()
    assert machine.planned(machine.group(NIC, **{name: text})).steps


def test_one_mac_is_for_one_vf() -> None:
    machine = gpu8()
    refusal = machine.refused(machine.group(NIC, 2, mac="fa:16:3e:0b:7c:01"))
    assert refusal.reason == "mac: 2 VFs cannot have one MAC address; ask in 2 groups"


def test_a_vlan_may_be_for_several() -> None:
    machine = gpu8()
    assert [step.arguments["index"] for step in machine.planned(machine.group(NIC, 2, vlan="7")).steps] == [0, 1]


@pytest.mark.parametrize(
    ("name", "address", "why"),
    [
        ("gpu8", "0000:19:00.0", "0000:19:00.0 is given as whole, which has no such property"),
        ("qat", "0000:6b:00.0", "only a NIC's VF has that, and 0000:6b:00.0 gives none"),
    ],
)
def test_only_a_nics_vf_has_attributes(name: str, address: str, why: str) -> None:
    machine = Machine(described_host(name))
    refusal = machine.refused(machine.group(address, vlan="7", mac="fa:16:3e:0b:7c:01"))
    assert (refusal.kind, refusal.address, refusal.reason) == (RefusalKind.INVALID, address, f"mac, vlan: {why}")


@pytest.mark.parametrize(
    ("net", "properties", "reason"),
    [
        (NetFacts(), {"vlan": "7"}, f"{NIC} has no network interface on the host to set its VFs by"),
        (
            NetFacts((NetInterface("ens1"),), "switchdev"),
            {"vlan": "7"},
            f"{NIC} is in switchdev mode: the VLAN of a VF is set on its representor, not here",
        ),
        (
            NetFacts((NetInterface("ens1", speed_mbps=25000),)),
            {"rate": "25001"},
            f"{NIC} runs at 25000 Mbit/s: it has no 25001",
        ),
    ],
)
def test_what_this_nic_cannot_do_is_permanent(net: NetFacts, properties: dict[str, str], reason: str) -> None:
    machine = gpu8(net)
    refusal = machine.refused(machine.group(NIC, **properties))
    assert (refusal.kind, refusal.reason) == (RefusalKind.PERMANENT, reason)


def test_without_a_vlan_switchdev_is_no_obstacle() -> None:
    machine = gpu8(NetFacts((NetInterface("ens1"),), "switchdev"))
    assert machine.planned(machine.group(NIC, vlan="0", rate="100")).steps
