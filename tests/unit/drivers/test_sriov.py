# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Any PF is known, by its class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devagent.discovery import Discovery
from devagent.drivers.sriov import Sriov as Driver
from devagent.model.claim import Claim, Kind, Mode, NetFacts, NetInterface
from devagent.model.identity import Identity
from devagent.model.pci import Sriov, VirtualFunction

from ..worlds import NIC, function, look_at, port


def test_the_described_nics_have_their_interfaces(discovery: Callable[[str], Discovery]) -> None:
    (nic, *others) = [device for device in discovery("gpu8").devices if device.claim.model == "ConnectX-6 Dx"]
    assert len(others) == 3
    assert nic.claim.net is not None
    assert (nic.claim.net.names, nic.claim.net.eswitch) == (("enp27s0f0np0",), "legacy")
    assert (nic.claim.driver, nic.claim.kind, nic.claim.vendor) == ("sriov", Kind.NIC, "Mellanox")
    assert nic.claim.traits == frozenset({"HW_NIC_SRIOV"})
    assert (nic.decision.resource_class, nic.decision.total) == ("SRIOV_NET_VF", 8)


@pytest.mark.parametrize(
    ("class_code", "kind", "resource_class", "model"),
    [
        ("020000", Kind.NIC, "SRIOV_NET_VF", "NIC [0001]"),
        ("020700", Kind.NIC, "SRIOV_NET_VF", "NIC [0001]"),
        ("ff0000", Kind.OTHER, "CUSTOM_PCI_ABCD_0002", "SR-IOV device [0001]"),
    ],
)
def test_the_class_tells_what_the_vfs_are(class_code: str, kind: Kind, resource_class: str, model: str) -> None:
    claim = Driver().claim(function(ids="abcd:0001", class_code=class_code, sriov=Sriov(8, "0002")))
    assert (claim.kind, claim.offers[Mode.VF], claim.model) == (kind, resource_class, model)
    assert claim.offers[Mode.WHOLE] == "CUSTOM_PCI_ABCD_0001"
    assert (claim.net is not None) == (kind is Kind.NIC)
    assert ("HW_NIC_SRIOV" in claim.traits) == (kind is Kind.NIC)


@pytest.mark.parametrize(
    ("sriov", "recognised"),
    [
        (None, False),
        (Sriov(0), False),
        (Sriov(1), True),
        (Sriov(0, None, (VirtualFunction(0, "0000:3b:01.0"),)), True),
    ],
)
def test_what_has_or_could_have_vfs_is_recognised(sriov: Sriov | None, recognised: bool) -> None:
    assert Driver().recognises(function(class_code=NIC, sriov=sriov)) is recognised


def test_vfs_of_an_unknown_id_are_named_by_the_pfs() -> None:
    claim = Driver().claim(function(ids="abcd:0001", class_code="ff0000", sriov=Sriov(8)))
    assert claim.offers[Mode.VF] == "CUSTOM_PCI_ABCD_0001"


def test_a_nic_without_vfs_is_listed_and_stays(tmp_path: Path) -> None:
    nic = {"id": "8086:1572", "class": NIC, "driver": "i40e", "net": ["ens1"], "vfs": {"total": 64, "offset": 16}}
    (device,) = look_at(tmp_path, port(nic)).values()
    assert (device.claim.model, device.decision.reason) == (
        "X710",
        "no rule matches (vf_count makes VFs)",
    )


def test_a_nic_on_vfio_has_no_interfaces(tmp_path: Path) -> None:
    nic = {"id": "8086:1572", "class": NIC, "driver": "vfio-pci", "net": ["ens1"], "vfs": {"total": 64, "offset": 16}}
    (device,) = look_at(tmp_path, port(nic)).values()
    assert device.claim.net == NetFacts(())


def test_a_plain_nic_is_no_device(tmp_path: Path) -> None:
    assert look_at(tmp_path, port({"id": "8086:1533", "class": NIC, "driver": "igb", "net": ["ens1"]})) == {}


def net(unread: str = "", /, **interfaces: Any) -> Claim:
    """Gives what is said of a NIC whose interfaces have these attributes."""
    attributes = {f"net/{name}/{key}": text for name, files in interfaces.items() for key, text in files.items()}
    return Driver().claim(
        function(
            ids="15b3:101d", class_code=NIC, sriov=Sriov(8), attributes=attributes, unread=frozenset({unread} - {""})
        )
    )


MAC = "b8:ce:f6:12:34:56"
PORT = {"address": MAC, "addr_assign_type": "0", "operstate": "up", "speed": "100000", "phys_port_name": "p0"}


def test_a_port_is_told_with_its_link() -> None:
    claim = net(ens1f0np0=PORT)
    assert claim.net == NetFacts((NetInterface("ens1f0np0", MAC, True, 100000),), "legacy")
    assert claim.traits == frozenset({"HW_NIC_SRIOV"})


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"operstate": "down", "speed": "-1"}, (False, None)),
        ({"operstate": "lowerlayerdown", "speed": "4294967295"}, (False, None)),
        ({"operstate": "unknown", "speed": "x"}, (None, None)),
        ({"operstate": "dormant", "speed": "0"}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_what_a_port_does_not_say_is_unknown(files: dict[str, str], expected: tuple[bool | None, int | None]) -> None:
    facts = net(ens1={"address": MAC, **files}).net
    assert facts is not None
    assert (facts.interfaces[0].link, facts.interfaces[0].speed_mbps) == expected


def test_representors_are_counted_and_no_interfaces() -> None:
    switch = {"phys_switch_id": "0a1b2c"}
    stand_ins = ("pf0vf0", "pf0vf127", "c1pf0vf3", "pf0sf88", "c1pf0", "pf0hpf")
    others = {
        f"eth{number}": {"address": MAC, "phys_port_name": name, **switch} for number, name in enumerate(stand_ins)
    }
    claim = net(enp59s0f0np0=PORT | switch, **others)
    assert claim.net is not None
    assert (claim.net.names, claim.net.eswitch, claim.net.representors) == (("enp59s0f0np0",), "switchdev", 6)
    assert claim.traits == frozenset({"HW_NIC_SRIOV", "HW_NIC_OFFLOAD_SWITCHDEV"})


@pytest.mark.parametrize("port", ["p0", "p1s2", "0", "", "n0"])
def test_a_port_of_its_own_is_an_interface(port: str) -> None:
    facts = net(ens1=PORT | {"phys_port_name": port}).net
    assert facts is not None
    assert facts.representors == 0


def test_representors_that_do_not_answer_are_known_by_name() -> None:
    facts = net(enp59s0f0np0={"address": MAC}, enp59s0f0npf0vf3={"address": MAC}).net
    assert facts is not None
    assert (facts.names, facts.representors) == (("enp59s0f0np0",), 1)


@pytest.mark.parametrize("unread", ["answers", "net/ens1/phys_switch_id"])
def test_the_mode_of_a_nic_that_does_not_answer_is_unknown(unread: str) -> None:
    facts = net(unread, ens1={"address": MAC}).net
    assert facts is not None
    assert facts.eswitch is None


def test_without_interfaces_the_mode_is_unknown() -> None:
    assert net().net == NetFacts()


@pytest.mark.parametrize(
    ("interfaces", "mac"),
    [
        ({"b": PORT, "a": PORT | {"address": "b8:ce:f6:00:00:01"}}, "b8:ce:f6:00:00:01"),
        ({"a": PORT | {"addr_assign_type": "3"}, "b": PORT}, MAC),
        ({"a": PORT | {"addr_assign_type": "1"}}, None),
        ({"a": {"address": MAC}}, None),
        ({"a": PORT | {"address": "00:00:00:00:00:00"}}, None),
        ({"a": PORT | {"address": "01:00:5e:00:00:01"}}, None),
        ({"a": PORT | {"address": "00:00:10:87:fe:80" + ":00" * 14}}, None),
        ({"a": PORT | {"phys_port_name": "pf0vf0"}}, None),
        ({}, None),
    ],
)
def test_the_first_permanent_address_identifies(interfaces: dict[str, dict[str, str]], mac: str | None) -> None:
    assert net(**interfaces).identities == ((Identity("mac", mac),) if mac else ())
