# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devagent.cli.difference import differences, lines
from devagent.discovery import Discovery
from devagent.document import document
from devagent.model.pci import Sriov, VirtualFunction
from devagent.model.snapshot import Problem
from devagent.model.user import User
from devagent.view import Look

from .pictures import HOSTILE, gpu, look, nic, troubled

USER = User(1, "qemu", "/dev/vfio/1")


def differ(before: Look, after: Look) -> list[str]:
    return lines(differences(document(before), document(after)))


def with_vfs(count: int, driver: str | None = "vfio-pci", bus: int = 1, **more: Any) -> Look:
    vfs = tuple(VirtualFunction(n, f"0000:3b:{bus:02x}.{n}", driver, 100 * bus + n) for n in range(count))
    one = nic(0)
    return look(replace(one, function=replace(one.function, sriov=Sriov(8, "101e", vfs)), **more))


def test_the_same_look_differs_in_nothing() -> None:
    assert differ(troubled(), troubled()) == []
    assert differences(json.loads(json.dumps(document(troubled()))), document(troubled())) == []


def test_devices_come_and_go() -> None:
    assert differ(look(), look(gpu())) == ["+ 0000:3b:00.0 gpu NVIDIA A100, given: given whole"]
    assert differ(look(gpu()), look()) == ["- 0000:3b:00.0 gpu NVIDIA A100, given: given whole"]


def test_another_model_in_the_same_slot_is_another_device() -> None:
    assert [line[:15] for line in differ(look(gpu()), look(gpu(ids="10de:2331")))] == [
        "- 0000:3b:00.0 ",
        "+ 0000:3b:00.0 ",
    ]


def test_a_device_whose_identity_was_learnt_only_now_is_the_same() -> None:
    before, after = gpu(), gpu()
    after = replace(after, identity=replace(after.identity, source="nvml", value="GPU-1"))
    (headline, *changes) = differ(look(before), look(after))
    assert headline == "~ 0000:3b:00.0 gpu NVIDIA A100"
    assert "    identity.source: topology -> nvml" in changes
    assert "    identity.value: pci0000:3a/01.0/00.0 -> GPU-1" in changes


def test_a_device_that_moved_is_told_from_one_that_came() -> None:
    before = gpu(pcie_path=(), root_bus=None)
    moved = replace(before, function=replace(before.function, address="0000:99:00.0"))
    found = differ(look(before), look(moved))
    assert found[0] == "~ 0000:99:00.0 gpu NVIDIA A100"
    assert "    address: 0000:3b:00.0 -> 0000:99:00.0" in found


def test_each_changed_field_is_named_with_both_values() -> None:
    before = gpu()
    driverless = replace(before.function, driver="vfio-pci", iommu_group=None, numa_node=1, drivers=("a", "b"))
    refused = replace(before.decision, managed=False, rule=None, reason="no rule matches")
    after = replace(before, function=driverless, decision=refused, in_use_by="mounted on /")
    found = differ(look(before), look(after))
    assert found[:8] == [
        "~ 0000:3b:00.0 gpu NVIDIA A100",
        "    given: yes -> no",
        "    why: given whole -> no rule matches",
        "    rule: r -> none",
        "    driver: none -> vfio-pci",
        "    drivers available: none -> a, b",
        "    in use by: none -> mounted on /",
        "    IOMMU group: 7 -> none",
    ]
    assert "    NUMA node: 0 -> 1" in found
    assert any(line.startswith("    placement: name devagent:h.example.org:") for line in found)


def test_of_many_traits_only_those_that_came_and_went_are_told() -> None:
    before, after = document(look(gpu())), document(look(gpu()))
    before["devices"][0]["placement"]["traits"] = ["CUSTOM_A", "CUSTOM_B", "CUSTOM_C"]
    after["devices"][0]["placement"]["traits"] = ["CUSTOM_A", "CUSTOM_C", "CUSTOM_D"]
    assert lines(differences(before, after))[1:] == ["    placement.traits: CUSTOM_B -> CUSTOM_D"]


def test_the_order_of_a_path_is_a_change() -> None:
    ways = [
        gpu(pcie_path=path, root_bus=None)
        for path in (("0000:3a:01.0", "0000:3a:02.0"), ("0000:3a:02.0", "0000:3a:01.0"))
    ]
    assert "    PCIe path: 0000:3a:01.0, 0000:3a:02.0 -> 0000:3a:02.0, 0000:3a:01.0" in differ(*map(look, ways))


def test_vfs_are_summed_up_by_ranges() -> None:
    assert differ(with_vfs(4), with_vfs(8, None))[1:] == [
        "    number of VFs: 4 -> 8",
        "    VF 4-7: none -> no driver",
        "    VF 0-3 driver: vfio-pci -> none",
    ]
    assert differ(with_vfs(8), with_vfs(2))[1:] == ["    number of VFs: 8 -> 2", "    VF 2-7: vfio-pci -> none"]


def test_vfs_that_all_moved_say_from_where_to_where() -> None:
    assert differ(with_vfs(8), with_vfs(8, bus=2))[1:] == [
        "    VF 0-7 address: 0000:3b:01.0 to 0000:3b:01.7 -> 0000:3b:02.0 to 0000:3b:02.7",
        "    VF 0-7 IOMMU group: 100 to 107 -> 200 to 207",
    ]


def test_who_uses_a_vf_is_told() -> None:
    used = with_vfs(4, vf_users=((1, (USER,)), (2, (USER,))))
    assert differ(with_vfs(4), used)[1:] == ["    VF 1-2 in use by: none -> qemu (pid 1)"]


def test_members_of_other_lists_are_found_by_their_names() -> None:
    before, after = document(look(nic())), document(look(nic()))
    after = json.loads(json.dumps(after))
    after["devices"][0]["net"]["interfaces"][0]["link"] = False
    after["devices"][0]["net"]["interfaces"].append({"name": "ens2", "mac": None, "link": None, "speed_mbps": None})
    assert lines(differences(before, after))[1:] == [
        "    net.interfaces.ens1.link: yes -> no",
        "    net.interfaces.ens2: none -> name ens2",
    ]


def test_the_host_its_problems_and_notes_count_too() -> None:
    before = look(problems=[Problem("pci", None, "odd")], notes=["a"], boot_id="1")
    after = look(problems=[Problem("nvml", "0000:3b:00.0", "lost")], notes=["b"], boot_id="2", numa_nodes=(0,))
    assert differ(before, after) == [
        "~ host",
        "    boot id: 1 -> 2",
        "    NUMA nodes: 0, 1 -> 0",
        "- problem: host: odd [pci]",
        "+ problem: 0000:3b:00.0: lost [nvml]",
        "- note: a",
        "+ note: b",
    ]


def test_a_field_of_a_later_version_is_not_passed_over() -> None:
    before, after = document(look(gpu())), document(look(gpu()))
    after["devices"][0]["colour"] = "red"
    after["weather"] = "fine"
    assert lines(differences(before, after)) == [
        "~ host",
        "    weather: none -> fine",
        "~ 0000:3b:00.0 gpu NVIDIA A100",
        "    colour: none -> red",
    ]


def test_what_is_only_the_explanation_is_no_difference() -> None:
    assert differences(document(look()), {**document(look()), "explanations": [{"a": 1}]}) == []


def test_no_difference_can_move_the_cursor() -> None:
    hostile = troubled()
    for found in (differ(hostile, look()), differ(look(), hostile), differ(look(notes=[HOSTILE]), look())):
        assert found
        assert all(line.isprintable() for line in found)


@pytest.mark.parametrize("name", ["gpu8", "fpga", "qat", "vm"])
def test_hosts_differ_from_nothing_and_from_each_other_without_loss(
    discovery: Callable[[str], Discovery], name: str
) -> None:
    seen = Look(discovery(name), "h", troubled().nest)
    others = document(Look(discovery("gpu8"), "h", seen.nest))
    there, back = differences(document(seen), others), differences(others, document(seen))
    opposite = {"+": "-", "-": "+", "~": "~"}
    assert sorted(opposite[each.sign] for each in there) == sorted(each.sign for each in back)
    assert bool(there) == (name != "gpu8")


LEAVES = st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["", "a", "b"])
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
)


@given(st.dictionaries(st.sampled_from(["driver", "net", "sriov", "link"]), VALUES), st.data())
def test_whatever_differs_in_a_device_is_a_difference(one: dict[str, Any], data: st.DataObject) -> None:
    other = data.draw(st.just(deepcopy(one)) | st.dictionaries(st.sampled_from(["driver", "net", "sriov"]), VALUES))

    def said(device: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"devices": [{"address": "0000:3b:00.0", "id": "1", **device}]}

    found = differences(said(one), said(other))
    if json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True):
        assert found == []
    elif _said(one) != _said(other):
        assert [each.sign for each in found] == ["~"]


def _said(value: Any) -> Any:
    """Gives a value without the fields that are null, which a document that lacks them says as well."""
    if isinstance(value, dict):
        return {key: _said(each) for key, each in value.items() if each is not None}
    return json.dumps(value, sort_keys=True)
