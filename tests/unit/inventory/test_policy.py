# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The first rule that matches a device decides how it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from os_traits import normalize_name

from devagent.discovery import Discovery
from devagent.inventory.policy import devices, matches, wants
from devagent.model.claim import Kind, Mode, NetFacts, NetInterface
from devagent.model.device import Decision
from devagent.model.gpu import GpuFacts
from devagent.model.health import Health, State
from devagent.model.identity import Identity
from devagent.model.pci import Function, Sriov
from devagent.model.policy import ALL_VFS, Match, Policy, Rule
from devagent.model.snapshot import Snapshot
from devagent.model.user import User

from ..worlds import NIC, claim, decide, function, pf, rule, snapshot


def test_the_first_rule_that_matches_decides() -> None:
    seen = snapshot(function())
    rules = [
        rule(Mode.WHOLE, "other", vendor=("8086",)),
        rule(None, "first", vendor=("10de",)),
        rule(Mode.WHOLE, "second", vendor=("10de",)),
    ]
    assert decide(seen, *rules)["0000:3b:00.0"].decision.rule == "first"
    assert decide(seen, *reversed(rules))["0000:3b:00.0"].decision.rule == "second"


def test_a_device_that_no_rule_matches_is_listed_and_left_alone() -> None:
    decision = decide(snapshot(function()), rule(vendor=("8086",)))["0000:3b:00.0"].decision
    assert (decision.managed, decision.reason, decision.rule) == (False, "no rule matches", None)


def test_of_a_pf_without_vfs_that_no_rule_matches_it_is_said_how_it_comes_to_have_some() -> None:
    nic = function(ids="15b3:101d", class_code=NIC, sriov=Sriov(8))
    claims = [replace(claim(nic, Kind.NIC), offers={Mode.VF: "SRIOV_NET_VF"})]
    decision = decide(snapshot(nic), rule(vendor=("8086",)), claims=claims)["0000:3b:00.0"].decision
    assert decision.reason == "no rule matches (vf_count makes VFs)"


def test_ignore_leaves_a_device_alone_and_names_the_rule() -> None:
    decision = decide(snapshot(function()), rule(None, "mine"))["0000:3b:00.0"].decision
    assert (decision.managed, decision.reason, decision.rule) == (False, "rule mine ignores it", "mine")


NIC_PF = pf(1, driver="mlx5_core", numa_node=1)[0]
NIC_CLAIM = claim(NIC_PF, Kind.NIC, net=NetFacts((NetInterface("ens1f0np0"), NetInterface("ens1f0r0"))))


@pytest.mark.parametrize(
    ("fits", "misses"),
    [
        ({"kind": (Kind.GPU, Kind.NIC)}, {"kind": (Kind.GPU,)}),
        ({"vendor": ("8086", "15b3")}, {"vendor": ("8086",)}),
        ({"device": ("101d",)}, {"device": ("101e",)}),
        ({"class_code": ("02",)}, {"class_code": ("03",)}),
        ({"class_code": ("0200",)}, {"class_code": ("0207",)}),
        ({"class_code": ("020000",)}, {"class_code": ("020001",)}),
        ({"address": ("0000:3b:*",)}, {"address": ("0000:3c:*",)}),
        ({"address": ("0000:3b:00.[01]",)}, {"address": ("3b:00.0",)}),
        ({"slot": ("0000:3b:00",)}, {"slot": ("0000:3b:00.0",)}),
        ({"slot": ("0000:3?:*",)}, {"slot": ("0000:3b:01",)}),
        ({"driver": ("mlx*",)}, {"driver": ("vfio-pci",)}),
        ({"interface": ("ens1f?r0",)}, {"interface": ("ens2*",)}),
        ({"numa_node": (0, 1)}, {"numa_node": (0,)}),
        ({"vfs": True}, {"vfs": False}),
        ({}, {"vendor": ("15b3",), "device": ("ffff",)}),
    ],
)
def test_a_selector_fits_or_not(fits: dict[str, Any], misses: dict[str, Any]) -> None:
    assert matches(Match(**fits), NIC_PF, NIC_CLAIM)
    assert not matches(Match(**misses), NIC_PF, NIC_CLAIM)


TELLING = function(attributes={"serials/dsn": "b8-ce-f6-ff-ff-12-34-56", "serials/vpd": "MCX623106:MT2113X07654"})
SAID = claim(
    TELLING,
    identities=(Identity("mac", "b8:ce:f6:12:34:56"),),
    gpu=GpuFacts(uuid="GPU-1b4e28ba", serial="1321020012345"),
)


@pytest.mark.parametrize(
    "pattern",
    ["b8:ce:f6:*", "b8-ce-f6-ff-ff-12-34-56", "MCX623106:*", "MT2113X07654", "1321020012345", "GPU-*", "xmc-7"],
)
def test_a_serial_is_whatever_the_vendor_gave_for_good(pattern: str) -> None:
    settled = Identity("xrt", "xmc-7")
    assert matches(Match(serial=("no", pattern)), TELLING, SAID, settled)
    for place in ("topology", "address"):
        assert not matches(Match(serial=("no", pattern)), function(), claim(function()), Identity(place, pattern))


def test_a_serial_number_is_what_stands_behind_the_last_colon() -> None:
    one = function(attributes={"serials/vpd": "MCX:623106:MT1"})
    assert matches(Match(serial=("MT1",)), one, claim(one))
    assert not matches(Match(serial=("MCX", "623106", "623106:MT1")), one, claim(one))


def test_a_rule_keeps_a_device_that_tells_its_serial_no_longer() -> None:
    """On a VFIO driver a NIC has no interface and so no MAC address."""
    seen, bare = snapshot(function(driver="vfio-pci")), claim(function())
    settled = {"0000:3b:00.0": Identity("mac", "b8:ce:f6:12:34:56")}
    policy = Policy((rule(serial=("b8:ce:f6:*",)),), "test")
    (device,) = devices(seen, {bare.address: bare}, policy, settled)
    assert device.decision.rule == "r"


def test_a_serial_number_makes_the_details_of_an_unknown_device_wanted() -> None:
    policy = Policy((rule(serial=("MT2113X07654",)),), "test")
    assert wants(policy, function(ids="abcd:0001"))
    assert not wants(Policy((rule(serial=("x",), slot=("0000:ff:00",)),), "test"), function(ids="abcd:0001"))


def test_details_are_wanted_of_what_any_rule_may_give_wherever_it_sits() -> None:
    unknown, vendor = function(ids="abcd:0001", numa_node=None), ("abcd",)
    assert wants(Policy((rule(vendor=("8086",)), rule(numa_node=(1,), vendor=vendor)), "test"), unknown)
    assert not wants(Policy((rule(None, vendor=vendor), rule(vendor=("8086",))), "test"), unknown)


def test_a_device_on_which_no_look_has_settled_is_what_it_tells_now() -> None:
    said = claim(function(), identities=(Identity("nvml", "GPU-1"),))
    assert decide(snapshot(function()), rule(), claims=[said])["0000:3b:00.0"].identity == Identity("nvml", "GPU-1")


@pytest.mark.parametrize(
    ("name", "trait"),
    [
        ("physnet1", "CUSTOM_PHYSNET_PHYSNET1"),
        ("dc-1.blue__2", "CUSTOM_PHYSNET_DC_1_BLUE_2"),
        ("_a-", "CUSTOM_PHYSNET_A_"),
    ],
)
def test_a_physical_network_is_a_trait_as_neutron_spells_it(name: str, trait: str) -> None:
    network: dict[str, Any] = {"physical_network": name, "traits": frozenset({"CUSTOM_GOLD"})}
    for mode, functions in ((Mode.WHOLE, [function()]), (Mode.VF, pf(1))):
        device = decide(snapshot(*functions), rule(mode, **network))["0000:3b:00.0"]
        assert device.decision.traits == {"CUSTOM_GOLD", trait}
        assert device.physical_network == name
    assert normalize_name(f"PHYSNET_{name}") == trait


def test_a_pf_without_vfs_has_none_whatever_it_could_have() -> None:
    none = pf(0)[0]
    assert matches(Match(vfs=False), none, claim(none))
    assert not matches(Match(vfs=True), none, claim(none))


def test_a_device_is_as_well_as_the_look_says() -> None:
    narrow = function(attributes={"current_link_width": "8", "max_link_width": "16"})
    health = decide(snapshot(narrow))["0000:3b:00.0"].health
    assert health == Health(State.SUSPECT, ("its PCIe link has 8 of 16 lanes",))


def test_what_is_unknown_fits_no_selector() -> None:
    bare = function(numa_node=None, driver=None)
    assert not matches(Match(numa_node=(0,)), bare, claim(bare))
    assert not matches(Match(driver=("?*",)), bare, claim(bare))
    assert not matches(Match(interface=("*",)), bare, claim(bare))
    assert not matches(Match(vfs=True), bare, claim(bare))


def test_the_drivers_class_is_taken_unless_the_rule_has_its_own() -> None:
    seen = snapshot(function())
    assert decide(seen, rule())["0000:3b:00.0"].decision.resource_class == "PGPU"
    own = rule(resource_class="CUSTOM_GPU_A100", traits=frozenset({"CUSTOM_GOLD"}))
    decision = decide(seen, own)["0000:3b:00.0"].decision
    assert (decision.resource_class, decision.traits) == ("CUSTOM_GPU_A100", frozenset({"CUSTOM_GOLD"}))


def test_only_the_chosen_vf_indexes_are_given() -> None:
    decision = decide(snapshot(*pf(6)), rule(Mode.VF, vf_indexes=frozenset({0, 1, 5, 40})))["0000:3b:00.0"].decision
    assert (decision.total, decision.reason) == (3, "3 of 6 VFs given")


def test_every_vf_is_given_without_vf_indexes() -> None:
    decision = decide(snapshot(*pf(6)), rule(Mode.VF))["0000:3b:00.0"].decision
    assert (decision.total, decision.resource_class, decision.mode) == (6, "CUSTOM_VF", Mode.VF)


def test_another_number_of_vfs_than_wanted_is_said() -> None:
    decision = decide(snapshot(*pf(6)), rule(Mode.VF, vf_count=8))["0000:3b:00.0"].decision
    assert decision.reason == "6 of 6 VFs given; the rule wants 8 (the agent makes them)"
    assert decide(snapshot(*pf(6)), rule(Mode.VF, vf_count=6))["0000:3b:00.0"].decision.reason == "6 of 6 VFs given"


def test_all_vfs_are_as_many_as_the_device_can_have() -> None:
    decision = decide(snapshot(*pf(6)), rule(Mode.VF, vf_count=ALL_VFS))["0000:3b:00.0"].decision
    assert decision.reason == "6 of 6 VFs given; the rule wants 8 (the agent makes them)"


def test_a_pf_whose_vfs_are_yet_to_be_made_gives_none() -> None:
    decision = decide(snapshot(*pf(0)), rule(Mode.VF, vf_count=8))["0000:3b:00.0"].decision
    assert decision.managed
    assert (decision.total, decision.reason) == (0, "no VFs exist; the rule wants 8 (the agent makes them)")


def test_a_refusal_of_the_driver_is_the_reason() -> None:
    refusing = claim(function(), offers={Mode.WHOLE: "PGPU"}, refusals={Mode.VF: "needs a vGPU type"})
    decision = decide(snapshot(function()), rule(Mode.VF), claims=[refusing])["0000:3b:00.0"].decision
    assert (decision.managed, decision.reason) == (False, "needs a vGPU type")


def test_a_rules_class_does_not_overrule_what_the_driver_refuses() -> None:
    refusing = claim(function(), offers={}, refusals={Mode.WHOLE: "stays with the host"})
    decision = decide(snapshot(function()), rule(resource_class="CUSTOM_X"), claims=[refusing])["0000:3b:00.0"].decision
    assert (decision.managed, decision.reason) == (False, "stays with the host")


@pytest.mark.parametrize(
    ("offers", "reason"),
    [
        ({}, "driver fake offers nothing, not vf"),
        ({Mode.WHOLE: "PGPU"}, "driver fake offers whole, not vf"),
    ],
)
def test_what_the_driver_does_not_offer_is_said(offers: dict[Mode, str], reason: str) -> None:
    silent = claim(function(), offers=offers)
    assert decide(snapshot(function()), rule(Mode.VF), claims=[silent])["0000:3b:00.0"].decision.reason == reason


def test_an_unknown_device_is_given_by_its_ids() -> None:
    seen = snapshot(function(ids="abcd:0123", class_code="ff0000"))
    device = decide(seen, rule(vendor=("abcd",), device=("0123",)), claims=[])["0000:3b:00.0"]
    assert (device.claim.kind, device.decision.resource_class) == (Kind.OTHER, "CUSTOM_PCI_ABCD_0123")
    assert device.decision.managed


def test_an_unknown_device_is_not_listed_unless_a_rule_wants_it() -> None:
    seen = snapshot(function(ids="abcd:0123"))
    assert decide(seen, claims=[]) == {}
    assert decide(seen, rule(None), claims=[]) == {}
    assert list(decide(seen, claims=[], every=True)) == ["0000:3b:00.0"]


def test_an_unknown_display_is_no_gpu_to_a_rule() -> None:
    seen = snapshot(function(ids="1a03:2000", class_code="030000"))
    assert decide(seen, rule(kind=(Kind.GPU,)), claims=[]) == {}


def test_a_vf_is_never_a_device() -> None:
    assert list(decide(snapshot(*pf(4)), rule(), every=True)) == ["0000:3b:00.0"]


def test_a_bridge_is_never_a_device() -> None:
    seen = snapshot(function("0000:3a:01.0", "8086:352a", "060400"), function())
    assert list(decide(seen, rule(), claims=[], every=True)) == ["0000:3b:00.0"]


def test_the_identity_leaves_out_the_bus_numbers_below_the_root() -> None:
    one = function(pcie_path=("0000:3a:01.0", "0000:3b:00.0", "0000:3c:02.0"), address="0000:3d:00.0")
    other = function(pcie_path=("0000:3a:01.0", "0000:40:00.0", "0000:41:02.0"), address="0000:42:00.0")
    identities = [device.identity for each in (one, other) for device in decide(snapshot(each)).values()]
    assert identities == [Identity("topology", "pci0000:3a/01.0/00.0/02.0/00.0")] * 2


def test_without_a_path_the_address_is_the_identity() -> None:
    seen = snapshot(function(root_bus=None, pcie_path=()))
    assert decide(seen)["0000:3b:00.0"].identity == Identity("address", "0000:3b:00.0")


def test_a_nic_is_not_given_by_a_rule_for_gpus() -> None:
    nic = function(ids="15b3:101d", class_code=NIC)
    decision = decide(snapshot(nic), rule(kind=(Kind.GPU,)), claims=[claim(nic, Kind.NIC)])["0000:3b:00.0"].decision
    assert decision.reason == "no rule matches"


MANAGED = {
    "gpu8": {
        "PGPU": 8,
        "SRIOV_NET_VF": 4,
    },
    "fpga": {"FPGA": 3, "CUSTOM_FPGA_VF": 1},
    "qat": {"CUSTOM_QAT_VF": 2},
    "vm": {},
}


@pytest.mark.parametrize("name", MANAGED)
def test_the_built_in_policy_on_the_described_hosts(discovery: Callable[[str], Discovery], name: str) -> None:
    counts: dict[str, int] = {}
    for device in discovery(name).devices:
        if device.decision.resource_class:
            counts[device.decision.resource_class] = counts.get(device.decision.resource_class, 0) + 1
    assert counts == MANAGED[name]


@pytest.mark.parametrize(
    ("kind", "given"),
    [(kind, kind in (Kind.GPU, Kind.QAT, Kind.ACCELERATOR)) for kind in Kind],
)
def test_where_the_hosts_own_use_is_unknown_only_what_it_could_use_so_is(kind: Kind, given: bool) -> None:
    """A ZFS root, whose disks nothing tells, is no reason to take a host's GPUs away."""
    one = function()
    seen = replace(snapshot(one), host_use_known=False)
    decision = decide(seen, rule(), claims=[claim(one, kind)])[one.address].decision
    assert (decision.managed, decision.unknown) == (given, not given)


def decided(of: Function, by: Rule | None, *, seen: Snapshot | None = None, **said: Any) -> Decision:
    """Gives what is decided about one function, of which a driver says so much."""
    rules = [by] if by is not None else []
    return decide(seen or snapshot(of), *rules, claims=[claim(of, **said)])[of.address].decision


@pytest.mark.parametrize(
    "name", ["path", "iommu_group", "boot_vga", "physfn", "sriov_totalvfs", "virtfn", "nvml", "driver"]
)
def test_what_decides_whether_and_how_a_device_is_given_must_be_known(name: str) -> None:
    reason = f"unknown: {name} could not be read; what was reported of it stays"
    assert decided(function(unread=frozenset({name})), rule()) == Decision(False, reason, unknown=True)


def test_what_only_tells_more_of_a_device_may_be_unread() -> None:
    assert decided(function(unread=frozenset({"numa_node", "current_link_width"})), rule()).managed
    several = function(unread=frozenset({"virtfn", "numa_node", "boot_vga"}))
    assert decided(several, rule()).reason.startswith("unknown: boot_vga, virtfn could not be read")


def test_a_device_that_its_driver_could_not_tell_is_unknown() -> None:
    failed = decided(function(), rule(), failure="the driver nvidia did not answer within 30 s")
    assert failed == Decision(False, "unknown: the driver nvidia did not answer within 30 s", unknown=True)


def test_files_about_vgpus_matter_only_to_a_rule_that_makes_some() -> None:
    gpu = function(unread=frozenset({"virtfn1/nvidia/creatable_vgpu_types", "virtfn0/nvidia/current_vgpu_type"}))
    what = "virtfn0/nvidia/current_vgpu_type, virtfn1/nvidia/creatable_vgpu_types"
    reason = f"unknown: {what} could not be read; what was reported of it stays"
    assert decided(gpu, rule(Mode.VGPU)) == Decision(False, reason, "r", unknown=True)
    assert decided(gpu, rule(Mode.WHOLE)).managed


def test_the_rule_is_named_where_the_hosts_own_use_is_unknown() -> None:
    seen = replace(snapshot(NIC_PF), host_use_known=False)
    reason = "unknown: what the host itself uses could not be read; what was reported of it stays"
    assert decided(NIC_PF, rule(), seen=seen, kind=Kind.NIC) == Decision(False, reason, "r", unknown=True)


@pytest.mark.parametrize(
    ("by", "reason"),
    [
        (rule(Mode.VGPU, vf_count=ALL_VFS), "the host has no IOMMU in use"),
        (rule(Mode.VGPU), "makes no vGPUs on VFs now: its vGPU driver must be loaded and"),
        (rule(Mode.MDEV), "makes no mediated devices now: its vGPU driver must be loaded and"),
        (rule(Mode.VF, vf_count=8), "driver fake offers whole, not vf"),
    ],
)
def test_a_guard_speaks_first_only_where_vfs_are_to_be_made_for_vgpus(by: Rule, reason: str) -> None:
    found = decided(function(), by, seen=snapshot(function(), iommu=False), offers={Mode.WHOLE: "PGPU"})
    assert (found.managed, found.rule) == (False, "r")
    assert found.reason.startswith(reason)
    assert found.mode is (by.mode if "IOMMU" in reason else None)


def test_what_is_no_gpu_makes_no_vgpus_for_want_of_nvidias_driver() -> None:
    offers = {Mode.WHOLE: "CUSTOM_A", Mode.VF: "CUSTOM_B"}
    assert decided(function(), rule(Mode.MDEV), kind=Kind.QAT, offers=offers).reason == (
        "driver fake offers whole or vf, not mdev"
    )


@pytest.mark.parametrize(
    ("of", "offers"),
    [
        (pf(2)[0], {Mode.VF: "C"}),
        (pf(0, total=0)[0], {Mode.VF: "C"}),
        (pf(0)[0], {Mode.WHOLE: "C"}),
        (function(), {Mode.VF: "C"}),
    ],
    ids=["it has VFs", "it can have none", "its driver offers none", "it is no PF"],
)
def test_only_of_a_pf_that_could_have_vfs_it_is_said_how_to_make_them(of: Function, offers: dict[Mode, str]) -> None:
    assert decided(of, None, offers=offers).reason == "no rule matches"


def test_a_device_that_no_driver_knows_is_called_by_its_ids() -> None:
    seen = snapshot(function(ids="abcd:0123", class_code="ff0000"))
    said = decide(seen, claims=[], every=True)["0000:3b:00.0"].claim
    assert (said.driver, said.vendor, said.model) == ("none", "abcd", "[0123] class ff0000")


def test_a_device_has_with_it_who_uses_it_and_its_vfs() -> None:
    main, *vfs = pf(3)
    qemu, tool = User(1, "qemu", "/dev/vfio/7"), User(2, "tool", "/dev/x")
    seen = replace(
        snapshot(main, *vfs, host_use={main.address: "default route", vfs[0].address: "port of br0"}),
        users={main.address: (tool,), vfs[2].address: (qemu,)},
    )
    found = decide(seen)[main.address]
    assert (found.in_use_by, found.vf_use) == ("default route", ((0, "port of br0"),))
    assert (found.users, found.vf_users) == ((tool,), ((2, (qemu,)),))
    alone = decide(snapshot(function()))["0000:3b:00.0"]
    assert (alone.in_use_by, alone.vf_use, alone.users, alone.vf_users) == (None, (), (), ())
