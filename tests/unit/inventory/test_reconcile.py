# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Who has a device in Placement, who has it open, and what is said where the two do not fit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devagent.inventory.build import build
from devagent.inventory.reconcile import (
    Holding,
    Kind,
    Scene,
    Verdict,
    held_addresses,
    reconcile,
    watched,
)
from devagent.model.claim import Mode
from devagent.model.device import Device, Share
from devagent.model.health import Health, State
from devagent.model.policy import Policy, Rule
from devagent.model.provider import Inventory, Provider, ProviderTree
from devagent.model.user import User

from ..worlds import decide, function, managed, pf, rule, snapshot

ROOT = "0c6e1f57-6a3d-4f0b-9a55-2f7d5a3b8e10"
SERVER = "5e1f0000-0000-4000-8000-000000000001"
OTHER = "5e1f0000-0000-4000-8000-000000000002"
MIGRATION = "77aa0000-0000-4000-8000-000000000003"
GPU, NIC = "0000:3b:00.0", "0000:3b:00.0"
QEMU = User(4711, "qemu-system-x86", "/dev/vfio/7", SERVER, "instance-0000001a")
TOOL = User(815, "nvidia-persiste", "/dev/nvidia0")


def gpu(*users: User, **more: Any) -> Device:
    return replace(managed(function()), users=users, **more)


def nic(count: int, *users: tuple[int, User], used: Iterable[int] = (), **of: Any) -> tuple[Device, Policy]:
    """Gives a NIC with VFs, of which processes have some open and the host itself uses some."""
    vfs = rule(Mode.VF, **of)
    device = decide(snapshot(*pf(count)), vfs)[NIC]
    vf_users = tuple((index, (user,)) for index, user in users)
    vf_use = tuple((index, "the host's route") for index in used)
    return replace(device, vf_users=vf_users, vf_use=vf_use), policy(vfs)


def policy(*rules: Rule) -> Policy:
    return Policy(rules or (rule(),), "test")


def seen(
    *devices: Device, rules: Policy | None = None, before: Iterable[Device] = (), also: Iterable[Provider] = ()
) -> Scene:
    """Gives a host with `devices`, of which Placement has all that are given, and those of `before`, `also` others."""
    desired = build(devices, ROOT, "h1")
    listed = {
        **build(before or devices, ROOT, "h1").by_uuid(),
        **desired.by_uuid(),
        **{each.uuid: each for each in also},
    }
    at_7 = {uuid: replace(entry, generation=7) for uuid, entry in listed.items()}
    return Scene(tuple(devices), desired, at_7, rules or policy())


def uuid_of(scene: Scene) -> str:
    return next(iter(scene.desired.devices))


def judged(scene: Scene, holding: Holding, of: str | None = None) -> list[tuple[str, Kind, str]]:
    """Gives address, kind and words of what is found if one device's provider is held so."""
    verdict = reconcile(scene, {of or uuid_of(scene): holding})
    return [(each.address, each.kind, each.what) for each in verdict.found]


def kinds(scene: Scene, holding: Holding) -> list[Kind]:
    return [kind for _, kind, _ in judged(scene, holding)]


def fenced(scene: Scene) -> Scene:
    """Closes every provider to new consumers."""
    closed = tuple(
        replace(one, inventories={name: Inventory(each.total, each.total) for name, each in one.inventories.items()})
        for one in scene.desired.providers
    )
    return replace(scene, desired=replace(scene.desired, providers=closed))


def test_what_is_allocated_and_open_fits() -> None:
    assert kinds(seen(gpu(QEMU)), {SERVER: {"PGPU": 1}}) == []


def test_a_stopped_server_keeps_its_device_in_peace() -> None:
    assert kinds(seen(gpu()), {SERVER: {"PGPU": 1}}) == []


def test_nothing_held_and_nothing_open_fits() -> None:
    assert kinds(seen(gpu()), {}) == []


def test_a_migrating_server_has_its_device_under_another_uuid() -> None:
    assert kinds(seen(gpu(QEMU)), {MIGRATION: {"PGPU": 1}}) == []


def test_an_open_device_that_nobody_has_allocated_names_the_process_and_the_server() -> None:
    [(address, kind, what)] = judged(seen(gpu(QEMU)), {})
    assert (address, kind) == (GPU, Kind.UNALLOCATED)
    assert what == (
        f"{QEMU} has /dev/vfio/7 open, but in Placement it is allocated to nobody, so another server can be given it: "
        f"see `openstack server show {SERVER}`: a server that belongs here lost its allocation, so stop or migrate it; "
        "of one that does not, end the process 4711"
    )


def test_a_process_of_the_host_is_told_apart_from_a_server() -> None:
    [(_, kind, what)] = judged(seen(gpu(TOOL)), {})
    assert kind is Kind.UNALLOCATED
    assert what == (
        "nvidia-persiste (pid 815) has /dev/nvidia0 open, but in Placement it is allocated to nobody, so another "
        "server can be given it: end the process, or give the host the device for good with `mode: ignore` in "
        "devices.yaml"
    )


def test_one_process_with_two_nodes_is_one_finding() -> None:
    again = replace(QEMU, node="/dev/vfio/devices/vfio3")
    assert len(judged(seen(gpu(QEMU, again)), {})) == 1


def test_each_process_is_a_finding_of_its_own() -> None:
    assert len(judged(seen(gpu(QEMU, TOOL)), {})) == 2


def test_a_device_that_is_not_given_may_be_used_by_anybody() -> None:
    device = gpu(QEMU)
    ignored = replace(device, decision=replace(device.decision, managed=False))
    scene = seen(ignored, before=[device])
    [uuid] = watched(scene)
    assert judged(scene, {}, uuid) == []


def test_a_fenced_device_that_somebody_has_open_cannot_be_given_twice() -> None:
    assert kinds(fenced(seen(gpu(QEMU))), {}) == []


def vf_user(number: int, instance: str | None) -> tuple[int, User]:
    return number, User(4000 + number, "qemu-system-x86", f"/dev/vfio/{100 + number}", instance)


def test_of_vfs_only_those_that_no_consumer_accounts_for_are_told() -> None:
    device, rules = nic(4, vf_user(0, SERVER), vf_user(2, OTHER))
    found = judged(seen(device, rules=rules), {SERVER: {"CUSTOM_VF": 1}})
    assert [(address, kind) for address, kind, _ in found] == [("0000:3b:01.2", Kind.UNALLOCATED)]


def test_a_server_with_more_vfs_than_are_allocated_to_it_is_told() -> None:
    device, rules = nic(4, vf_user(0, SERVER), vf_user(1, SERVER))
    scene = seen(device, rules=rules)
    assert kinds(scene, {SERVER: {"CUSTOM_VF": 1}}) == [Kind.UNALLOCATED]
    assert kinds(scene, {SERVER: {"CUSTOM_VF": 2}}) == []


def test_vfs_that_the_policy_keeps_from_servers_may_be_open() -> None:
    device, rules = nic(4, vf_user(3, None), vf_indexes=frozenset({0, 1}))
    assert kinds(seen(device, rules=rules), {}) == []
    device, rules = nic(4, vf_user(1, None), vf_indexes=frozenset({0, 1}))
    assert kinds(seen(device, rules=rules), {}) == [Kind.UNALLOCATED]


def test_of_several_rules_the_one_that_decided_says_which_vfs_are_kept() -> None:
    device, rules = nic(4, vf_user(3, None), vf_indexes=frozenset({0, 1}))
    other = rule(Mode.VF, "another", vf_indexes=frozenset({3}))
    assert kinds(seen(device, rules=policy(other, *rules.rules)), {}) == []


def test_of_a_rule_that_is_gone_nobody_knows_which_vfs_it_kept() -> None:
    """A sick device that cannot be read is closed as it was given before, be it by an older policy."""
    device, _ = nic(4, vf_user(3, None), vf_indexes=frozenset({0, 1}))
    assert kinds(seen(device, rules=policy(rule(name="new"))), {}) == [Kind.UNALLOCATED]


def test_vfs_that_the_host_uses_may_be_open() -> None:
    device, rules = nic(4, vf_user(3, None), used=[3])
    assert kinds(seen(device, rules=rules), {}) == []


def test_a_pf_that_is_open_says_nothing_about_its_vfs() -> None:
    device, rules = nic(4)
    assert kinds(seen(replace(device, users=(TOOL,)), rules=rules), {}) == []


def test_a_device_that_is_gone_while_allocated_is_told_with_how_to_free_it() -> None:
    scene = seen(before=[gpu()])
    [uuid] = watched(scene)
    [(address, kind, what)] = judged(scene, {SERVER: {"PGPU": 1}}, uuid)
    assert (address, kind) == (GPU, Kind.GONE)
    assert f"1 PGPU of it is allocated to {SERVER}" in what
    assert uuid in what
    assert judged(scene, {}, uuid) == []


def test_a_provider_that_lost_its_name_to_another_card_is_still_found_by_its_address() -> None:
    [entry] = [each for each in build([gpu()], ROOT, "h1").providers if GPU in each.name]
    renamed = replace(entry, name=entry.former_name)
    other = managed(function(ids="10de:2331"))
    scene = seen(other, also=[renamed])
    assert renamed.name.endswith(f"~{renamed.uuid[:8]}")
    assert [kind for _, kind, _ in judged(scene, {SERVER: {"PGPU": 1}}, renamed.uuid)] == [Kind.GONE]


def test_a_device_that_is_no_longer_given_while_allocated_is_told_with_the_reason() -> None:
    device = gpu()
    kept = replace(device, decision=replace(device.decision, managed=False, reason="it is the boot display"))
    scene = seen(kept, before=[device])
    [uuid] = watched(scene)
    [(address, kind, what)] = judged(scene, {SERVER: {"PGPU": 1}}, uuid)
    assert (address, kind) == (GPU, Kind.WITHDRAWN)
    assert what == (
        f"1 PGPU of it is allocated to {SERVER}, but it is no longer given (it is the boot display): "
        "undo that, or stop or migrate the server"
    )


@pytest.mark.parametrize(
    ("health", "words"),
    [
        (Health(State.UNHEALTHY, ("XID 79", "it asks for a reset")), "fenced (unhealthy; XID 79; it asks for a reset)"),
        (Health(State.LOST), "fenced (lost)"),
        (Health(), "but it is fenced and nobody"),
    ],
)
def test_a_fenced_device_that_is_allocated_is_told_with_the_reason(health: Health, words: str) -> None:
    scene = fenced(seen(gpu(health=health)))
    [(_, kind, what)] = judged(scene, {SERVER: {"PGPU": 1}})
    assert kind is Kind.FENCED
    assert what.startswith(f"1 PGPU of it is allocated to {SERVER}, but it is fenced")
    assert words in what
    assert what.endswith(f"then mend the device; `devagent health show {GPU}` says more")
    assert judged(scene, {}) == []


def test_vfs_that_are_missing_while_allocated_are_told_with_the_numbers() -> None:
    device, rules = nic(2, vf_count=4)
    scene = seen(device, rules=rules)
    [(_, kind, what)] = judged(scene, {SERVER: {"CUSTOM_VF": 2}, OTHER: {"CUSTOM_VF": 1}})
    assert kind is Kind.SHORT
    assert f"3 CUSTOM_VF of it are allocated to {SERVER}, {OTHER}, but this host has 2 to give" in what
    assert "the rule wants 4" in what
    assert kinds(scene, {SERVER: {"CUSTOM_VF": 2}}) == []


def test_all_vfs_gone_is_less_than_is_allocated() -> None:
    device, rules = nic(0)
    assert kinds(seen(device, rules=rules), {SERVER: {"CUSTOM_VF": 1}}) == [Kind.SHORT]


def test_a_device_that_is_divided_now_is_told_by_the_class_that_it_no_longer_has() -> None:
    device, rules = nic(4)
    [(_, kind, what)] = judged(seen(device, rules=rules), {SERVER: {"PGPU": 1}})
    assert kind is Kind.SHORT
    assert "1 PGPU of it is allocated" in what


def test_many_consumers_are_counted_not_listed() -> None:
    device, rules = nic(0)
    holding = {f"5e1f0000-0000-4000-8000-{number:012}": {"CUSTOM_VF": 1} for number in (2, 1, 4, 3, 8, 7, 6, 5)}
    [(_, _, what)] = judged(seen(device, rules=rules), holding)
    first = ", ".join(f"5e1f0000-0000-4000-8000-{number:012}" for number in (1, 2, 3))
    assert what.startswith(f"8 CUSTOM_VF of it are allocated to {first} and 5 more, but")


def test_of_several_classes_each_that_is_short_is_told_with_those_who_have_it() -> None:
    device, rules = nic(0)
    holding = {OTHER: {"CUSTOM_B": 2, "CUSTOM_A": 1}, SERVER: {"CUSTOM_A": 1}}
    assert [what.partition(", but")[0] for _, _, what in judged(seen(device, rules=rules), holding)] == [
        f"2 CUSTOM_A of it are allocated to {SERVER}, {OTHER}",
        f"2 CUSTOM_B of it are allocated to {OTHER}",
    ]


def test_all_classes_of_what_is_withdrawn_are_told_together() -> None:
    device = gpu()
    scene = seen(replace(device, decision=replace(device.decision, managed=False)), before=[device])
    [uuid] = watched(scene)
    [(_, _, what)] = judged(scene, {SERVER: {"CUSTOM_B": 2, "CUSTOM_A": 1}}, uuid)
    assert what.startswith(f"1 CUSTOM_A, 2 CUSTOM_B of it are allocated to {SERVER}, but it is no longer given")


def test_a_device_of_which_one_class_is_left_is_open_to_new_consumers() -> None:
    """Of a GPU that carries vGPUs of one size, the classes of other sizes are closed until they end."""
    shares = (Share("CUSTOM_A", 2, 2), Share("CUSTOM_B", 1))
    device = gpu(QEMU)
    scene = seen(replace(device, decision=replace(device.decision, shares=shares)))
    assert kinds(scene, {SERVER: {"CUSTOM_B": 1}}) == []
    assert kinds(scene, {}) == [Kind.UNALLOCATED]


def test_what_is_found_keeps_its_key_while_the_words_change() -> None:
    """So that the next cycle knows it again: only what tells several of a kind at one address apart is in it."""
    device, uuid = gpu(QEMU), uuid_of(seen(gpu()))
    held: Holding = {SERVER: {"PGPU": 2}}
    ignored = replace(device, decision=replace(device.decision, managed=False))

    def keys(scene: Scene, holding: Holding) -> list[tuple[str, str, str]]:
        return [each.key for each in reconcile(scene, {uuid: holding}).found]

    assert keys(seen(device), {}) == [(GPU, Kind.UNALLOCATED, "4711")]
    assert keys(seen(ignored, before=[device]), held) == [(GPU, Kind.WITHDRAWN, "")]
    assert keys(fenced(seen(device)), held) == [(GPU, Kind.FENCED, ""), (GPU, Kind.SHORT, "PGPU")]
    assert keys(seen(before=[device]), held) == [(GPU, Kind.GONE, uuid)]


def test_what_is_unknown_now_is_not_judged() -> None:
    device = gpu(QEMU)
    unread = replace(device, decision=replace(device.decision, managed=False, unknown=True))
    scene = seen(unread, before=[device])
    [uuid] = watched(scene)
    assert reconcile(scene, {uuid: {SERVER: {"PGPU": 1}}}) == Verdict((), frozenset({uuid}))


@pytest.mark.parametrize("more", [{"unknown": [GPU]}, {"complete": False}])
def test_a_device_that_may_only_be_unread_is_not_gone(more: dict[str, Any]) -> None:
    scene = seen(before=[gpu()])
    scene = replace(scene, desired=build([], ROOT, "h1", **more))
    [uuid] = watched(scene)
    assert reconcile(scene, {uuid: {SERVER: {"PGPU": 1}}}) == Verdict((), frozenset({uuid}))


def test_without_knowing_who_holds_it_nothing_is_said() -> None:
    scene = seen(gpu(QEMU))
    assert reconcile(scene, {}) == Verdict((), frozenset({uuid_of(scene)}))


def test_what_placement_has_not_yet_is_not_judged() -> None:
    scene = replace(seen(gpu(QEMU)), listed={})
    assert reconcile(scene, {}) == Verdict(())


@pytest.mark.parametrize("name", [f"h1_{GPU}", "h1_pci_0000_3b_00_0"])
def test_a_device_that_nova_or_cyborg_report_is_theirs_to_explain(name: str) -> None:
    foreign = Provider(OTHER, name, ROOT)
    assert kinds(seen(gpu(QEMU), also=[foreign]), {}) == []


def test_only_providers_of_devices_are_watched() -> None:
    scene = seen(gpu(), also=[Provider(ROOT, "h1", None), Provider(OTHER, f"h1_{GPU}", ROOT)])
    assert len(scene.listed) > 3
    assert list(watched(scene)) == [uuid_of(scene)]


def test_a_provider_of_somebody_else_is_not_watched_whatever_it_is_called() -> None:
    assert OTHER not in watched(seen(gpu(), also=[Provider(OTHER, f"rack:h1:{GPU}", ROOT)]))


def test_a_pcie_switch_is_no_device() -> None:
    group = Provider(OTHER, "devagent:h1:pcie-0000:3a:01.0", ROOT)
    assert OTHER not in watched(seen(gpu(), also=[group]))


def test_addresses_of_what_somebody_holds_are_known() -> None:
    scene = seen(gpu())
    assert held_addresses(scene, {uuid_of(scene): {SERVER: {"PGPU": 1}}}) == {GPU}
    assert held_addresses(scene, {uuid_of(scene): {}}) == frozenset()
    assert held_addresses(scene, {}) == frozenset()


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Scene, Holding, int]:
    """Gives a NIC, what is held of it, and how many of its VFs are open."""
    count = draw(st.integers(0, 6))
    servers = st.sampled_from([SERVER, OTHER, MIGRATION])
    opened = draw(st.dictionaries(st.integers(0, count - 1), servers)) if count else {}
    held = draw(st.dictionaries(servers, st.integers(1, 3)))
    device, rules = nic(count, *(vf_user(index, server) for index, server in opened.items()))
    return seen(device, rules=rules), {server: {"CUSTOM_VF": amount} for server, amount in held.items()}, len(opened)


@given(worlds())
def test_as_many_vfs_are_unexplained_as_are_open_beyond_what_is_allocated(world: tuple[Scene, Holding, int]) -> None:
    scene, holding, opened = world
    allocated = sum(held["CUSTOM_VF"] for held in holding.values())
    assert kinds(scene, holding).count(Kind.UNALLOCATED) == max(0, opened - allocated)


@given(worlds())
def test_a_server_that_has_what_is_allocated_to_it_is_never_told(world: tuple[Scene, Holding, int]) -> None:
    scene, holding, _ = world
    device = scene.devices[0]
    for server in holding:
        mine = [users[0].pid for _, users in device.vf_users if users[0].instance == server]
        told = [
            each.about for each in reconcile(scene, {uuid_of(scene): holding}).found if each.about in map(str, mine)
        ]
        assert len(told) <= max(0, len(mine) - holding[server]["CUSTOM_VF"])


def test_findings_come_in_the_order_of_addresses() -> None:
    first, second = managed(function("0000:3b:00.0")), managed(function("0000:3c:00.0", pcie_path=("0000:3a:02.0",)))
    scene = seen(replace(second, users=(TOOL,)), replace(first, users=(TOOL,)))
    verdict = reconcile(scene, {uuid: {} for uuid in scene.desired.devices})
    assert [each.address for each in verdict.found] == ["0000:3b:00.0", "0000:3c:00.0"]


def test_an_empty_host_has_nothing_to_explain() -> None:
    assert reconcile(Scene((), ProviderTree(ROOT), {}, policy()), {}) == Verdict(())
