# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Accelerators are known by their class, or by ids where they have another."""

from __future__ import annotations

from pathlib import Path

import pytest

from devagent.drivers.accel import Accel
from devagent.model.claim import Claim, Kind, Mode
from devagent.model.health import State
from devagent.model.identity import Identity
from devagent.model.pci import Sriov

from ..worlds import function, look_at, port

TT = "tenstorrent/tenstorrent!0"


def claim(ids: str, class_code: str = "120000", **attributes: str) -> Claim:
    files = {name.replace("__", "/").replace("TT", TT): text for name, text in attributes.items()}
    return Accel().claim(function(ids=ids, class_code=class_code, attributes=files))


def test_an_accelerator_is_given_whole(tmp_path: Path) -> None:
    (device,) = look_at(tmp_path, port({"id": "1da3:1020", "class": "120000", "driver": "habanalabs"})).values()
    assert (device.claim.driver, device.claim.kind) == ("accel", Kind.ACCELERATOR)
    assert (device.claim.vendor, device.claim.model) == ("Habana", "Gaudi 2")
    assert device.decision.managed
    assert device.decision.resource_class == "CUSTOM_PCI_1DA3_1020"


@pytest.mark.parametrize(
    ("ids", "class_code", "recognised"),
    [
        ("abcd:0001", "120000", True),
        ("abcd:0001", "0b4000", True),
        ("abcd:0001", "120100", False),
        ("abcd:0001", "0b3000", False),
        ("abcd:0001", "030200", False),
        ("1022:1502", "118000", True),
        ("1d0f:7364", "088000", True),
        ("1ed5:0400", "030000", True),
        ("1ed5:04ff", "040300", False),
        ("8086:0b25", "088000", False),
    ],
)
def test_class_ids_or_vendor_tell(ids: str, class_code: str, recognised: bool) -> None:
    assert Accel().recognises(function(ids=ids, class_code=class_code)) is recognised


def test_a_pf_offers_its_vfs() -> None:
    pf = function(ids="19e5:d802", class_code="120000", sriov=Sriov(8, "d805"))
    assert Accel().claim(pf).offers == {Mode.WHOLE: "CUSTOM_PCI_19E5_D802", Mode.VF: "CUSTOM_PCI_19E5_D805"}


def test_a_display_is_a_gpu() -> None:
    found = claim("1ed5:0400", "030000")
    assert (found.kind, found.model, found.offers) == (Kind.GPU, "GPU [0400]", {Mode.WHOLE: "PGPU"})


def test_an_unknown_accelerator_is_named_by_its_ids() -> None:
    found = claim("abcd:0001")
    assert (found.vendor, found.model) == ("abcd", "accelerator [0001]")
    assert (found.facts, found.identities, found.health) == ((), (), None)


def test_a_pf_of_the_class_is_an_accelerator_and_no_plain_pf(tmp_path: Path) -> None:
    card = {"id": "17cb:a100", "class": "120000", "driver": "qaic", "vfs": {"total": 16}}
    (device,) = look_at(tmp_path, port(card)).values()
    assert (device.claim.driver, device.claim.model) == ("accel", "AI 100")


@pytest.mark.parametrize(("dev", "nodes"), [("261:3", ["/dev/accel/accel3"]), ("508:3", []), ("", []), ("261", [])])
def test_only_drms_accel_class_has_a_node(dev: str, nodes: list[str]) -> None:
    found = claim("1da3:1060", accel__accel3__dev=dev)
    assert [text for name, text in found.facts if name == "node"] == nodes


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("Operational", State.HEALTHY),
        ("Disabled", State.UNHEALTHY),
        ("Malfunction", State.UNHEALTHY),
        ("Needs reset", State.UNHEALTHY),
        ("In reset", State.SUSPECT),
        ("In device creation", State.SUSPECT),
        ("garbage " * 100, State.SUSPECT),
    ],
)
def test_a_gaudi_is_as_well_as_its_driver_says(status: str, state: State) -> None:
    health = claim("1da3:1060", status=status).health
    assert health is not None
    assert health.state is state
    assert bool(health.reasons) is (state is not State.HEALTHY)
    assert all(len(reason) < 150 for reason in health.reasons)


def test_the_status_of_others_means_nothing() -> None:
    assert claim("17cb:a100", status="Disabled").health is None


@pytest.mark.parametrize(
    ("ids", "path", "text", "identity"),
    [
        ("17cb:a100", "mhi0__serial_number", "Serial Number: 2821134", Identity("mhi", "2821134")),
        ("17cb:a100", "mhi0__serial_number", "2821134", Identity("mhi", "2821134")),
        ("17cb:a100", "mhi0__serial_number", "Serial Number: 0", None),
        ("17cb:a100", "mhi0__serial_number", "9" * 99, None),
        ("17cb:a100", "mhi0__serial_number", "", None),
        ("1e52:401e", "TT__tt_serial", "0x100018611902010", Identity("tenstorrent", "100018611902010")),
        ("1e52:401e", "TT__tt_serial", "0000000000000000", None),
        ("1e52:401e", "TT__tt_serial", "\x1b[2J", None),
        ("1da3:1060", "TT__tt_serial", "0x100018611902010", None),
    ],
)
def test_serial_numbers_identify(ids: str, path: str, text: str, identity: Identity | None) -> None:
    assert claim(ids, **{path: text}).identities == ((identity,) if identity else ())


def test_facts_are_the_vendors_own() -> None:
    assert claim("1da3:1060", module_id="5", security_enabled="1", fw_os_ver="1.2\nx").facts == (
        ("OAM module", "5"),
        ("security", "on"),
        ("firmware", "1.2"),
    )
    assert claim("1e52:401e", TT__tt_card_type="n300", TT__tt_fw_bundle_ver="\0").facts == (("card", "n300"),)
    assert claim("1022:17f0", "118000", fw_version="1.5.5.391").facts == (("firmware", "1.5.5.391"),)
