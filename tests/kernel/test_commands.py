# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`doctor`, `discover --diff` and `discover --watch` where something happens."""

from __future__ import annotations

import json

from .cards import gpu
from .guest import Guest, eventually


def test_doctor_finds_the_iommu(guest: Guest) -> None:
    guest.plug(gpu(vfs=4))
    grades = _doctor(guest)
    assert grades["iommu"] == "ok"


def test_doctor_misses_the_iommu(guest_without_iommu: Guest) -> None:
    guest_without_iommu.plug(gpu(vfs=4))
    assert _doctor(guest_without_iommu)["iommu"] != "ok"


def _doctor(guest: Guest) -> dict[str, str]:
    ran = guest.devagent("doctor", "-o", "json")
    return {each["check"]: each["grade"] for each in json.loads(ran.out)["findings"]}


def test_the_command_says_what_its_function_says(guest: Guest) -> None:
    """Elsewhere it runs in a process that has imported it before; it must say the same."""
    guest.plug(gpu(vfs=4))
    ran = guest.run("devagent", "discover", "--all", "-o", "json", check=False)
    assert ran == guest.discover("--all").ran


def test_diff_shows_what_was_plugged_since(guest: Guest) -> None:
    before = guest.put("/tmp/before.json", guest.discover("--all").ran.out)
    assert guest.devagent("discover", "--all", "--diff", before).code == 0
    card = guest.plug(gpu(vfs=4))
    ran = guest.devagent("discover", "--all", "--diff", before)
    assert ran.code == 3
    assert card in ran.out


def test_watch_shows_what_comes_and_goes(guest: Guest) -> None:
    watch = guest.start("sh", "-c", "exec devagent discover --watch > /tmp/watch 2>&1")
    eventually(lambda: guest.run("sh", "-c", "test -s /tmp/watch", check=False).code == 0)
    card = guest.plug(gpu(vfs=4))
    eventually(lambda: card in guest.read("/tmp/watch"))
    guest.set_vfs(card, 2)
    eventually(lambda: "number of VFs: 0 -> 2" in guest.read("/tmp/watch"))
    guest.unplug(card)
    eventually(lambda: f"- {card}" in guest.read("/tmp/watch"))
    watch.end()
    assert "not behind the IOMMU" not in guest.read("/tmp/watch")
