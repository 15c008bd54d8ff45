# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The desired tree: what nests below what, what it is called, and what stays the same."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hosts.generate import generate
from hypothesis import given
from hypothesis import strategies as st

from devagent.discovery import Discovery
from devagent.inventory.build import Nest, build, device_uuid, root_uuid
from devagent.model.claim import Mode
from devagent.model.device import Decision, Device, Share
from devagent.model.health import Health, State
from devagent.model.pci import Function
from devagent.model.provider import Inventory, Provider, ProviderTree
from devagent.model.snapshot import HostFacts

from ..custom_names import is_custom
from ..worlds import claim, described, function, look, managed, pf, port

os_traits = pytest.importorskip("os_traits")
os_resource_classes = pytest.importorskip("os_resource_classes")

ROOT = "0c6e1f57-6a3d-4f0b-9a55-2f7d5a3b8e10"
HOSTS = ("gpu8", "fpga", "qat", "vm", "big")
SWITCHED: dict[str, Any] = {"pcie_path": ("0000:3a:01.0", "0000:3b:00.0", "0000:3c:02.0"), "numa_node": 1}


def tree(devices: Iterable[Device], nest: Nest = Nest.NUMA, hostname: str = "h1") -> ProviderTree:
    return build(devices, ROOT, hostname, nest)


def ancestry(built: ProviderTree) -> list[tuple[str, str | None]]:
    """Gives each provider's name with its parent's, the compute node's being `root`."""
    names = {built.root: "root"} | {each.uuid: each.name for each in built.providers}
    return [(each.name, names.get(each.parent or "")) for each in built.providers]


def test_devices_stand_below_their_numa_node() -> None:
    built = tree([managed(function(numa_node=1)), managed(function("0000:3c:00.0", numa_node=0, pcie_path=()))])
    assert ancestry(built) == [
        ("devagent:h1:numa1", "root"),
        ("devagent:h1:0000:3b:00.0", "devagent:h1:numa1"),
        ("devagent:h1:numa0", "root"),
        ("devagent:h1:0000:3c:00.0", "devagent:h1:numa0"),
    ]


def test_a_device_of_no_node_stands_below_the_compute_node() -> None:
    assert ancestry(tree([managed(function(numa_node=None))])) == [("devagent:h1:0000:3b:00.0", "root")]


def test_flat_devices_stand_below_the_compute_node() -> None:
    assert ancestry(tree([managed(function(numa_node=1))], Nest.FLAT)) == [("devagent:h1:0000:3b:00.0", "root")]


def test_a_device_stands_below_its_switchs_upstream_port() -> None:
    assert ancestry(tree([managed(function("0000:3d:00.0", **SWITCHED))], Nest.PCIE)) == [
        ("devagent:h1:numa1", "root"),
        ("devagent:h1:pcie-0000:3b:00.0", "devagent:h1:numa1"),
        ("devagent:h1:0000:3d:00.0", "devagent:h1:pcie-0000:3b:00.0"),
    ]


def test_a_device_without_a_switch_stands_below_its_root_port() -> None:
    assert ancestry(tree([managed(function(numa_node=None))], Nest.PCIE)) == [
        ("devagent:h1:pcie-0000:3a:01.0", "root"),
        ("devagent:h1:0000:3b:00.0", "devagent:h1:pcie-0000:3a:01.0"),
    ]


def test_a_device_whose_root_bus_is_unknown_stands_below_no_switch() -> None:
    assert ancestry(tree([managed(function(root_bus=None, numa_node=None))], Nest.PCIE)) == [
        ("devagent:h1:0000:3b:00.0", "root")
    ]


def test_a_device_on_the_root_bus_stands_below_its_node() -> None:
    integrated = managed(function("0000:3a:02.0", pcie_path=()))
    assert ancestry(tree([integrated], Nest.PCIE)) == [
        ("devagent:h1:numa0", "root"),
        ("devagent:h1:0000:3a:02.0", "devagent:h1:numa0"),
    ]


def test_devices_below_one_switch_share_its_provider(tmp_path: Path) -> None:
    gpu = {"id": "10de:20f1", "class": "030200", "driver": "nvidia"}
    host = described(port(port(port(gpu), port(gpu), id="1000:c030"), at="01.0"), port(port(port(gpu), id="1000:c030")))
    built = tree(look(generate(host, tmp_path / "h")).devices, Nest.PCIE)
    assert [parent for name, parent in ancestry(built) if "pcie" not in name and "numa" not in name] == [
        "devagent:h1:pcie-0000:3b:00.0",
        "devagent:h1:pcie-0000:3b:00.0",
        "devagent:h1:pcie-0000:3f:00.0",
    ]


def test_only_managed_devices_have_a_provider() -> None:
    refused = replace(managed(function()), decision=Decision(False, "no rule matches"))
    assert tree([refused]).providers == ()


def test_what_is_unknown_is_kept_as_it_is() -> None:
    unread = replace(managed(function()), decision=Decision(False, "unknown: nvml could not be read", unknown=True))
    ignored = replace(managed(function("0000:3c:00.0")), decision=Decision(False, "no rule matches"))
    built = build([unread, ignored], ROOT, "Compute-1", unknown=["0000:af:00.0"])
    assert (built.providers, built.devices, built.partial) == ((), {}, False)
    assert built.kept == {"devagent:compute-1:0000:3b:00.0", "devagent:compute-1:0000:af:00.0"}


def test_of_what_was_not_looked_at_whole_all_is_kept() -> None:
    assert build([], ROOT, "h1", complete=False).partial
    assert not build([], ROOT, "h1").partial


@pytest.mark.parametrize(
    ("unread", "undetermined"),
    [
        ((), ()),
        (("numa_node",), ("parent",)),
        (("reset_method",), ("traits",)),
        (("numa_node", "reset_method"), ("parent", "traits")),
    ],
)
def test_what_hangs_on_something_unread_is_undetermined(unread: Iterable[str], undetermined: Iterable[str]) -> None:
    (provider,) = tree([managed(function(unread=frozenset(unread)))], Nest.FLAT).providers
    assert provider.undetermined == frozenset(undetermined)


@pytest.mark.parametrize(
    ("mode", "traits"),
    [
        (Mode.WHOLE, {"CUSTOM_RESET_FLR", "CUSTOM_RESET_BUS"}),
        (Mode.VF, {"CUSTOM_RESET_AF_FLR"}),
        (Mode.MDEV, set[str]()),
        (Mode.VGPU, set[str]()),
    ],
)
def test_the_resets_are_those_of_what_is_given(mode: Mode, traits: set[str]) -> None:
    files = {"reset_method": "bus flr acpi", "virtfn0/reset_method": "af_flr"}
    device = managed(function(attributes=files))
    (provider,) = tree([replace(device, decision=replace(device.decision, mode=mode))], Nest.FLAT).providers
    assert {each for each in provider.traits if each.startswith("CUSTOM_RESET")} == traits


@pytest.mark.parametrize("method", ["flr", "af_flr", "bus", "pm", "device_specific"])
def test_each_reset_that_gives_a_device_back_clean_is_a_trait(method: str) -> None:
    (provider,) = tree([managed(function(attributes={"reset_method": method}))], Nest.FLAT).providers
    assert f"CUSTOM_RESET_{method.upper()}" in provider.traits


def test_a_pfs_provider_stands_for_its_vfs_too() -> None:
    built = tree([managed(pf(2)[0], "SRIOV_NET_VF", 2)], Nest.FLAT)
    assert list(built.devices.values()) == [("0000:3b:00.0", "0000:3b:01.0", "0000:3b:01.1")]


def test_a_class_that_is_closed_in_part_is_closed_by_what_comes_back_too() -> None:
    device = managed(function(numa_node=None))
    shares = (Share("CUSTOM_A", 4, 1), Share("CUSTOM_B", 2), Share("CUSTOM_C", 0))
    device = replace(device, decision=replace(device.decision, shares=shares))
    returning = {device_uuid(ROOT, device): {"CUSTOM_A": 2}}
    (provider,) = build([device], ROOT, "h1", returning=returning).providers
    assert provider.inventories == {"CUSTOM_A": Inventory(4, 3, max_unit=4), "CUSTOM_B": Inventory(2, 0, max_unit=2)}


def test_a_device_brings_its_inventory_and_traits() -> None:
    of = function(attributes={"reset_method": "flr bus acpi"})
    said = claim(of, traits=frozenset({"CUSTOM_MODEL_X"}))
    built = tree([managed(of, "SRIOV_NET_VF", 6, claim=said, traits=frozenset({"CUSTOM_GOLD"}))], Nest.FLAT)
    (provider,) = built.providers
    assert provider.inventories == {"SRIOV_NET_VF": Inventory(total=6, max_unit=6)}
    assert provider.traits == {
        "CUSTOM_DEVAGENT",
        "CUSTOM_VENDOR_NVIDIA",
        "CUSTOM_PRODUCT_10DE_20F1",
        "CUSTOM_MODEL_X",
        "CUSTOM_GOLD",
        "CUSTOM_RESET_FLR",
        "CUSTOM_RESET_BUS",
    }
    assert built.devices == {provider.uuid: ("0000:3b:00.0",)}


def test_a_device_that_can_serve_nobody_has_no_inventory() -> None:
    (provider,) = tree([managed(function(), total=0)], Nest.FLAT).providers
    assert provider.inventories == {}


def test_an_unknown_vendor_is_named_by_its_id() -> None:
    (provider,) = tree([managed(function(ids="abcd:0001"))], Nest.FLAT).providers
    assert "CUSTOM_VENDOR_ABCD" in provider.traits


def test_a_numa_node_and_a_switch_say_what_they_are() -> None:
    node, switch, _ = tree([managed(function())], Nest.PCIE).providers
    assert node.traits == {"CUSTOM_DEVAGENT", "HW_NUMA_ROOT"}
    assert switch.traits == {"CUSTOM_DEVAGENT", "CUSTOM_DEVAGENT_PCIE_SWITCH"}
    assert not node.inventories
    assert not switch.inventories


def test_the_root_is_novas_uuid_or_made_from_the_name() -> None:
    assert root_uuid(HostFacts("a", compute_id=ROOT), "a") == ROOT
    made = root_uuid(HostFacts("a"), "a")
    assert uuid.UUID(made).version == 5
    assert made == root_uuid(HostFacts("other"), "a") != root_uuid(HostFacts("a"), "b")


def changed(of: Function, **more: object) -> tuple[str, str]:
    """Gives the provider's UUID before and after something of the function changes."""
    return device_uuid(ROOT, managed(of)), device_uuid(ROOT, managed(replace(of, **more)))  # type: ignore[arg-type]


def test_the_uuid_outlives_a_change_of_driver() -> None:
    before, after = changed(function(driver="nvidia"), driver="vfio-pci", iommu_group=9, attributes={"a": "b"})
    assert before == after


def test_the_uuid_outlives_new_bus_numbers() -> None:
    of = function("0000:3d:00.0", **SWITCHED)
    before, after = changed(of, address="0000:5d:00.0", pcie_path=("0000:3a:01.0", "0000:50:00.0", "0000:51:02.0"))
    assert before == after


def test_uuids_and_names_are_those_of_every_earlier_version() -> None:
    """Were they others, an upgrade would leave all that consumers have with providers of nobody's."""
    deep = managed(function("0000:3d:00.0", **SWITCHED))
    built = tree([managed(function()), deep], Nest.PCIE)
    assert {provider.name.removeprefix("devagent:h1:"): provider.uuid for provider in built.providers} == {
        "numa0": "d97ba0e0-d85d-5081-be08-1b8a7ceef38c",
        "pcie-0000:3a:01.0": "6970894c-998e-5712-a6d2-7da0cd10dc62",
        "0000:3b:00.0": "7faed8c0-8a37-5c70-a6bd-3ebf6f37c1c0",
        "numa1": "09c9c64d-e17d-586d-86f2-ed8a962d4083",
        "pcie-0000:3b:00.0": "b91f88e8-5220-5b3a-bc3f-abb5a2935077",
        "0000:3d:00.0": "eff0d1cc-a5de-5b0f-bf06-8eff0a7fa10e",
    }
    (long,) = tree([managed(function())], Nest.FLAT, "Compute-1." + "x" * 190).providers
    assert long.name == f"devagent:compute-1.{'x' * 151}~388d377c0270f123:0000:3b:00.0"


def test_another_card_in_the_slot_has_another_uuid() -> None:
    before, after = changed(function(), device_id="2331")
    assert before != after


def test_the_same_card_in_another_slot_has_another_uuid() -> None:
    before, after = changed(function(), pcie_path=("0000:3a:02.0",))
    assert before != after


def test_two_hosts_never_share_a_uuid() -> None:
    one, other = (build([managed(function())], root, "h1", Nest.PCIE) for root in (ROOT, str(uuid.UUID(int=1))))
    assert not one.by_uuid().keys() & other.by_uuid().keys()


def test_a_host_keeps_its_uuids_when_buses_and_drivers_change(tmp_path: Path) -> None:
    card = {"id": "10de:20f1", "class": "030200", "driver": "nvidia"}
    nic = {"id": "8086:1572", "class": "020000", "driver": "i40e"}
    # A bridge with more buses below it takes the numbers that the cards behind it had.
    before = described(port(nic), port(port(port(card), id="1000:c030")), port(card))
    bound = card | {"driver": "vfio-pci"}
    after = described(port(nic, port()), port(port(port(bound), id="1000:c030")), port(bound))
    one, other = (tree(look(generate(host, tmp_path / name)).devices) for name, host in (("a", before), ("b", after)))
    assert sorted(one.devices.values()) != sorted(other.devices.values())
    assert one.devices.keys() == other.devices.keys()
    assert len(one.devices) == 2


@given(
    hostname=st.text(st.sampled_from("abcXYZ019-."), min_size=1, max_size=255),
    nest=st.sampled_from(list(Nest)),
)
def test_names_are_short_lower_case_and_unique(hostname: str, nest: Nest) -> None:
    devices = [
        managed(function(f"0000:3{bus:x}:00.{part}", numa_node=bus, pcie_path=(f"0000:30:0{bus}.0",)))
        for bus in range(4)
        for part in range(8)
    ]
    names = [provider.name for provider in tree(devices, nest, hostname).providers]
    assert len(set(names)) == len(names) >= 32
    assert all(name == name.lower() and name.startswith("devagent:") and len(name) <= 200 for name in names)


def test_hosts_whose_long_names_begin_alike_have_different_names() -> None:
    one, other = ("x" * 250 + end for end in "ab")
    names = [tree([managed(function())], hostname=hostname).providers[-1].name for hostname in (one, other)]
    assert names[0] != names[1]
    assert all(name.endswith(":0000:3b:00.0") and len(name) == 200 for name in names)


def test_a_name_of_200_characters_is_kept_whole() -> None:
    room = 200 - len("devagent::0000:3b:00.0")
    for length, cut in ((room, False), (room + 1, True)):
        name = tree([managed(function())], Nest.FLAT, "x" * length).providers[0].name
        assert (len(name), "~" in name) == (200, cut)


@pytest.fixture(params=HOSTS)
def found(request: pytest.FixtureRequest, discovery: Callable[[str], Discovery]) -> Discovery:
    return discovery(request.param)


@pytest.mark.parametrize("nest", list(Nest))
def test_a_described_hosts_tree_is_one_that_placement_takes(found: Discovery, nest: Nest) -> None:
    built = build(found.devices, ROOT, "h", nest)
    seen = {ROOT}
    for provider in built.providers:
        assert provider.parent in seen, "parents before children"
        assert provider.uuid not in seen
        seen.add(provider.uuid)
        for inventory in provider.inventories.values():
            assert 1 <= inventory.min_unit <= inventory.max_unit <= inventory.total
    assert len({provider.name for provider in built.providers}) == len(built.providers)
    assert set(built.devices) <= seen


def test_standard_names_exist_and_custom_ones_are_well_formed(found: Discovery) -> None:
    providers = [provider for nest in Nest for provider in build(found.devices, ROOT, "h", nest).providers]
    offers = {name for device in found.devices for name in device.claim.offers.values()}
    classes = offers | {name for provider in providers for name in provider.inventories}
    traits = {name for provider in providers for name in provider.traits}
    traits |= {name for device in found.devices for name in device.claim.traits}
    assert {name for name in classes if not is_custom(name)} <= set(os_resource_classes.STANDARDS)
    assert {name for name in traits if not is_custom(name)} <= set(os_traits.get_traits())


def test_what_nova_and_cyborg_own_is_never_said(found: Discovery) -> None:
    providers = build(found.devices, ROOT, "h", Nest.PCIE).providers
    traits = {name for provider in providers for name in provider.traits}
    assert not [name for name in traits if name == "COMPUTE_MANAGED_PCI_DEVICE" or name.startswith("OWNER_")]


def test_each_of_a_described_hosts_devices_has_its_own_uuid(found: Discovery) -> None:
    identities = [device_uuid(ROOT, device) for device in found.devices]
    assert not [pair for pair in combinations(sorted(identities), 2) if pair[0] == pair[1]]


def test_a_pf_has_all_its_vfs_in_one_inventory(discovery: Callable[[str], Discovery]) -> None:
    built = build(discovery("big").devices, ROOT, "big")
    vfs = [provider.inventories["SRIOV_NET_VF"].total for provider in built.providers if is_nic(provider)]
    assert vfs == [252] * 16


def is_nic(provider: Provider) -> bool:
    return "HW_NIC_SRIOV" in provider.traits


def told(device: Device, state: State, *reasons: str) -> Provider:
    """Gives the provider of a device that is in this state."""
    return tree([replace(device, health=Health(state, reasons))], Nest.FLAT).providers[0]


@pytest.mark.parametrize(
    ("state", "reserved", "trait"),
    [
        (State.UNHEALTHY, 1, "CUSTOM_DEVAGENT_UNHEALTHY"),
        (State.LOST, 1, "CUSTOM_DEVAGENT_LOST"),
        (State.SUSPECT, 0, "CUSTOM_DEVAGENT_SUSPECT"),
        (State.UNMONITORED, 0, "CUSTOM_DEVAGENT_UNMONITORED"),
    ],
)
def test_a_sick_device_says_so_and_is_closed_where_it_must_not_be_given(
    state: State, reserved: int, trait: str
) -> None:
    well, sick = told(managed(function()), State.HEALTHY), told(managed(function()), state, "a reason")
    assert sick.traits - well.traits == {trait}
    assert sick.inventories == {"PGPU": Inventory(1, reserved, max_unit=1)}


@pytest.mark.parametrize("health", [Health(), Health(State.HEALTHY), Health(State.HEALTHY, ("set by hand",))])
def test_a_device_that_is_well_or_was_never_watched_says_nothing(health: Health) -> None:
    plain = tree([managed(function())], Nest.FLAT)
    assert tree([replace(managed(function()), health=health)], Nest.FLAT) == plain


@pytest.mark.parametrize("state", [State.UNHEALTHY, State.LOST])
def test_the_vfs_of_a_closed_pf_are_closed_with_it(state: State) -> None:
    nic = managed(pf(8)[0], "SRIOV_NET_VF", 8)
    assert told(nic, state, "a reason").inventories == {"SRIOV_NET_VF": Inventory(8, 8, max_unit=8)}


@pytest.mark.parametrize("resource_class", ["VGPU", "CUSTOM_MIG_1G_10GB"])
def test_the_parts_of_a_closed_gpu_are_closed_with_it(resource_class: str) -> None:
    divided = managed(function(), resource_class, 7)
    assert told(divided, State.UNHEALTHY, "a reason").inventories[resource_class].reserved == 7


def test_a_vf_rule_gives_the_number_of_vfs(discovery: Callable[[str], Discovery]) -> None:
    given_by_vfs = [device for device in discovery("qat").devices if device.decision.mode is Mode.VF]
    built = build(given_by_vfs, ROOT, "qat", Nest.FLAT)
    assert [provider.inventories for provider in built.providers] == [{"CUSTOM_QAT_VF": Inventory(16, max_unit=16)}] * 2


@pytest.mark.parametrize(("returning", "reserved"), [(0, 0), (3, 3), (8, 8), (9, 8)])
def test_what_is_being_brought_back_is_reserved_and_never_more_than_there_is(returning: int, reserved: int) -> None:
    device = managed(function(numa_node=None), "SRIOV_NET_VF", 8)
    uid = device_uuid(ROOT, device)
    built = build([device], ROOT, "h1", returning={uid: {"SRIOV_NET_VF": returning, "PGPU": 1}})
    assert built.by_uuid()[uid].inventories == {"SRIOV_NET_VF": Inventory(8, reserved, max_unit=8)}
