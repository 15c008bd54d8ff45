# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Alveo cards: the user PF is given, the management PF stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from devagent.drivers.xilinx import GOLDEN, MANAGEMENT, USER, Xilinx
from devagent.model.claim import Claim, FpgaFacts, Kind, Mode
from devagent.model.health import State
from devagent.model.identity import Identity

from ..worlds import function, look_at, port

SHELL = "xilinx_u250_gen3x16_xdma_shell_4_1"
INTERFACE, LOADED = "c5d8d1a5ba0ba6b8a8e6d4d9a4b6bd2e", "e1a8d4f0c55b4b8a8d2f8f8a3d6c7b21"


def claim(device: str, driver: str = "xocl", **attributes: str) -> Claim:
    files = {name.replace("__", "/"): text for name, text in attributes.items()}
    files = {name.replace("_m_", ".m."): text for name, text in files.items()}
    return Xilinx().claim(function(ids=f"10ee:{device}", class_code="120000", driver=driver, attributes=files))


def test_a_card_is_given_by_its_user_pf(tmp_path: Path) -> None:
    card: dict[str, Any] = {"class": "120000", "attributes": {"rom.x.0/VBNV": SHELL, "interface_uuids": INTERFACE}}
    mgmt = card | {"id": "10ee:5004", "at": "00.0", "driver": "xclmgmt", "fpga_manager": {"name": "xclmgmt"}}
    user = card | {"id": "10ee:5005", "at": "00.1", "driver": "xocl"}
    stays, given = look_at(tmp_path, port(mgmt, user)).values()
    assert (stays.claim.driver, stays.claim.kind, stays.claim.model) == ("xilinx", Kind.FPGA, "Alveo U250 (management)")
    assert (stays.claim.offers, stays.decision.managed) == ({}, False)
    assert stays.decision.reason == "the management PF stays with the host; the card is given by its user PF"
    assert (given.claim.driver, given.claim.model) == ("xilinx", "Alveo U250")
    assert (given.decision.managed, given.decision.resource_class) == (True, "FPGA")
    assert given.claim.fpga == FpgaFacts(interface_id=INTERFACE, shell=SHELL)


def test_a_user_pf_on_vfio_is_known_by_its_ids(tmp_path: Path) -> None:
    (device,) = look_at(tmp_path, port({"id": "10ee:505d", "class": "120000", "driver": "vfio-pci"})).values()
    assert (device.claim.model, device.claim.traits) == ("Alveo U55C", frozenset({"CUSTOM_MODEL_ALVEO_U55C"}))
    assert device.decision.managed


def test_even_ids_manage_and_odd_ones_are_given() -> None:
    assert all(int(device, 16) % 2 == 0 for device in MANAGEMENT)
    assert all(int(device, 16) % 2 == 1 for device in USER)
    assert len(USER) == len(MANAGEMENT) - len(GOLDEN)


def test_a_golden_image_needs_its_shell() -> None:
    found = claim("d004", "xclmgmt")
    assert found.model == "Alveo U250 (golden image)"
    assert found.refusals[Mode.WHOLE].startswith("runs its golden image: its shell needs flashing first")
    assert dict(found.facts)["shell"] == "needs to be flashed"


@pytest.mark.parametrize(
    ("ids", "recognised"), [("10ee:5005", True), ("10ee:d000", True), ("10ee:903f", False), ("1d0f:f010", False)]
)
def test_the_ids_tell(ids: str, recognised: bool) -> None:
    assert Xilinx().recognises(function(ids=ids, class_code="058000")) is recognised


def test_uuids_are_told_without_dashes_and_the_last_interface_is_the_shells() -> None:
    dashed = "C5D8D1A5-ba0b-a6b8-a8e6-d4d9a4b6bd2e"
    found = claim("5005", interface_uuids=f"{LOADED}\n{dashed}", xclbinuuid=LOADED, logic_uuids=f"{'0' * 32}\n{LOADED}")
    assert found.fpga == FpgaFacts(interface_id=INTERFACE, loaded=LOADED)
    assert found.traits == frozenset(
        {
            "CUSTOM_MODEL_ALVEO_U250",
            f"CUSTOM_FPGA_REGION_{INTERFACE.upper()}",
            f"CUSTOM_FPGA_REGION_{LOADED.upper()}",
            f"CUSTOM_FPGA_FUNCTION_{LOADED.upper()}",
        }
    )
    assert found.facts == (("shell UUIDs", LOADED),)


@pytest.mark.parametrize("text", ["", "garbage", "0" * 32, "f" * 33, "\0", "9" * 4000])
def test_what_is_no_uuid_is_nothing(text: str) -> None:
    found = claim("5005", interface_uuids=text, xclbinuuid=text, logic_uuids=text)
    assert (found.fpga, found.traits) == (FpgaFacts(), frozenset({"CUSTOM_MODEL_ALVEO_U250"}))


@pytest.mark.parametrize(
    ("files", "identities"),
    [
        ({"xmc_m_0__serial_num": "21330404302A"}, (Identity("xrt", "21330404302A"),)),
        ({"hwmon_sdm_m_0__serial_num": "21330404302A"}, (Identity("xrt", "21330404302A"),)),
        (
            {"xmc_m_0__serial_num": "21330404302A", "dna_m_0__dna": "0x400200000116e26500a04142"},
            (Identity("xrt", "21330404302A"), Identity("dna", "400200000116e26500a04142")),
        ),
        ({"xmc_m_0__serial_num": "0000", "dna_m_0__dna": ""}, ()),
        ({"xmc_m_0__serial_num": "a/b c", "dna_m_0__dna": "x" * 99}, ()),
    ],
)
def test_serial_and_dna_identify(files: dict[str, str], identities: tuple[Identity, ...]) -> None:
    assert claim("5004", "xclmgmt", **files).identities == identities


@pytest.mark.parametrize(
    ("files", "state"),
    [
        ({"ready": "1", "dev_offline": "0"}, State.HEALTHY),
        ({"ready": "1", "dev_offline": "1"}, State.UNHEALTHY),
        ({"ready": "0"}, State.SUSPECT),
        ({"ready": "what"}, None),
        ({}, None),
    ],
)
def test_xrts_word_is_its_health(files: dict[str, str], state: State | None) -> None:
    health = claim("5005", **files).health
    assert (health.state if health else None) is state


def test_a_world_writable_node_is_a_warning() -> None:
    assert "warning" in dict(claim("5004", "xclmgmt").facts)
    assert "warning" not in dict(claim("5004", "vfio-pci").facts)
