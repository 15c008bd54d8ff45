# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The reporter makes the real Placement equal to what a host has, and touches nothing else."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from devagent.inventory.build import Nest
from devagent.model.claim import Kind, Mode
from devagent.model.policy import Match, Policy, Rule
from devagent.model.provider import Provider, ProviderTree
from devagent.placement.state import Memory, StateFile

from .cloud import Cloud, assert_is, reporter
from .conftest import Describe
from .descriptions import GPU, small

GPU_ADDRESSES = {0: ("19", "1a", "3d", "3e"), 1: ("88", "89", "b1", "b2")}
NIC_ADDRESSES = {0: "1b", 1: "8a"}
RESETS = ["CUSTOM_RESET_BUS", "CUSTOM_RESET_FLR"]


def uuid_of(tree: ProviderTree, address: str) -> str:
    return next(uid for uid, found in tree.devices.items() if found[0] == address)


def policy(**gpu: object) -> Policy:
    """Gives GPUs as the arguments say, and VFs."""
    rules = (Rule("vfs", Match(vfs=True), Mode.VF), Rule("gpus", Match(kind=(Kind.GPU,)), Mode.WHOLE, **gpu))  # type: ignore[arg-type]
    return Policy(rules, "test")


def expected_gpu8(name: str) -> dict[str, tuple[str, dict[str, int], list[str]]]:
    """Gives parent, totals and traits of each provider that gpu8 must have, by name."""
    expected = {}
    for node, addresses in GPU_ADDRESSES.items():
        model = ("CUSTOM_MODEL_A100_PCIE_40GB", "20F1") if node == 0 else ("CUSTOM_MODEL_H100_PCIE", "2331")
        gpu = [
            "CUSTOM_DEVAGENT",
            "CUSTOM_MIG_CAPABLE",
            model[0],
            f"CUSTOM_PRODUCT_10DE_{model[1]}",
            *RESETS,
            "CUSTOM_VENDOR_NVIDIA",
        ]
        nic = [
            "CUSTOM_DEVAGENT",
            "CUSTOM_PRODUCT_15B3_101D",
            "CUSTOM_RESET_FLR",
            "CUSTOM_VENDOR_MELLANOX",
            "HW_NIC_SRIOV",
        ]
        numa = f"devagent:{name}:numa{node}"
        expected[numa] = (name, dict[str, int](), ["CUSTOM_DEVAGENT", "HW_NUMA_ROOT"])
        for bus in addresses:
            expected[f"devagent:{name}:0000:{bus}:00.0"] = (numa, {"PGPU": 1}, gpu)
        for function in (0, 1):
            address = f"0000:{NIC_ADDRESSES[node]}:00.{function}"
            expected[f"devagent:{name}:{address}"] = (numa, {"SRIOV_NET_VF": 8}, nic)
    return expected


def test_first_report_makes_exactly_the_desired_tree(cloud: Cloud, hosts: dict[str, Path]) -> None:
    assert cloud.report(cloud.want(hosts["gpu8"])).failures == {}
    tree = cloud.tree()
    names = {raw["uuid"]: name for name, raw in tree.items()}
    found = {
        name: (
            names[raw["parent_provider_uuid"]],
            {rc: inventory["total"] for rc, inventory in raw["inventories"].items()},
            raw["traits"],
        )
        for name, raw in tree.items()
        if name != cloud.name
    }
    assert found == expected_gpu8(cloud.name)


def test_inventory_leaves_nothing_to_overcommit(cloud: Cloud, describe: Describe) -> None:
    cloud.report(cloud.want(describe(small(vfs=8))))
    vfs = cloud.tree()[f"devagent:{cloud.name}:0000:3c:00.0"]["inventories"]["SRIOV_NET_VF"]
    assert vfs == {"total": 8, "reserved": 0, "min_unit": 1, "max_unit": 8, "step_size": 1, "allocation_ratio": 1.0}


@pytest.mark.parametrize("name", ["gpu8", "qat"])
def test_second_report_sends_no_write(cloud: Cloud, hosts: dict[str, Path], name: str) -> None:
    desired = cloud.want(hosts[name])
    first = cloud.report(desired)
    before, wire = cloud.generations(), cloud.wire()
    assert cloud.report(desired, wire).changes == []
    assert wire.writes == []
    assert cloud.generations() == before
    assert len(first.changes) == len(desired.providers)


def test_an_empty_host_makes_nothing(cloud: Cloud, hosts: dict[str, Path]) -> None:
    wire = cloud.wire()
    cloud.report(cloud.want(hosts["vm"]), wire)
    assert wire.writes == []
    assert list(cloud.tree()) == [cloud.name]


def test_compute_node_provider_is_never_written_to(cloud: Cloud, describe: Describe) -> None:
    cloud.set(cloud.root, {"VCPU": 128, "MEMORY_MB": 1 << 20, "DISK_GB": 900}, ("COMPUTE_NODE", "HW_CPU_X86_AVX2"))
    before = cloud.provider(cloud.root)
    wire = cloud.wire()
    cloud.report(cloud.want(describe(small())), wire)
    cloud.report(cloud.want(describe(small(gpu=None, node=1))), wire)
    assert cloud.provider(cloud.root) == before
    assert not [url for method, url in wire.writes if cloud.root in url]


def test_providers_of_nova_and_cyborg_are_left_alone(cloud: Cloud, describe: Describe) -> None:
    desired = cloud.want(describe(small()))
    nova = cloud.create(f"{cloud.name}_0000:81:00.0", cloud.root)
    cloud.set(nova, {"PCI_DEVICE": 1}, ("COMPUTE_MANAGED_PCI_DEVICE",))
    cyborg = cloud.create(f"{cloud.name}_0000:3b:00.0", cloud.root)
    cloud.set(cyborg, {"FPGA": 1}, ("OWNER_CYBORG",))
    before = cloud.provider(nova), cloud.provider(cyborg)
    cloud.report(desired)
    cloud.report(cloud.want(describe(small(gpu=None, vfs=0))))
    assert (cloud.provider(nova), cloud.provider(cyborg)) == before


def test_a_device_that_is_gone_is_emptied_and_kept(cloud: Cloud, describe: Describe) -> None:
    desired = cloud.want(describe(small()))
    gone = uuid_of(desired, "0000:3b:00.0")
    cloud.report(desired)
    report = cloud.report(cloud.want(describe(small(gpu=None))))
    assert cloud.provider(gone)["inventories"] == {}
    assert [(change.action, change.after.uuid) for change in report.changes] == [("-", gone)]


def test_a_device_that_comes_back_is_given_again(cloud: Cloud, describe: Describe) -> None:
    desired = cloud.want(describe(small()))
    cloud.report(desired)
    cloud.report(cloud.want(describe(small(gpu=None))))
    cloud.report(desired)
    assert_is(cloud, desired)


def test_a_device_gone_while_allocated_is_closed_and_emptied_once_it_is_free(cloud: Cloud, describe: Describe) -> None:
    desired, without = cloud.want(describe(small())), cloud.want(describe(small(gpu=None)))
    gone = uuid_of(desired, "0000:3b:00.0")
    cloud.report(desired)
    consumer = cloud.allocate(gone, PGPU=1)
    assert cloud.report(without).failures == {}
    inventory = cloud.provider(gone)["inventories"]["PGPU"]
    assert (inventory["total"], inventory["reserved"]) == (1, 1)
    assert cloud.allocations(consumer) == {gone: {"PGPU": 1}}

    wire = cloud.wire()
    held = cloud.report(without, wire)  # still in use: nothing breaks meanwhile, and nothing is written
    assert (held.failures, held.changes, [one.uuid for one in held.held]) == ({}, [], [gone])
    assert wire.writes == []
    assert cloud.allocations(consumer) == {gone: {"PGPU": 1}}

    cloud.call("DELETE", f"/allocations/{consumer}")
    cloud.report(without)
    assert cloud.provider(gone)["inventories"] == {}
    wire = cloud.wire()
    cloud.report(without, wire)
    assert wire.writes == []


@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 8)])
def test_number_of_vfs_is_followed(cloud: Cloud, describe: Describe, before: int, after: int) -> None:
    desired = cloud.want(describe(small(vfs=before)))
    cloud.report(desired)
    wire = cloud.wire()
    cloud.report(cloud.want(describe(small(vfs=after))), wire)
    pf = cloud.provider(uuid_of(desired, "0000:3c:00.0"))
    assert pf["inventories"]["SRIOV_NET_VF"]["total"] == after
    assert pf["inventories"]["SRIOV_NET_VF"]["max_unit"] == after
    assert len(wire.writes) == 1


def test_vfs_in_use_may_shrink_below_what_is_used(cloud: Cloud, describe: Describe) -> None:
    desired = cloud.want(describe(small(vfs=4)))
    pf = uuid_of(desired, "0000:3c:00.0")
    cloud.report(desired)
    consumer = cloud.allocate(pf, SRIOV_NET_VF=3)
    assert cloud.report(cloud.want(describe(small(vfs=2)))).failures == {}
    assert cloud.provider(pf)["inventories"]["SRIOV_NET_VF"]["total"] == 2
    assert cloud.allocations(consumer) == {pf: {"SRIOV_NET_VF": 3}}


def test_resource_class_changed_while_in_use_keeps_the_old_one_closed(cloud: Cloud, describe: Describe) -> None:
    host = describe(small())
    desired, renamed = cloud.want(host), cloud.want(host, policy(resource_class="CUSTOM_GPU_A100"))
    gpu = uuid_of(desired, "0000:3b:00.0")
    cloud.report(desired)
    consumer = cloud.allocate(gpu, PGPU=1)
    assert cloud.report(renamed).failures == {}
    inventories = cloud.provider(gpu)["inventories"]
    assert {name: (raw["total"], raw["reserved"]) for name, raw in inventories.items()} == {
        "PGPU": (1, 1),
    }
    wire = cloud.wire()
    held = cloud.report(renamed, wire)
    assert (held.failures, held.changes, [one.uuid for one in held.held]) == ({}, [], [gpu])
    assert wire.writes == []
    cloud.call("DELETE", f"/allocations/{consumer}")
    cloud.report(renamed)
    assert_is(cloud, renamed)


def test_traits_that_change_are_replaced(cloud: Cloud, describe: Describe) -> None:
    host = describe(small())
    gold = cloud.want(host, policy(traits=frozenset({"CUSTOM_GOLD"})))
    plain = cloud.want(host, policy())
    cloud.report(gold)
    assert_is(cloud, gold)
    wire = cloud.wire()
    cloud.report(plain, wire)
    assert_is(cloud, plain)
    assert [method for method, _ in wire.writes] == ["PUT"]


def test_traits_of_others_on_our_provider_are_removed(cloud: Cloud, describe: Describe) -> None:
    desired = cloud.want(describe(small()))
    cloud.report(desired)
    cloud.set(uuid_of(desired, "0000:3b:00.0"), {"PGPU": 1}, ("HW_GPU_API_VULKAN",))
    cloud.report(desired)
    assert_is(cloud, desired)


def test_a_provider_that_was_renamed_gets_its_name_back(cloud: Cloud, describe: Describe) -> None:
    desired = cloud.want(describe(small()))
    cloud.report(desired)
    gpu = desired.by_uuid()[uuid_of(desired, "0000:3b:00.0")]
    body = {"name": f"renamed-{cloud.name}", "parent_provider_uuid": gpu.parent}
    cloud.call("PUT", f"/resource_providers/{gpu.uuid}", body)
    cloud.report(desired)
    assert_is(cloud, desired)


def test_a_device_on_another_numa_node_moves_with_its_allocation(cloud: Cloud, describe: Describe) -> None:
    desired, moved = cloud.want(describe(small(node=0))), cloud.want(describe(small(node=1)))
    gpu = uuid_of(desired, "0000:3b:00.0")
    cloud.report(desired)
    consumer = cloud.allocate(gpu, PGPU=1)
    cloud.report(moved)
    tree = cloud.tree()
    assert cloud.provider(gpu)["parent_provider_uuid"] == tree[f"devagent:{cloud.name}:numa1"]["uuid"]
    assert cloud.allocations(consumer) == {gpu: {"PGPU": 1}}


def test_a_provider_deleted_behind_our_back_is_made_again(cloud: Cloud, describe: Describe) -> None:
    desired = cloud.want(describe(small()))
    cloud.report(desired)
    cloud.call("DELETE", f"/resource_providers/{uuid_of(desired, '0000:3b:00.0')}")
    report = cloud.report(desired)
    assert [change.action for change in report.changes] == ["+"]
    assert_is(cloud, desired)


@pytest.mark.parametrize("edit", [{}, {"PGPU": 7}, {"PGPU": 1, "VGPU": 4}])
def test_inventory_edited_by_somebody_else_is_healed(cloud: Cloud, describe: Describe, edit: dict[str, int]) -> None:
    desired = cloud.want(describe(small()))
    cloud.report(desired)
    gpu = desired.by_uuid()[uuid_of(desired, "0000:3b:00.0")]
    cloud.set(gpu.uuid, edit, tuple(gpu.traits))
    cloud.report(desired)
    assert_is(cloud, desired)


def test_a_name_held_elsewhere_fails_by_name_and_the_others_are_reported(cloud: Cloud, describe: Describe) -> None:
    desired = cloud.want(describe(small()))
    taken = f"devagent:{cloud.name}:0000:3b:00.0"
    holder = cloud.create(taken, None)
    report = cloud.report(desired)
    assert list(report.failures) == [taken]
    message = str(report.failures[taken])
    assert f"the provider {holder} of another compute node" in message
    assert message.endswith(f"openstack resource provider delete {holder}")
    assert set(cloud.ours()) == set(desired.by_uuid()) - {uuid_of(desired, "0000:3b:00.0")}
    assert cloud.provider(holder)["inventories"] == {}


def test_children_of_a_provider_that_cannot_be_made_wait(cloud: Cloud, describe: Describe) -> None:
    desired = cloud.want(describe(small()))
    cloud.create(f"devagent:{cloud.name}:numa0", None)
    report = cloud.report(desired)
    assert set(report.failures) == {provider.name for provider in desired.providers}
    assert cloud.ours() == {}


def test_flat_puts_devices_directly_below_the_compute_node(cloud: Cloud, describe: Describe) -> None:
    desired = cloud.want(describe(small()), nest=Nest.FLAT)
    assert cloud.report(desired).failures == {}
    assert_is(cloud, desired)
    assert {provider.parent for provider in cloud.ours().values()} == {cloud.root}


def test_gpu_and_vf_below_one_switch_can_be_asked_for(cloud: Cloud, hosts: dict[str, Path]) -> None:
    desired = cloud.want(hosts["gpu8"], nest=Nest.PCIE)
    assert cloud.report(desired).failures == {}
    query = (
        "resources_GPU=PGPU:1&resources_VF=SRIOV_NET_VF:1&required_SW=CUSTOM_DEVAGENT_PCIE_SWITCH"
        f"&same_subtree=_SW,_GPU,_VF&group_policy=none&in_tree_GPU={cloud.root}&in_tree_VF={cloud.root}"
    )
    found = cloud.call("GET", f"/allocation_candidates?{query}")["allocation_requests"]
    names = {provider.uuid: provider.name.removeprefix(f"devagent:{cloud.name}:") for provider in desired.providers}
    switches = [names[uid] for candidate in found for uid in candidate["mappings"]["_SW"]]
    # Each of the two switches with a NIC has two GPUs and two PFs below it.
    assert sorted(switches) == ["pcie-0000:17:00.0"] * 4 + ["pcie-0000:86:00.0"] * 4


@pytest.mark.parametrize(("one", "other"), [(Nest.NUMA, Nest.FLAT), (Nest.FLAT, Nest.PCIE), (Nest.PCIE, Nest.NUMA)])
def test_a_change_of_nest_moves_the_devices(cloud: Cloud, describe: Describe, one: Nest, other: Nest) -> None:
    host = describe(small())
    cloud.report(cloud.want(host, nest=one))
    desired = cloud.want(host, nest=other)
    assert cloud.report(desired).failures == {}
    ours = cloud.ours()
    assert {uid: ours[uid] for uid in desired.by_uuid()} == desired.by_uuid()
    assert not any(provider.inventories for uid, provider in ours.items() if uid not in desired.by_uuid())
    wire = cloud.wire()
    cloud.report(desired, wire)
    assert wire.writes == []


def test_a_plan_sends_no_write(cloud: Cloud, describe: Describe) -> None:
    wire = cloud.wire()
    desired = cloud.want(describe(small()))
    assert len(reporter(wire).plan(desired).changes) == len(desired.providers)
    assert wire.writes == []


def test_two_hosts_do_not_disturb_each_other(cloud: Cloud, describe: Describe, placement: str) -> None:
    other = Cloud(placement, "6f" + cloud.root[2:], f"other-{cloud.name}")
    other.create(other.name, None, other.root)
    host = describe(small())
    desired, of_other = cloud.want(host), other.want(host)
    assert not set(desired.by_uuid()) & set(of_other.by_uuid())
    assert cloud.report(desired).failures == other.report(of_other).failures == {}
    assert_is(cloud, desired)
    assert_is(other, of_other)


@pytest.mark.parametrize("roles", ["admin,service", "admin"])
def test_no_inventory_is_ever_seen_without_its_traits(cloud: Cloud, describe: Describe, roles: str) -> None:
    """The inventories come last: together, or one by one for whoever may not reshape."""
    wire = cloud.wire(roles)
    desired = cloud.want(describe(small()))
    assert cloud.report(desired, wire).failures == {}
    urls = [url for _, url in wire.writes]
    traits = [urls.index(f"/resource_providers/{uid}/traits") for uid in desired.by_uuid()]
    one_by_one = sorted(f"/resource_providers/{uid}/inventories" for uid in desired.devices)
    reshaper = urls.index("/reshaper")
    assert max(traits) < reshaper
    assert sorted(urls[reshaper + 1 :]) == ([] if "service" in roles else one_by_one)
    assert_is(cloud, desired)


def test_a_pf_given_whole_offers_no_vf_until_it_is_free(cloud: Cloud, describe: Describe) -> None:
    whole = Policy((Rule("nics", Match(vendor=("15b3",)), Mode.WHOLE, "CUSTOM_NIC"),), "test")
    desired, divided = cloud.want(describe(small(vfs=0)), whole), cloud.want(describe(small(vfs=4)))
    pf = uuid_of(desired, "0000:3c:00.0")
    cloud.report(desired)
    consumer = cloud.allocate(pf, CUSTOM_NIC=1)
    for _ in range(2):
        assert cloud.report(divided).failures == {}
        inventories = cloud.provider(pf)["inventories"]
        assert {name: (raw["total"], raw["reserved"]) for name, raw in inventories.items()} == {"CUSTOM_NIC": (1, 1)}
    cloud.call("DELETE", f"/allocations/{consumer}")
    cloud.report(divided)
    assert_is(cloud, divided)


def test_another_model_in_the_slot_takes_the_name(cloud: Cloud, describe: Describe) -> None:
    a100, h100 = cloud.want(describe(small())), cloud.want(describe(small(gpu={**GPU, "id": "10de:2331"})))
    old, new = (uuid_of(tree, "0000:3b:00.0") for tree in (a100, h100))
    cloud.report(a100)
    assert cloud.report(h100).failures == {}
    ours = cloud.ours()
    assert {uid: ours[uid] for uid in h100.by_uuid()} == h100.by_uuid()
    assert (ours[old].name, ours[old].inventories) == (f"{ours[new].name}~{old[:8]}", {})
    assert_settled(cloud, h100)


def test_another_model_never_takes_over_what_is_allocated(cloud: Cloud, describe: Describe) -> None:
    a100, h100 = cloud.want(describe(small())), cloud.want(describe(small(gpu={**GPU, "id": "10de:2331"})))
    old, new = (uuid_of(tree, "0000:3b:00.0") for tree in (a100, h100))
    cloud.report(a100)
    consumer = cloud.allocate(old, PGPU=1)
    assert cloud.report(h100).failures == {}
    assert cloud.allocations(consumer) == {old: {"PGPU": 1}}
    assert cloud.provider(old)["inventories"]["PGPU"]["reserved"] == 1
    assert cloud.provider(new)["inventories"]["PGPU"]["reserved"] == 0
    assert_settled(cloud, h100)
    cloud.call("DELETE", f"/allocations/{consumer}")
    assert cloud.report(h100).failures == {}
    assert cloud.provider(old)["inventories"] == {}
    assert_settled(cloud, h100)


def assert_settled(cloud: Cloud, desired: ProviderTree) -> None:
    """Checks that one more report has nothing to write."""
    wire = cloud.wire()
    assert cloud.report(desired, wire).failures == {}
    assert wire.writes == []


def renamed(tree: ProviderTree, names: dict[str, str]) -> ProviderTree:
    """Gives the tree with other names, by the old ones."""
    return replace(tree, providers=tuple(replace(one, name=names.get(one.name, one.name)) for one in tree.providers))


def test_two_devices_swap_their_addresses(cloud: Cloud, describe: Describe) -> None:
    desired = cloud.want(describe(small()))
    one, other = (desired.by_uuid()[uid].name for uid in desired.devices)
    cloud.report(desired)
    consumer = cloud.allocate(uuid_of(desired, "0000:3b:00.0"), PGPU=1)
    swapped = renamed(desired, {one: other, other: one})
    assert cloud.report(swapped).failures == {}
    assert_is(cloud, swapped)
    assert_settled(cloud, swapped)
    assert cloud.allocations(consumer) == {uuid_of(desired, "0000:3b:00.0"): {"PGPU": 1}}


@pytest.mark.parametrize(("host", "step"), [("gpu8", 1), ("qat", -1)])
def test_all_buses_are_numbered_anew(cloud: Cloud, hosts: dict[str, Path], host: str, step: int) -> None:
    desired = cloud.want(hosts[host])
    names = sorted(desired.by_uuid()[uid].name for uid in desired.devices)[::step]
    cloud.report(desired)
    shifted = renamed(desired, dict(zip(names, [*names[1:], f"devagent:{cloud.name}:0000:ff:00.0"], strict=True)))
    assert cloud.report(shifted).failures == {}
    assert_is(cloud, shifted)
    assert_settled(cloud, shifted)


def identified(desired: ProviderTree, address: str) -> tuple[ProviderTree, str]:
    """Gives the tree in which one device has the same name and model, but another UUID."""
    old, new = uuid_of(desired, address), str(uuid.uuid4())
    providers = tuple(replace(one, uuid=new) if one.uuid == old else one for one in desired.providers)
    devices = {new if uid == old else uid: own for uid, own in desired.devices.items()}
    return replace(desired, providers=providers, devices=devices), new


def test_a_device_identified_anew_keeps_its_consumers(cloud: Cloud, describe: Describe) -> None:
    desired = cloud.want(describe(small()))
    old, pf = uuid_of(desired, "0000:3b:00.0"), uuid_of(desired, "0000:3c:00.0")
    anew, new = identified(desired, "0000:3b:00.0")
    cloud.report(desired)
    consumer = cloud.allocate_all({old: {"PGPU": 1}, pf: {"SRIOV_NET_VF": 2}})
    wire = cloud.wire()
    assert cloud.report(anew, wire).failures == {}
    assert cloud.allocations(consumer) == {new: {"PGPU": 1}, pf: {"SRIOV_NET_VF": 2}}
    ours = cloud.ours()
    assert {uid: ours[uid] for uid in anew.by_uuid()} == anew.by_uuid()
    assert ours[old].inventories == {}
    # All or nothing: neither inventory is ever written but by the one reshape.
    assert wire.writes.count(("POST", "/reshaper")) == 1
    assert not [url for _, url in wire.writes if url.endswith("/inventories")]
    assert_settled(cloud, anew)


def test_without_the_service_role_a_device_in_use_keeps_its_old_identity(cloud: Cloud, describe: Describe) -> None:
    desired = cloud.want(describe(small()))
    old = uuid_of(desired, "0000:3b:00.0")
    anew, new = identified(desired, "0000:3b:00.0")
    cloud.report(desired)
    consumer = cloud.allocate(old, PGPU=1)
    for _ in range(2):
        failures = cloud.report(anew, cloud.wire("admin")).failures
        assert list(failures) == [f"devagent:{cloud.name}:0000:3b:00.0"]
        assert "only the role `service` may carry the allocations over" in str(*failures.values())
        assert cloud.allocations(consumer) == {old: {"PGPU": 1}}
        inventory = cloud.provider(old)["inventories"]["PGPU"]
        assert (inventory["total"], inventory["reserved"]) == (1, 1)
        assert cloud.provider(new)["inventories"] == {}
    cloud.call("DELETE", f"/allocations/{consumer}")
    assert cloud.report(anew, cloud.wire("admin")).failures == {}
    ours = cloud.ours()
    assert {uid: ours[uid] for uid in anew.by_uuid()} == anew.by_uuid()
    assert_settled(cloud, anew)


def test_a_provider_moved_into_another_tree_comes_back(cloud: Cloud, describe: Describe) -> None:
    other = Cloud(cloud.url, str(uuid.uuid4()), f"other-{cloud.name}")
    other.create(other.name, None, other.root)
    desired = cloud.want(describe(small()))
    gpu = desired.by_uuid()[uuid_of(desired, "0000:3b:00.0")]
    cloud.report(desired)
    cloud.call("PUT", f"/resource_providers/{gpu.uuid}", {"name": gpu.name, "parent_provider_uuid": other.root})
    assert cloud.report(desired).failures == {}
    assert_is(cloud, desired)


def test_after_a_restart_one_request_tells_that_nothing_changed(
    cloud: Cloud, hosts: dict[str, Path], tmp_path: Path
) -> None:
    desired, state = cloud.want(hosts["gpu8"]), StateFile(tmp_path)
    first = reporter(cloud.wire())
    first.report(desired)
    state.save(first.memory)
    remembering, forgetful = cloud.wire(), cloud.wire()
    for wire, memory in ((remembering, state.load()), (forgetful, None)):
        again = reporter(wire, memory)
        assert again.report(desired, again.survey(cloud.root, cloud.name)).changes == []
        assert wire.writes == []
    assert len(remembering.sent) == 1
    # The listing, the version, and inventories and traits of each.
    assert len(forgetful.sent) == 2 + 2 * len(desired.providers)


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def test_everything_is_read_anew_once_a_day(cloud: Cloud, describe: Describe) -> None:
    """After 18 to 24 hours, so that hosts that started together do not read together for ever."""
    desired, clock, wire = cloud.want(describe(small())), Clock(), cloud.wire()
    by = reporter(wire, clock=clock)
    requests = []
    for hours in (0, 1, 16, 8, 1):
        clock.now += hours * 3600
        before = len(wire.sent)
        by.report(desired)
        requests.append(len(wire.sent) - before)
    assert requests[1:] == [1, 1, 1 + 2 * len(desired.providers), 1]


def test_a_memory_of_another_compute_node_is_not_trusted(cloud: Cloud, describe: Describe) -> None:
    desired = cloud.want(describe(small()))
    by = reporter(cloud.wire(), Memory(str(uuid.uuid4()), providers={p.uuid: p for p in desired.providers}))
    assert len(by.report(desired).changes) == len(desired.providers)
    assert_is(cloud, desired)
    assert by.memory.root == cloud.root


def test_what_somebody_keeps_undoing_is_left_alone_for_a_while(cloud: Cloud, describe: Describe) -> None:
    desired, clock, wire = cloud.want(describe(small())), Clock(), cloud.wire()
    gpu = desired.by_uuid()[uuid_of(desired, "0000:3b:00.0")]
    by = reporter(wire, clock=clock)
    by.report(desired)
    for _ in range(2):
        cloud.set(gpu.uuid, {"PGPU": 7}, tuple(gpu.traits))
        assert by.report(desired).failures == {}
        assert_is(cloud, desired)

    cloud.set(gpu.uuid, {"PGPU": 7}, tuple(gpu.traits))
    before = len(wire.writes)
    for _ in range(2):
        failures = by.report(desired).failures
        assert "somebody else keeps changing it (3 times in a row)" in str(failures[gpu.name])
        clock.now += 290
    assert len(wire.writes) == before

    clock.now += 30
    assert by.report(desired).failures == {}
    assert_is(cloud, desired)


def test_who_undoes_only_now_and_then_is_overruled_each_time(cloud: Cloud, describe: Describe) -> None:
    desired, by = cloud.want(describe(small())), reporter(cloud.wire())
    gpu = desired.by_uuid()[uuid_of(desired, "0000:3b:00.0")]
    by.report(desired)
    for _ in range(5):
        cloud.set(gpu.uuid, {"PGPU": 7}, tuple(gpu.traits))
        assert by.report(desired).failures == {}
        assert by.report(desired).changes == []
    assert_is(cloud, desired)


def test_the_rest_of_many_changes_waits_for_the_next_cycles(cloud: Cloud, hosts: dict[str, Path]) -> None:
    desired, by = cloud.want(hosts["gpu8"]), reporter(cloud.wire())
    reports = [by.report(desired, most=5) for _ in range(4)]
    assert [(len(report.changes), report.postponed) for report in reports] == [(5, 9), (5, 4), (4, 0), (0, 0)]
    assert [report.failures for report in reports] == [{}] * 4
    assert_is(cloud, desired)


def test_progress_is_told_for_each_provider_and_each_change_when_it_is_whole(
    cloud: Cloud, hosts: dict[str, Path]
) -> None:
    steps: list[tuple[int, int]] = []
    done: list[str] = []
    desired = cloud.want(hosts["gpu8"])
    reporter(cloud.wire()).report(
        desired, done=lambda change: done.append(change.after.uuid), step=lambda *numbers: steps.append(numbers)
    )
    assert steps == [(number, 14) for number in range(1, 15)]
    assert sorted(done) == sorted(desired.by_uuid())


@pytest.fixture
def purged(cloud: Cloud, describe: Describe) -> Callable[[bool], tuple[ProviderTree, Provider]]:
    """Reports a host, then one without GPU, which moves to another node; optionally the GPU is in use."""

    def prepare(used: bool) -> tuple[ProviderTree, Provider]:
        desired, without = cloud.want(describe(small())), cloud.want(describe(small(gpu=None, node=1)))
        gpu = desired.by_uuid()[uuid_of(desired, "0000:3b:00.0")]
        cloud.report(desired)
        if used:
            cloud.allocate(gpu.uuid, PGPU=1)
        cloud.report(without)
        return without, gpu

    return prepare


def test_a_purge_deletes_what_is_gone_leaves_first(
    cloud: Cloud, purged: Callable[[bool], tuple[ProviderTree, Provider]]
) -> None:
    without, gpu = purged(False)
    by = reporter(cloud.wire())
    report = by.purge(without)
    assert [change.after.name for change in report.changes] == [gpu.name, f"devagent:{cloud.name}:numa0"]
    assert report.failures == {}
    assert_is(cloud, without)


def test_a_purge_leaves_what_is_in_use_and_what_it_stands_below(
    cloud: Cloud, purged: Callable[[bool], tuple[ProviderTree, Provider]]
) -> None:
    without, gpu = purged(True)
    report = reporter(cloud.wire()).purge(without)
    assert report.changes == []
    assert list(report.failures) == [gpu.name, f"devagent:{cloud.name}:numa0"]
    assert gpu.uuid in cloud.ours()
