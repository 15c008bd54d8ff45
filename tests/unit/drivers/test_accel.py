# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Accelerators are known by their class."""

from __future__ import annotations

from pathlib import Path

import pytest

from devagent.drivers.accel import Accel
from devagent.model.claim import Kind, Mode
from devagent.model.pci import Sriov

from ..worlds import function, look_at, port


def test_an_accelerator_is_given_whole(tmp_path: Path) -> None:
    (device,) = look_at(tmp_path, port({"id": "1da3:1020", "class": "120000", "driver": "habanalabs"})).values()
    assert (device.claim.driver, device.claim.kind) == ("accel", Kind.ACCELERATOR)
    assert (device.claim.vendor, device.claim.model) == ("Habana", "Gaudi 2")
    assert device.decision.managed
    assert device.decision.resource_class == "CUSTOM_PCI_1DA3_1020"


@pytest.mark.parametrize(
    ("class_code", "recognised"),
    [("120000", True), ("0b4000", True), ("120100", False), ("0b3000", False), ("030200", False)],
)
def test_accelerators_and_co_processors_are_recognised(class_code: str, recognised: bool) -> None:
    assert Accel().recognises(function(ids="abcd:0001", class_code=class_code)) is recognised


def test_a_pf_offers_its_vfs() -> None:
    pf = function(ids="19e5:d802", class_code="120000", sriov=Sriov(8, "d805"))
    assert Accel().claim(pf).offers == {Mode.WHOLE: "CUSTOM_PCI_19E5_D802", Mode.VF: "CUSTOM_PCI_19E5_D805"}


def test_an_unknown_accelerator_is_named_by_its_ids() -> None:
    claim = Accel().claim(function(ids="abcd:0001", class_code="120000"))
    assert (claim.vendor, claim.model) == ("abcd", "accelerator [0001]")


def test_a_pf_of_the_class_is_an_accelerator_and_no_plain_pf(tmp_path: Path) -> None:
    card = {"id": "17cb:a100", "class": "120000", "driver": "qaic", "vfs": {"total": 16}}
    (device,) = look_at(tmp_path, port(card)).values()
    assert (device.claim.driver, device.claim.model) == ("accel", "AI 100")
