# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Each guard vetoes with its own reason, and nothing else is vetoed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devagent.model.claim import Kind, Mode
from devagent.model.device import Decision
from devagent.model.pci import Function

from ..worlds import BRIDGE, DISK, NIC, claim, decide, function, look_at, pf, port, rule, snapshot

AUDIO = "040300"
WHOLE, VFS = rule(Mode.WHOLE), rule(Mode.VF)


def test_a_lone_gpu_is_given() -> None:
    decision = decide(snapshot(function()), WHOLE)["0000:3b:00.0"].decision
    assert (decision.managed, decision.reason, decision.total) == (True, "given whole", 1)


@pytest.mark.parametrize(
    ("more", "host", "reason"),
    [
        ({"attributes": {"boot_vga": "1"}}, {}, "is the boot display: the host's console would be lost"),
        ({}, {"host_use": {"0000:3b:00.0": "mounted on /"}}, "is used by the host: mounted on /"),
        ({}, {"iommu": False}, "the host has no IOMMU in use"),
        ({"iommu_group": None}, {}, "is not behind the IOMMU: it has no IOMMU group"),
    ],
)
def test_a_whole_device_is_vetoed(more: dict[str, Any], host: dict[str, Any], reason: str) -> None:
    decision = decide(snapshot(function(**more), **host), WHOLE)["0000:3b:00.0"].decision
    assert decision == Decision(False, reason, "r", Mode.WHOLE)


def test_a_display_that_is_not_the_boot_display_is_given() -> None:
    seen = snapshot(function(class_code="030000", attributes={"boot_vga": "0"}))
    assert decide(seen, WHOLE)["0000:3b:00.0"].decision.managed


def test_a_pf_with_vfs_is_not_given_whole() -> None:
    decision = decide(snapshot(*pf(2)), WHOLE)["0000:3b:00.0"].decision
    assert (decision.managed, decision.reason) == (False, "has 2 VFs: it can be given whole only without any")


def test_a_pf_without_vfs_is_given_whole() -> None:
    assert decide(snapshot(*pf(0)), WHOLE)["0000:3b:00.0"].decision.managed


def test_the_hosts_own_use_is_shown_also_where_no_rule_matches() -> None:
    seen = snapshot(function(), host_use={"0000:3b:00.0": "default route (ens1)"})
    assert decide(seen)["0000:3b:00.0"].in_use_by == "default route (ens1)"


def test_a_gpu_takes_its_audio_along() -> None:
    seen = snapshot(function(), function("0000:3b:00.1", "10de:228b", AUDIO))
    found = decide(seen, WHOLE, claims=[claim(function())])
    assert {address: device.decision.managed for address, device in found.items()} == {
        "0000:3b:00.0": True,
        "0000:3b:00.1": False,
    }


def test_a_gpus_audio_is_not_given_without_the_gpu() -> None:
    seen = snapshot(function(), function("0000:3b:00.1", "10de:228b", AUDIO))
    found = decide(seen, rule(address=("0000:3b:00.1",)), claims=[claim(function())])
    assert found["0000:3b:00.1"].decision.reason == "shares IOMMU group 7 with 0000:3b:00.0"


def test_a_companion_that_the_host_uses_holds_the_gpu_back() -> None:
    seen = snapshot(
        function(),
        function("0000:3b:00.1", "8086:1533", NIC),
        host_use={"0000:3b:00.1": "default route (eno1)"},
    )
    decision = decide(seen, WHOLE, claims=[claim(function())])["0000:3b:00.0"].decision
    assert decision.reason == "shares IOMMU group 7 with 0000:3b:00.1"


def test_two_gpus_of_one_group_are_not_given() -> None:
    found = decide(snapshot(function(), function("0000:3c:00.0")), WHOLE)
    assert {address: device.decision.reason for address, device in found.items()} == {
        "0000:3b:00.0": "shares IOMMU group 7 with 0000:3c:00.0",
        "0000:3c:00.0": "shares IOMMU group 7 with 0000:3b:00.0",
    }


def test_two_claimed_functions_of_one_slot_and_group_are_not_given() -> None:
    found = decide(snapshot(function(), function("0000:3b:00.1")), WHOLE)
    assert not any(device.decision.managed for device in found.values())


def test_an_unknown_function_of_another_slot_holds_the_group_back() -> None:
    seen = snapshot(function(), function("0000:3b:01.0", "abcd:0001", "ff0000"))
    decision = decide(seen, WHOLE, claims=[claim(function())])["0000:3b:00.0"].decision
    assert decision.reason == "shares IOMMU group 7 with 0000:3b:01.0"


def test_bridges_of_the_group_do_not_count() -> None:
    seen = snapshot(function("0000:3a:01.0", "8086:352a", BRIDGE), function())
    assert decide(seen, WHOLE)["0000:3b:00.0"].decision.managed


@pytest.mark.parametrize(("count", "more"), [(3, ""), (4, " and 1 more"), (5, " and 2 more")])
def test_a_large_group_is_named_by_its_first_three(count: int, more: str) -> None:
    others = [function(f"0000:3c:0{slot}.0") for slot in range(count)]
    decision = decide(snapshot(function(), *others), WHOLE)["0000:3b:00.0"].decision
    assert decision.reason == f"shares IOMMU group 7 with 0000:3c:00.0, 0000:3c:01.0, 0000:3c:02.0{more}"


def test_vfs_are_given_though_the_host_uses_the_pf() -> None:
    seen = snapshot(*pf(4), host_use={"0000:3b:00.0": "default route (ens1)"})
    decision = decide(seen, VFS)["0000:3b:00.0"].decision
    assert (decision.managed, decision.total, decision.reason) == (True, 4, "4 of 4 VFs given")


def test_a_vf_that_the_host_uses_is_kept_back_alone() -> None:
    seen = snapshot(*pf(4), host_use={"0000:3b:01.2": "bonded in bond0 (ens1v2)"})
    device = decide(seen, VFS)["0000:3b:00.0"]
    assert device.decision.total == 3
    assert device.decision.reason == "3 of 4 VFs given; VF 2 is used by the host: bonded in bond0 (ens1v2)"
    assert device.vf_use == ((2, "bonded in bond0 (ens1v2)"),)


def _regrouped(functions: list[Function], group: int | None) -> list[Function]:
    head, *vfs = functions
    assert head.sriov is not None
    links = tuple(replace(vf, iommu_group=group) for vf in head.sriov.vfs)
    head = replace(head, sriov=replace(head.sriov, vfs=links))
    return [head, *(replace(vf, iommu_group=group) for vf in vfs)]


def test_vfs_of_one_group_are_vetoed_with_one_reason() -> None:
    decision = decide(snapshot(*_regrouped(pf(4), 50)), VFS)["0000:3b:00.0"].decision
    assert (decision.total, decision.reason) == (0, "0 of 4 VFs given; VF 0-3 shares IOMMU group 50 with 3 more")


def test_a_vf_that_shares_its_group_with_a_bridge_alone_is_given() -> None:
    bridge = function("0000:3a:01.0", "8086:352a", BRIDGE, iommu_group=100)
    assert decide(snapshot(bridge, *pf(1)), VFS)["0000:3b:00.0"].decision.total == 1


def test_a_vf_that_does_not_tell_its_pf_is_judged_by_itself() -> None:
    """Its link `physfn` could not be read; the PF's link to it could."""
    head, vf = pf(1)
    lone = replace(vf, physfn=None, unread=frozenset({"physfn"}))
    assert decide(snapshot(head, lone), VFS)["0000:3b:00.0"].decision.total == 1


def test_vfs_without_a_group_are_vetoed() -> None:
    decision = decide(snapshot(*_regrouped(pf(2), None)), VFS)["0000:3b:00.0"].decision
    assert (decision.total, decision.reason) == (
        0,
        "0 of 2 VFs given; VF 0-1 is not behind the IOMMU: it has no IOMMU group",
    )


def test_no_vf_is_given_without_an_iommu() -> None:
    decision = decide(snapshot(*pf(2), iommu=False), VFS)["0000:3b:00.0"].decision
    assert decision == Decision(False, "the host has no IOMMU in use", "r", Mode.VF)


def test_a_function_that_is_no_pf_has_no_vfs_to_give() -> None:
    decision = decide(snapshot(function()), VFS)["0000:3b:00.0"].decision
    assert (decision.managed, decision.reason) == (False, "is no SR-IOV PF: it has no VFs to give")


def test_a_failed_driver_gives_nothing_away_whatever_the_rule() -> None:
    broken = claim(function(), Kind.OTHER, failure="driver fake failed: ValueError: no")
    decision = decide(snapshot(function()), WHOLE, claims=[broken])["0000:3b:00.0"].decision
    assert (decision.managed, decision.reason) == (False, "unknown: driver fake failed: ValueError: no")


def test_the_guards_hold_on_a_generated_host(tmp_path: Path) -> None:
    found = look_at(
        tmp_path,
        port({"id": "10de:20f1", "class": "030200", "driver": "nvidia"}),
        port(
            {"id": "10de:20f1", "class": "030200", "driver": "nvidia"},
            {"id": "10de:20f1", "class": "030200", "driver": "nvidia", "iommu_with": "00.0"},
        ),
        port({"id": "10de:1eb8", "class": "030000", "driver": "nvidia", "boot_vga": True}),
        port({"id": "144d:a80a", "class": DISK, "driver": "nvme", "disk": {"name": "nvme0n1", "partitions": 1}}),
        root="nvme0n1p1",
    )
    assert {address: device.decision.reason for address, device in found.items()} == {
        "0000:3b:00.0": "given whole",
        "0000:3c:00.0": "shares IOMMU group 5 with 0000:3c:01.0",
        "0000:3c:01.0": "shares IOMMU group 5 with 0000:3c:00.0",
        "0000:3d:00.0": "is the boot display: the host's console would be lost",
    }


def test_of_two_unknown_functions_in_one_slot_and_group_neither_is_given() -> None:
    """Neither is the other's companion: what takes one of them would take the other along."""
    two = [function(f"0000:3b:00.{part}", "abcd:0001", "ff0000") for part in (0, 1)]
    found = decide(snapshot(*two), WHOLE, claims=[])
    assert {address: device.decision.reason for address, device in found.items()} == {
        "0000:3b:00.0": "shares IOMMU group 7 with 0000:3b:00.1",
        "0000:3b:00.1": "shares IOMMU group 7 with 0000:3b:00.0",
    }
