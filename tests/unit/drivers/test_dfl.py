# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""DFL cards: their region, their function, and the VF that carries it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devagent.discovery import Discovery
from devagent.drivers.dfl import Dfl
from devagent.model.claim import Claim, FpgaFacts, Kind, Mode
from devagent.model.health import Health, State

from ..worlds import function, look_at, port

COMPAT, AFU = "ce3139c959cf528ca27751c50829797a", "56e203e9864f49a7b94b12284c31e02b"
REGION = "fpga_region/region0/dfl-fme.0/dfl-fme-region.1/fpga_region/region1/compat_id"
PORT = "fpga_region/region0/dfl-port.0/afu_id"
FME, DFL_PORT = "fpga_region/region0/dfl-fme.0", "fpga_region/region0/dfl-port.0"
N6001 = {
    "id": "8086:bcce",
    "subsystem": "8086:1771",
    "class": "120000",
    "driver": "dfl-pci",
    "dfl": {
        "bitstream_id": "0x5010202aecbd6e5",
        "bitstream_metadata": "0x1",
        "compat_id": COMPAT,
        "ports": [{"id": 0, "afu_id": AFU}],
    },
}


def test_a_card_tells_its_region_and_its_function(tmp_path: Path) -> None:
    (device,) = look_at(tmp_path, port(N6001)).values()
    claim = device.claim
    assert (claim.driver, claim.kind, claim.model) == ("dfl", Kind.FPGA, "N6001")
    assert claim.fpga == FpgaFacts(COMPAT, ("region1",), AFU, shell="0x5010202aecbd6e5", ports=1)
    assert claim.facts == (("ports", "1 with the PF, 0 released for VFs"), ("function of dfl-port.0", AFU))
    assert device.health.state is State.HEALTHY
    region, loaded = f"CUSTOM_FPGA_REGION_{COMPAT.upper()}", f"CUSTOM_FPGA_FUNCTION_{AFU.upper()}"
    assert claim.traits == frozenset({region, loaded})
    assert (device.decision.managed, device.decision.resource_class) == (True, "FPGA")


def test_a_card_on_vfio_is_known_by_its_ids(tmp_path: Path) -> None:
    unloaded: dict[str, Any] = {key: value for key, value in N6001.items() if key != "dfl"} | {"driver": "vfio-pci"}
    (device,) = look_at(tmp_path, port(unloaded)).values()
    assert (device.claim.driver, device.claim.fpga, device.claim.traits) == ("dfl", FpgaFacts(), frozenset())


def test_a_card_that_gave_its_port_to_a_vf_is_given_by_it(discovery: Callable[[str], Discovery]) -> None:
    (card,) = [device for device in discovery("fpga").devices if device.claim.model == "PAC D5005"]
    assert (card.decision.mode, card.decision.total) == (Mode.VF, 1)
    assert card.decision.resource_class == "CUSTOM_FPGA_VF"
    facts = FpgaFacts("9346116d52244b4ea1b9b21be6f8d8c5", ("region5",), shell="0x2300011001030f", ports=1)
    assert card.claim.fpga == facts
    assert card.claim.facts == (("ports", "0 with the PF, 1 released for VFs"),)


@pytest.mark.parametrize(
    ("attributes", "facts"),
    [
        ({}, FpgaFacts()),
        ({REGION: COMPAT.upper(), PORT: AFU.upper()}, FpgaFacts(COMPAT, ("region1",), AFU)),
        ({REGION: "none", PORT: "x" * 32}, FpgaFacts(None, ("region1",), None)),
        ({REGION: "", PORT: COMPAT + "0"}, FpgaFacts(None, ("region1",), None)),
    ],
)
def test_an_id_is_32_digits_or_unknown(attributes: dict[str, str], facts: FpgaFacts) -> None:
    claim = Dfl().claim(function(ids="8086:0b30", class_code="120000", attributes=attributes))
    assert claim.fpga == facts
    assert len(claim.traits) == sum(each is not None for each in (facts.interface_id, facts.loaded))


@pytest.mark.parametrize(
    ("ids", "subsystem", "model"),
    [
        ("8086:0b30", "0000", "PAC N3000"),
        ("8086:bcce", "1770", "N6000"),
        ("8086:bccf", "1771", "N6001 VF"),
        ("8086:bcce", None, "DFL FPGA"),
        ("8086:bcce", "ffff", "DFL FPGA"),
        ("8086:0b30", "1771", "PAC N3000"),
        ("abcd:0001", None, "DFL FPGA [0001]"),
    ],
)
def test_the_subsystem_names_a_card_of_a_shared_id(ids: str, subsystem: str | None, model: str) -> None:
    assert Dfl().claim(function(ids=ids, driver="dfl-pci", subsystem_device_id=subsystem)).model == model


@pytest.mark.parametrize(
    ("ids", "driver", "recognised"),
    [("8086:0b30", None, True), ("abcd:0001", "dfl-pci", True), ("abcd:0001", "vfio-pci", False)],
)
def test_the_kernels_driver_or_the_ids_tell(ids: str, driver: str | None, recognised: bool) -> None:
    assert Dfl().recognises(function(ids=ids, class_code="120000", driver=driver)) is recognised


def claim(attributes: dict[str, str], unread: frozenset[str] = frozenset()) -> Claim:
    return Dfl().claim(function(ids="8086:0b30", class_code="120000", attributes=attributes, unread=unread))


def test_all_regions_and_functions_are_traits() -> None:
    other, second = "9346116d52244b4ea1b9b21be6f8d8c5", "d8424dc4a4a3c413f89e433683f9040b"
    files = {REGION: COMPAT, REGION.replace("region1", "region2"): other}
    found = claim(files | {PORT: AFU, PORT.replace("port.0", "port.1"): second})
    assert found.fpga == FpgaFacts(COMPAT, ("region1", "region2"), AFU)
    ids = {("REGION", COMPAT), ("REGION", other), ("FUNCTION", AFU), ("FUNCTION", second)}
    assert found.traits == frozenset(f"CUSTOM_FPGA_{what}_{id.upper()}" for what, id in ids)


def test_a_disabled_port_has_no_function_and_no_fault() -> None:
    found = claim({f"{DFL_PORT}/power_state": "0x0", f"{FME}/ports_num": "1"}, frozenset({PORT}))
    assert found.health == Health(State.HEALTHY)
    assert found.facts == (("ports", "1 with the PF, 0 released for VFs"),)


def test_ports_that_could_not_be_read_are_not_said_to_be_released() -> None:
    assert claim({f"{FME}/ports_num": "1"}, frozenset({f"{DFL_PORT}/power_state"})).facts == ()


@pytest.mark.parametrize(
    ("files", "state", "reasons"),
    [
        ({}, None, ()),
        ({f"{FME}/errors/fme_errors": "0x0"}, State.HEALTHY, ()),
        ({f"{FME}/errors/fme_errors": "garbage"}, None, ()),
        ({f"{FME}/errors/fme_errors": "0x" + "f" * 17}, None, ()),
        ({f"{FME}/errors/nonfatal_errors": "0x4"}, State.SUSPECT, ("dfl-fme.0 reports nonfatal_errors 0x4",)),
        (
            {f"{FME}/errors/fme_errors": "0x0", f"{FME}/errors/catfatal_errors": "0x8"},
            State.UNHEALTHY,
            ("dfl-fme.0 reports catfatal_errors 0x8",),
        ),
        ({f"{DFL_PORT}/errors/errors": "0x1"}, State.SUSPECT, ("dfl-port.0 reports errors 0x1",)),
        ({f"{DFL_PORT}/power_state": "0x1"}, State.SUSPECT, ("dfl-port.0 is throttled (power state AP1)",)),
        ({f"{DFL_PORT}/power_state": "6"}, State.UNHEALTHY, ("dfl-port.0 is shut down by heat (power state AP6)",)),
        ({f"{DFL_PORT}/power_state": "0x5"}, State.SUSPECT, ("dfl-port.0 is in power state 0x5",)),
    ],
)
def test_error_registers_and_power_are_its_health(
    files: dict[str, str], state: State | None, reasons: tuple[str, ...]
) -> None:
    assert claim(files).health == (None if state is None else Health(state, reasons))


@pytest.mark.parametrize(
    ("files", "facts"),
    [
        (
            {f"{FME}/bitstream_id": "0x23000410010310", f"{FME}/ports_num": "2"},
            FpgaFacts(shell="0x23000410010310", ports=2),
        ),
        ({f"{FME}/bitstream_id": "0x0", f"{FME}/ports_num": "-1"}, FpgaFacts()),
        ({f"{FME}/bitstream_id": "text", f"{FME}/ports_num": "9" * 50}, FpgaFacts()),
        ({f"{FME}/dfl-fme-mgr.0/fpga_manager/fpga0/state": "write error"}, FpgaFacts(state="write error")),
        ({f"{FME}/dfl-fme-mgr.0/fpga_manager/fpga0/state": "unknown"}, FpgaFacts()),
    ],
)
def test_the_shell_and_the_ports_are_told(files: dict[str, str], facts: FpgaFacts) -> None:
    assert claim(files).fpga == facts
