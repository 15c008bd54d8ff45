# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""FPGAs with a plain fpga_manager below their function."""

from __future__ import annotations

from pathlib import Path

import pytest

from devagent.drivers.fpga_manager import FpgaManager
from devagent.model.claim import FpgaFacts, Kind, Mode
from devagent.model.health import Health, State

from ..worlds import function, look_at, port

COMPAT = "ce3139c959cf528ca27751c50829797a"
NAME = {"fpga_manager/fpga0/name": "Altera CvP FPGA Manager"}
CVP = {
    "id": "1172:00a7",
    "class": "ff0000",
    "driver": "altera-cvp",
    "fpga_manager": {"name": "Altera CvP FPGA Manager @{address}"},
}


def test_an_fpga_is_given_whole(tmp_path: Path) -> None:
    (device,) = look_at(tmp_path, port(CVP)).values()
    assert (device.claim.driver, device.claim.kind, device.claim.vendor) == ("fpga_manager", Kind.FPGA, "Altera")
    assert device.claim.model == "FPGA [00a7]"
    assert (device.decision.managed, device.decision.resource_class) == (True, "FPGA")
    assert device.claim.fpga == FpgaFacts(state="operating")
    assert device.claim.facts == (("manager", "Altera CvP FPGA Manager @0000:3b:00.0"),)
    assert device.health.state is State.HEALTHY


def test_an_altera_on_vfio_is_an_fpga_still(tmp_path: Path) -> None:
    (device,) = look_at(tmp_path, port({"id": "1172:00a7", "class": "ff0000", "driver": "vfio-pci"})).values()
    assert (device.claim.driver, device.claim.kind) == ("fpga_manager", Kind.FPGA)


def test_a_xilinx_function_without_a_manager_is_no_fpga(tmp_path: Path) -> None:
    assert look_at(tmp_path, port({"id": "10ee:903f", "class": "070001", "driver": "xdma"})) == {}


def test_an_accelerator_without_a_manager_is_an_accelerator(tmp_path: Path) -> None:
    (device,) = look_at(tmp_path, port({"id": "10ee:9038", "class": "120000", "driver": "qdma"})).values()
    assert (device.claim.driver, device.claim.kind) == ("accel", Kind.ACCELERATOR)


@pytest.mark.parametrize(
    ("text", "interface_id", "traits"),
    [
        (COMPAT.upper(), COMPAT, frozenset({f"CUSTOM_FPGA_REGION_{COMPAT.upper()}"})),
        ("none", None, frozenset()),
        ("", None, frozenset()),
    ],
)
def test_a_region_tells_which_images_fit(text: str, interface_id: str | None, traits: frozenset[str]) -> None:
    files = {**NAME, "fpga_region/region0/compat_id": text}
    claim = FpgaManager().claim(function(ids="10ee:903f", class_code="120000", attributes=files))
    assert claim is not None
    assert claim.fpga == FpgaFacts(interface_id, ("region0",), state=None)
    assert claim.traits == traits
    assert claim.offers == {Mode.WHOLE: "FPGA", Mode.VF: "CUSTOM_FPGA_VF"}


@pytest.mark.parametrize(
    ("ids", "class_code", "recognised"),
    [
        ("1172:0001", "ff0000", True),
        ("10ee:0001", "058000", True),
        ("abcd:0001", "120000", True),
        ("abcd:0001", "ff0000", False),
    ],
)
def test_vendors_and_the_class_of_accelerators_are_recognised(ids: str, class_code: str, recognised: bool) -> None:
    assert FpgaManager().recognises(function(ids=ids, class_code=class_code)) is recognised


def test_xrts_manager_is_left_to_the_driver_that_knows_its_cards() -> None:
    for driver, recognised in (("xclmgmt", False), ("xocl", False), (None, True)):
        found = FpgaManager().recognises(function(ids="10ee:5004", class_code="120000", driver=driver))
        assert found is recognised


@pytest.mark.parametrize(
    ("state", "status", "health"),
    [
        ("operating", "", Health(State.HEALTHY)),
        ("unknown", "", None),
        ("power off", "", None),
        ("garbage", "\n\n", None),
        ("", "", None),
        ("write error", "", Health(State.UNHEALTHY, ("fpga0 is in state 'write error': its last load failed",))),
        (
            "write init error",
            "reconfig CRC error\nreconfig IP protocol error\n",
            Health(
                State.UNHEALTHY,
                (
                    "fpga0 is in state 'write init error': its last load failed",
                    "fpga0 says 'reconfig CRC error'",
                    "fpga0 says 'reconfig IP protocol error'",
                ),
            ),
        ),
        ("operating", "reconfig CRC error", Health(State.UNHEALTHY, ("fpga0 says 'reconfig CRC error'",))),
    ],
)
def test_a_failed_load_is_told(state: str, status: str, health: Health | None) -> None:
    files = {**NAME, "fpga_manager/fpga0/state": state, "fpga_manager/fpga0/status": status}
    claim = FpgaManager().claim(function(ids="1172:00a7", class_code="ff0000", attributes=files))
    assert claim is not None
    assert claim.health == health
    assert claim.fpga is not None
    assert claim.fpga.state == (state if state not in ("unknown", "garbage", "") else None)


def test_of_several_managers_the_failed_one_counts() -> None:
    files = {"fpga_manager/fpga0/state": "operating", "fpga_manager/fpga1/state": "write complete error"}
    claim = FpgaManager().claim(function(ids="1172:00a7", attributes=files))
    assert claim is not None
    assert claim.fpga is not None
    assert claim.fpga.state == "write complete error"
    assert claim.health is not None
    assert claim.health.state is State.UNHEALTHY
