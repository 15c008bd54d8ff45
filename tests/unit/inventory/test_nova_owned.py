# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What Nova's configuration takes is left to Nova, by Nova's own rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from devagent.inventory.nova_owned import NovaOwned, nova_owned
from devagent.model.claim import MdevFacts, MdevType, Mode
from devagent.model.nova import DeviceSpec, NovaDevices
from devagent.model.pci import Function, Sriov
from devagent.model.snapshot import Snapshot

from ..worlds import claim, decide, function, pf, rule, snapshot

ORIGIN = "/etc/nova/nova.conf"
REASON = "is managed by Nova: device_spec {...} in /etc/nova/nova.conf"
WHOLE, VFS = rule(Mode.WHOLE), rule(Mode.VF)


def taking(seen: Snapshot, *keys: dict[str, object], types: Any = ()) -> Snapshot:
    """Gives a look at a host whose Nova takes devices by these selectors, and makes mdevs of these types."""
    return replace(seen, nova=NovaDevices(tuple(DeviceSpec("{...}", ORIGIN, each) for each in keys), types))


def regexes(**parts: str) -> dict[str, object]:
    return {"address": {"domain": ".*", "bus": ".*", "slot": ".*", "function": ".*"} | parts}


@pytest.mark.parametrize(
    ("keys", "taken"),
    [
        ({}, True),
        ({"vendor_id": "10de"}, True),
        ({"vendor_id": "8086"}, False),
        ({"vendor_id": "10de", "product_id": "20f1"}, True),
        ({"vendor_id": "10de", "product_id": "20b5"}, False),
        ({"product_id": "20f1", "address": "0000:3b:00.0"}, True),
        ({"address": "0000:3b:00.1"}, False),
        ({"address": "*:3b:*.*"}, True),
        ({"address": "*:*:*.0"}, True),
        ({"address": "0001:*:*.*"}, False),
        ({"vendor_id": "8086", "address": "0000:3b:00.0"}, False),
        (regexes(bus="3[ab]", function="[0-1]"), True),
        (regexes(bus="3"), True),  # as re.match does, the beginning is enough
        (regexes(bus="b"), False),
        (regexes(function="[1-7]"), False),
        ({"devname": "ens1", "address": "0000:3b:00.0"}, True),
        ({"devname": "ens1"}, False),
    ],
)
def test_a_device_is_taken_by_its_ids_and_address(keys: dict[str, object], taken: bool) -> None:
    seen = snapshot(function())
    assert nova_owned(taking(seen, keys)).device(function()) == (REASON if taken else None)
    decision = decide(taking(seen, keys), WHOLE)["0000:3b:00.0"].decision
    assert (decision.managed, decision.reason) == ((False, REASON) if taken else (True, "given whole"))


def vf_total(*keys: dict[str, object], functions: list[Function] | None = None) -> tuple[int, str]:
    decision = decide(taking(snapshot(*(functions or pf(4))), *keys), VFS)["0000:3b:00.0"].decision
    return decision.total, decision.reason


@pytest.mark.parametrize(
    "keys",
    [
        {"vendor_id": "15b3", "product_id": "101e"},
        {"product_id": "101e", "address": "0000:3b:00.0"},
        {"product_id": "101e", "address": "0000:3b:01.*"},
        {"product_id": "101e", "devname": "ens1", "address": "0000:3b:00.0"},
        regexes(slot="01"),
        {"product_id": "101e", **regexes(domain="0000", bus="3b", slot="00", function="0")},
    ],
)
def test_vfs_are_taken_by_their_own_address_or_their_pfs(keys: dict[str, object]) -> None:
    assert vf_total(keys) == (0, f"0 of 4 VFs given; VF 0-3 {REASON}")


def test_one_vf_can_be_taken_and_the_others_given() -> None:
    assert vf_total({"address": "0000:3b:01.2"}) == (3, f"3 of 4 VFs given; VF 2 {REASON}")


@pytest.mark.parametrize(
    "keys", [{"product_id": "101e", "address": "0000:3b:00.*"}, {"product_id": "101e", **regexes(slot="00")}]
)
def test_only_a_single_address_stands_for_the_vfs(keys: dict[str, object]) -> None:
    assert vf_total(keys) == (4, "4 of 4 VFs given")


@pytest.mark.parametrize("keys", [{"address": "0000:3b:00.0"}, {"product_id": "101d"}, {}])
def test_no_vf_is_given_of_a_pf_that_nova_may_take_away(keys: dict[str, object]) -> None:
    assert vf_total(keys) == (0, REASON)


def test_an_address_stands_for_the_vfs_of_a_pf_only() -> None:
    head, *vfs = pf(2)
    assert head.sriov is not None
    none = replace(head, sriov=replace(head.sriov, total_vfs=0))
    assert vf_total({"product_id": "101e", "address": "0000:3b:00.0"}, functions=[none, *vfs])[0] == 2


def test_a_pf_that_can_have_one_vf_stands_for_that_one() -> None:
    assert vf_total({"product_id": "101e", "address": "0000:3b:00.0"}, functions=pf(1, total=1))[0] == 0


def test_an_address_stands_for_no_vfs_of_another_pf() -> None:
    functions = [*pf(1), function("0000:5e:00.0", "15b3:101d", sriov=Sriov(8), iommu_group=9)]
    assert vf_total({"product_id": "101e", "address": "0000:5e:00.0"}, functions=functions)[0] == 1


def test_what_has_a_longer_domain_is_not_novas() -> None:
    behind = function("10000:01:00.0")
    assert nova_owned(taking(snapshot(behind), {})).device(behind) is None


def mdev_parent(*types: str, **more: Any) -> tuple[Function, Any]:
    of = function(mdev_parent=True, **more)
    return of, claim(of, mdev=MdevFacts(tuple(MdevType(each, each) for each in types)))


@pytest.mark.parametrize(
    ("enabled", "known", "type_"),
    [
        ([("nvidia-558", ())], ("nvidia-558", "nvidia-559"), "nvidia-558"),
        ([("nvidia-558", ())], ("nvidia-700",), None),
        ([("nvidia-558", ())], (), "nvidia-558"),
        ([("nvidia-558", ("0000:3b:00.0",))], ("nvidia-558",), "nvidia-558"),
        ([("nvidia-558", ("0000:3c:00.0",))], ("nvidia-558",), None),
        ([("a", ()), ("b", ("0000:3b:00.0",))], ("a", "b"), "b"),
        ([("a", ()), ("b", ())], ("a", "b"), "a"),
        ([("a", ()), ("b", ())], ("b",), None),
        ([], ("a",), None),
    ],
)
def test_a_parent_of_mediated_devices_is_taken_by_its_types(
    enabled: list[Any], known: tuple[str, ...], type_: str | None
) -> None:
    parent, said = mdev_parent(*known)
    decision = decide(taking(snapshot(parent), types=tuple(enabled)), WHOLE, claims=[said])["0000:3b:00.0"].decision
    reason = f"is managed by Nova: its enabled_mdev_types has {type_}" if type_ else "given whole"
    assert (decision.managed, decision.reason) == (type_ is None, reason)


def test_a_device_that_makes_no_mediated_devices_is_not_taken_by_types() -> None:
    seen = taking(snapshot(function()), types=(("nvidia-558", ()),))
    assert decide(seen, WHOLE)["0000:3b:00.0"].decision.managed


def test_a_parent_that_nova_takes_by_its_ids_is_novas_whatever_types_it_makes() -> None:
    parent, said = mdev_parent("nvidia-558")
    decision = decide(taking(snapshot(parent), {"vendor_id": "10de"}), WHOLE, claims=[said])["0000:3b:00.0"].decision
    assert (decision.managed, decision.reason) == (False, REASON)
    assert vf_total({"product_id": "101e"}, functions=pf(2, mdev_parent=True))[0] == 0


def test_vfs_that_make_no_mediated_devices_are_not_taken_by_types() -> None:
    seen = taking(snapshot(*pf(2)), types=(("nvidia-558", ()),))
    assert decide(seen, VFS)["0000:3b:00.0"].decision.total == 2


def test_vfs_that_are_parents_are_taken_by_their_own_address() -> None:
    head, *vfs = pf(3, mdev_parent=True)
    seen = taking(snapshot(head, *vfs), types=(("nvidia-558", ("0000:3b:01.1",)),))
    decision = decide(seen, VFS)["0000:3b:00.0"].decision
    reason = "2 of 3 VFs given; VF 1 is managed by Nova: its enabled_mdev_types has nvidia-558"
    assert (decision.total, decision.reason) == (2, reason)


def test_a_host_without_nova_has_nothing_that_is_novas() -> None:
    assert nova_owned(snapshot(function())) == NovaOwned()
