# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""NVMe drives that can be divided; ordinary disks are not listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from devagent.drivers.nvme import Nvme
from devagent.model.claim import Claim, Kind, Mode
from devagent.model.health import Health, State
from devagent.model.identity import Identity
from devagent.model.pci import Sriov, VirtualFunction

from ..worlds import DISK, function, look_at, port

DRIVE: dict[str, Any] = {"id": "144d:a824", "class": DISK, "driver": "nvme", "disk": {"name": "nvme0n1"}}
FILES = {"nvme/nvme0/serial": "S6XGNE0T400123", "nvme/nvme0/model": "SAMSUNG MZ", "nvme/nvme0/firmware_rev": "EPK9"}


def claim(**attributes: str) -> Claim:
    files = {f"nvme/nvme0/{name.replace('__', '/')}": text for name, text in attributes.items()}
    return Nvme().claim(function(ids="144d:a824", class_code=DISK, sriov=Sriov(32), attributes=files))


def test_a_drive_is_given_by_its_vfs(tmp_path: Path) -> None:
    vfs = {"total": 32, "count": 4, "driver": "vfio-pci"}
    (device,) = look_at(tmp_path, port(DRIVE | {"vfs": vfs, "attributes": FILES})).values()
    assert (device.claim.driver, device.claim.kind, device.claim.model) == ("nvme", Kind.NVME, "PM173X")
    assert device.claim.offers == {Mode.VF: "CUSTOM_NVME_VF", Mode.WHOLE: "CUSTOM_PCI_144D_A824"}
    assert (device.decision.mode, device.decision.total) == (Mode.VF, 4)
    assert device.identity == Identity("nvme", "S6XGNE0T400123")
    assert device.health.state is State.HEALTHY
    assert device.claim.facts == (("product", "SAMSUNG MZ"), ("firmware", "EPK9"), ("namespaces", "nvme0n1 (894 GiB)"))


def test_an_ordinary_disk_is_not_listed(tmp_path: Path) -> None:
    assert look_at(tmp_path, port(DRIVE)) == {}


@pytest.mark.parametrize(
    ("class_code", "sriov", "recognised"),
    [
        (DISK, Sriov(1), True),
        (DISK, Sriov(0, None, (VirtualFunction(0, "0000:3b:00.1"),)), True),
        (DISK, Sriov(0), False),
        (DISK, None, False),
        ("010801", Sriov(1), False),
        ("020000", Sriov(1), False),
    ],
)
def test_controllers_with_vfs_are_recognised(class_code: str, sriov: Sriov | None, recognised: bool) -> None:
    assert Nvme().recognises(function(ids="144d:a824", class_code=class_code, sriov=sriov)) is recognised


@pytest.mark.parametrize("serial", ["", "0" * 20, "x" * 21, "a\x1bb", "\u20ac"])
def test_what_is_no_serial_number_identifies_nothing(serial: str) -> None:
    assert claim(serial=serial).identities == ()


@pytest.mark.parametrize(
    ("state", "health"),
    [
        ("live", Health(State.HEALTHY)),
        ("resetting", Health(State.SUSPECT, ("its controller is resetting",))),
        ("dead", Health(State.UNHEALTHY, ("its controller is dead",))),
        ("garbage", None),
        ("", None),
    ],
)
def test_the_controllers_state_is_its_health(state: str, health: Health | None) -> None:
    assert claim(state=state).health == health


@pytest.mark.parametrize("size", ["", "-1", "9" * 99])
def test_a_size_that_is_none_is_left_out(size: str) -> None:
    assert claim(nvme0n1__size=size).facts == ()


def test_a_path_of_a_multipath_namespace_counts() -> None:
    assert claim(nvme0c1n1__size=str(4 << 21)).facts == (("namespaces", "nvme0c1n1 (4 GiB)"),)
