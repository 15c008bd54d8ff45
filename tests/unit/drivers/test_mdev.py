# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Parents of mediated devices that no other driver knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from devagent.drivers.mdev import Mdev
from devagent.model.claim import Kind, Mode
from devagent.model.pci import Sriov

from ..worlds import NIC, function, look_at, port

UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"
TYPES = {"x-1": {"name": "X1", "available_instances": 1}}
PARENT: dict[str, Any] = {"id": "abcd:0001", "class": "088000", "driver": "x"}


def test_a_parent_tells_its_types_and_may_be_given_whole(tmp_path: Path) -> None:
    (device,) = look_at(tmp_path, port(PARENT | {"mdev": {"types": TYPES}})).values()
    assert (device.claim.driver, device.claim.kind, device.claim.model) == ("mdev", Kind.OTHER, "mdev parent [0001]")
    assert device.claim.offers == {Mode.WHOLE: "CUSTOM_PCI_ABCD_0001", Mode.MDEV: "VGPU"}
    assert device.claim.mdev is not None
    assert [(each.id, each.name, each.available) for each in device.claim.mdev.types] == [("x-1", "X1", 1)]
    assert not device.decision.managed


def test_a_parent_with_devices_is_not_given_whole(tmp_path: Path) -> None:
    (device,) = look_at(tmp_path, port(PARENT | {"mdev": {"types": TYPES, "devices": {UUID: "x-1"}}})).values()
    assert device.claim.mdev is not None
    assert device.claim.mdev.devices == ((UUID, "x-1"),)
    assert (device.claim.offers, device.claim.refusals) == (
        {Mode.MDEV: "VGPU"},
        {Mode.WHOLE: "it carries mediated devices (1 exist)"},
    )


def test_vfs_can_be_the_parents(tmp_path: Path) -> None:
    mdev = {"types": TYPES, "devices": {UUID: "x-1"}, "vfs": True}
    found = look_at(tmp_path, port(PARENT | {"vfs": {"total": 4, "count": 3}, "mdev": mdev}))
    (device,) = found.values()
    assert device.claim.driver == "mdev"
    assert device.claim.mdev is not None
    assert [each.available for each in device.claim.mdev.types] == [2]
    assert device.claim.mdev.devices == ((UUID, "x-1"),)
    assert device.claim.offers == {Mode.VF: "CUSTOM_PCI_ABCD_0001", Mode.MDEV: "VGPU"}


def test_a_display_is_a_gpu() -> None:
    claim = Mdev().claim(function(ids="abcd:0001", class_code="030000", mdev_parent=True))
    assert (claim.kind, claim.model, claim.offers) == (Kind.GPU, "GPU [0001]", {Mode.WHOLE: "PGPU"})
    assert claim.mdev is None


def test_nics_and_those_that_are_no_parents_are_left_to_others() -> None:
    assert not Mdev().recognises(function(class_code=NIC, mdev_parent=True, sriov=Sriov(8)))
    assert not Mdev().recognises(function(class_code="088000"))
    assert Mdev().recognises(function(class_code="088000", mdev_parent=True))
