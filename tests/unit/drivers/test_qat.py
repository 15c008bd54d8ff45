# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""QAT: the PF stays, the VFs are given, and old generations are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hosts.generate import generate

from devagent.discovery import Discovery
from devagent.drivers.qat import Qat
from devagent.model.claim import Kind, Mode
from devagent.model.health import State
from devagent.model.pci import Sriov
from devagent.model.policy import Policy

from ..worlds import described, function, look, port, rule

C62X = {"id": "8086:37c8", "class": "0b4000", "driver": "c6xx", "vfs": {"total": 16, "device": "37c9", "offset": 8}}


def test_the_described_host_gives_the_vfs_that_exist(discovery: Callable[[str], Discovery]) -> None:
    cards = {device.address: device for device in discovery("qat").devices if device.claim.kind is Kind.QAT}
    assert {address: (card.decision.managed, card.decision.total) for address, card in cards.items()} == {
        "0000:6b:00.0": (True, 16),
        "0000:70:00.0": (False, 0),
        "0000:e8:00.0": (True, 16),
        "0000:ed:00.0": (False, 0),
        "0000:f3:00.0": (False, 0),
    }
    assert cards["0000:6b:00.0"].decision.resource_class == "CUSTOM_QAT_VF"
    assert cards["0000:6b:00.0"].claim.traits == frozenset({"CUSTOM_QAT_SERVICE_DC"})
    assert cards["0000:70:00.0"].claim.traits == frozenset({"CUSTOM_QAT_SERVICE_SYM", "CUSTOM_QAT_SERVICE_ASYM"})


def test_a_pf_is_not_given_whole_whatever_the_rule() -> None:
    claim = Qat().claim(function(ids="8086:4940", class_code="0b4000"))
    assert claim.offers == {Mode.VF: "CUSTOM_QAT_VF"}
    assert claim.refusals == {Mode.WHOLE: "a QAT PF stays with the host; give its VFs"}


def test_a_generation_that_vfio_refuses_is_refused(tmp_path: Path) -> None:
    generate(described(port(C62X | {"vfs": {**C62X["vfs"], "count": 4}})), tmp_path / "h")  # type: ignore[dict-item]
    (device,) = look(tmp_path / "h", Policy((rule(Mode.VF),), "test")).devices
    assert not device.decision.managed
    assert device.decision.reason.startswith("vfio-pci refuses this QAT generation")


@pytest.mark.parametrize(
    ("services", "traits"),
    [
        ("", set()),
        ("sym", {"CUSTOM_QAT_SERVICE_SYM"}),
        ("asym;sym\n", {"CUSTOM_QAT_SERVICE_ASYM", "CUSTOM_QAT_SERVICE_SYM"}),
        ("\0;;", set()),
    ],
)
def test_the_configured_services_are_traits(services: str, traits: set[str]) -> None:
    claim = Qat().claim(function(ids="8086:4940", attributes={"qat/cfg_services": services}))
    assert set(claim.traits) == traits


def test_facts_say_what_it_does() -> None:
    files = {"qat/cfg_services": "sym;asym", "qat/num_rps": "64"}
    claim = Qat().claim(function(ids="8086:4940", sriov=Sriov(16, "4941"), attributes=files))
    assert claim.facts == (("services", "sym, asym"), ("ring pairs", "64"), ("VFs", "all 16 or none"))
    broken = {"qat/cfg_services": "1", "qat/num_rps": "9" * 40}
    assert Qat().claim(function(ids="8086:4940", attributes=broken)).facts == ()


@pytest.mark.parametrize(
    ("state", "health"),
    [("up", State.HEALTHY), ("down", State.UNHEALTHY), ("sideways", None), ("", None), (None, None)],
)
def test_a_pf_that_is_down_is_unhealthy(state: str | None, health: State | None) -> None:
    claim = Qat().claim(function(ids="8086:4940", attributes={} if state is None else {"qat/state": state}))
    assert (claim.health.state if claim.health else None) is health
    assert all("qat/state" in reason for reason in (claim.health.reasons if claim.health else ()))


def test_a_vf_is_no_pf() -> None:
    assert not Qat().recognises(function(ids="8086:4941", class_code="0b4000"))
    assert not Qat().recognises(function(ids="10de:4940", class_code="0b4000"))
