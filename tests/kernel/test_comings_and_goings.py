# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Devices and VFs that come and go while we look and between looks."""

from __future__ import annotations

import json

import pytest

from .cards import gpu
from .guest import PCI, Guest
from .machine import ACPI_PORT, NATIVE_PORT
from .truth import agree

LOOKS = 15


def test_vfs_made_and_removed_behind_our_back(guest: Guest) -> None:
    card = guest.plug(gpu(vfs=16))
    for count in (4, 0, 16, 1):
        guest.set_vfs(card, 0)
        vfs = guest.set_vfs(card, count)
        found = guest.discover("--all")
        agree(guest, found)
        assert [vf["address"] for vf in found.devices[card]["sriov"]["vfs"]] == vfs


@pytest.mark.parametrize(("port", "numa"), [(ACPI_PORT, None), (NATIVE_PORT, 1)])
def test_what_is_plugged_is_found_and_what_is_unplugged_is_not(guest: Guest, port: str, numa: int | None) -> None:
    address = guest.hotplug("nvme", port, serial="hot")
    found = guest.discover("--all")
    agree(guest, found)
    assert found.devices[address]["numa_node"] == numa
    assert found.devices[address]["driver"] == "nvme"
    guest.hot_unplug(port)
    found = guest.discover("--all")
    agree(guest, found)
    assert address not in found.devices


def test_what_a_look_shows_is_so_while_devices_come_and_go(guest: Guest) -> None:
    """Looks again and again; each may show a device or not, but what it shows must be so."""
    stays = guest.plug(gpu(numa=0, vfs=4))
    guest.set_vfs(stays, 4)
    looks = guest.start("python3", "-c", _LOOKS, str(LOOKS))
    rounds = 0
    while not _ended(guest, looks.pid):
        card = guest.plug(gpu(numa=1, vfs=16))
        guest.set_vfs(card, 16)
        guest.unplug(card)
        rounds += 1
    ran = looks.wait()
    assert (ran.code, ran.err) == (0, "")
    seen = [json.loads(line) for line in ran.out.splitlines()]
    assert len(seen) == LOOKS
    assert rounds >= 5
    assert sorted({problem for look in seen for problem in look.pop("problems")}) == []
    assert all(look[stays] == ["gpu", 4, "A100 PCIe 40GB", 0] for look in seen)
    shown = [look[card] for look in seen if card in look]
    assert {(kind, model, numa) for kind, _, model, numa in shown} <= {("gpu", "A100 PCIe 40GB", 1)}
    assert {count for _, count, _, _ in shown} <= set(range(17))
    assert {address for look in seen for address in look} <= {card, *guest.names(PCI)}


def _ended(guest: Guest, pid: int) -> bool:
    return guest.read(f"/proc/{pid}/stat").rpartition(")")[2].split()[0] == "Z"


_LOOKS = """
import json, sys
from pathlib import Path
from devagent.cli.look import look
for _ in range(int(sys.argv[1])):
    found = look(Path("/"), every=True).found
    seen = {
        each.address: [each.claim.kind, len(each.function.sriov.vfs) if each.function.sriov else None,
                       each.claim.model, each.function.numa_node]
        for each in found.devices
    }
    print(json.dumps(seen | {"problems": [f"{each.device}: {each.problem}" for each in found.problems]}))
"""
