# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Any PF is known, by its class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from devagent.discovery import Discovery
from devagent.drivers.sriov import Sriov as Driver
from devagent.model.claim import Kind, Mode, NetFacts
from devagent.model.pci import Sriov, VirtualFunction

from ..worlds import NIC, function, look_at, port


def test_the_described_nics_have_their_interfaces(discovery: Callable[[str], Discovery]) -> None:
    (nic, *others) = [device for device in discovery("gpu8").devices if device.claim.model == "ConnectX-6 Dx"]
    assert len(others) == 3
    assert nic.claim.net == NetFacts(("enp27s0f0np0",))
    assert (nic.claim.driver, nic.claim.kind, nic.claim.vendor) == ("sriov", Kind.NIC, "Mellanox")
    assert nic.claim.traits == frozenset({"HW_NIC_SRIOV"})
    assert (nic.decision.resource_class, nic.decision.total) == ("SRIOV_NET_VF", 8)


@pytest.mark.parametrize(
    ("class_code", "kind", "resource_class", "model"),
    [
        ("020000", Kind.NIC, "SRIOV_NET_VF", "NIC [0001]"),
        ("020700", Kind.NIC, "SRIOV_NET_VF", "NIC [0001]"),
        ("010802", Kind.NVME, "CUSTOM_NVME_VF", "NVMe controller [0001]"),
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
    assert (device.claim.model, device.decision.reason) == ("X710", "no rule matches")


def test_a_nic_on_vfio_has_no_interfaces(tmp_path: Path) -> None:
    nic = {"id": "8086:1572", "class": NIC, "driver": "vfio-pci", "net": ["ens1"], "vfs": {"total": 64, "offset": 16}}
    (device,) = look_at(tmp_path, port(nic)).values()
    assert device.claim.net == NetFacts(())


def test_a_plain_nic_is_no_device(tmp_path: Path) -> None:
    assert look_at(tmp_path, port({"id": "8086:1533", "class": NIC, "driver": "igb", "net": ["ens1"]})) == {}
