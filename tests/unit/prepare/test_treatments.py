# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""How the policy's words become the treatment of each device."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest

from devagent.inventory import policy_file
from devagent.inventory.policy import devices
from devagent.model.claim import Claim, Mode
from devagent.model.device import Decision, Device, Share
from devagent.model.handle import MdevHandle
from devagent.model.identity import Identity
from devagent.model.policy import Policy, Prepare, Rule
from devagent.prepare.treatment import Reset, Scrub, Treatment, wiped
from devagent.prepare.treatments import treatment, treatments, vetoes

from ..worlds import claim, decide, function, pf, rule, snapshot
from .scenes import ALICE, L40S, T4, Machine, on_bus

GPU = "0000:3b:00.0"
BLANK = "sha256:" + "0a" * 32
TYPES = "NVIDIA L40S-8Q"


def judged(found: tuple[Device, ...], policy: Policy) -> tuple[Device, ...]:
    """Gives the same devices as this policy decides about them."""
    functions = {each.address: each.function for each in found}
    vfs = [function(vf.address, physfn=each.address, iommu_group=vf.iommu_group) for each in found for vf in each.vfs]
    claims: dict[str, Claim] = {each.address: each.claim for each in found if each.claim.driver != "none"}
    return devices(snapshot(*functions.values(), *vfs), claims, policy, every=True)


def machine(device: Any, *rules: Rule) -> Machine:
    """Gives the host of a device as a policy treats it."""
    policy = Policy(rules, "test")
    found = judged(on_bus(device), policy)
    return Machine(found, treatments(found, policy))


def test_a_rule_without_prepare_is_treated_as_its_mode_alone_would_be() -> None:
    for mode in Mode:
        assert treatment(rule(mode)) == Treatment(mode)


def test_every_word_of_a_rule_counts() -> None:
    prepare = Prepare("mlx5_vfio_pci", True, "required", "fpga-blank", BLANK)
    said = rule(Mode.VF, vf_indexes=frozenset({0, 3}), prepare=prepare)
    assert treatment(said) == Treatment(
        Mode.VF, "mlx5_vfio_pci", True, Reset.REQUIRED, Scrub.FPGA_BLANK, "0a" * 32, vf_indexes=frozenset({0, 3})
    )


def test_what_was_to_be_wiped_when_it_was_given_is_wiped_and_the_policy_may_say_anew_how() -> None:
    then = Treatment(Mode.WHOLE, scrub=Scrub.FPGA_BLANK, blank="0a" * 32)
    assert then.wipe == {"how": "fpga-blank", "image": "0a" * 32}
    assert wiped(Treatment(Mode.WHOLE, keep=True), then.wipe) == replace(then, keep=True)
    now = Treatment(Mode.WHOLE, scrub=Scrub.GPU_RESET)
    assert wiped(now, then.wipe) == now
    assert Treatment(Mode.WHOLE).wipe is None


def test_every_word_that_the_policy_knows_has_a_meaning() -> None:
    words = policy_file.schema()["$defs"]["prepare"]["properties"]
    assert set(words) == set(Prepare.__dataclass_fields__)
    assert set(words["reset"]["enum"]) == {each.value for each in Reset}
    assert set(words["scrub"]["enum"]) == {each.value for each in Scrub}
    modes = {*policy_file.schema()["$defs"]["rule"]["properties"]["mode"]["enum"]} - {"ignore"}
    assert modes == {each.value for each in Mode}


def test_only_what_is_given_can_be_planned_for_a_consumer() -> None:
    """A device with a treatment is one that the planner gives away."""
    keeping = rule(prepare=Prepare(keep=True))
    ignored = rule(None, "no", device=("20b5",))
    held = function("0000:3c:00.0", ids="10de:20b5", iommu_group=8)
    used = function("0000:3d:00.0", iommu_group=9)
    policy = Policy((ignored, keeping), "test")
    seen = snapshot(function(), held, used, host_use={used.address: "the console"})
    found = decide(seen, *policy.rules).values()
    assert treatments(found, policy) == {GPU: Treatment(Mode.WHOLE, keep=True)}
    assert treatments(found, policy, given=False).keys() == {GPU, used.address}


def test_what_nova_gives_is_treated_as_its_rule_says_and_what_no_rule_wants_not_at_all() -> None:
    mine = rule(Mode.VF, prepare=Prepare(keep=True), address=(GPU,))
    seen = snapshot(*pf(2), function("0000:5e:00.0", iommu_group=99))
    found = decide(seen, mine, every=True)
    novas = replace(found[GPU], decision=replace(found[GPU].decision, managed=False, owner="nova"))
    for given in (True, False):
        treated = treatments([novas, found["0000:5e:00.0"]], Policy((mine,), "test"), given=given)
        assert treated == {GPU: Treatment(Mode.VF, keep=True)}


def test_a_rule_for_a_serial_number_treats_the_device_that_was_known_by_it() -> None:
    """Which it does not tell while it is with a guest."""
    mine = rule(prepare=Prepare(keep=True), serial=("S4EVNX0M",))
    (device,) = decide(snapshot(function()), rule()).values()
    known = replace(device, identity=Identity("nvme", "S4EVNX0M"))
    assert treatments([known], Policy((mine,), "test")).keys() == {GPU}
    assert treatments([device], Policy((mine,), "test")) == {}


def test_a_device_that_cannot_be_read_now_is_still_wiped_when_it_comes_back() -> None:
    policy = Policy((rule(prepare=Prepare(scrub="gpu-reset")),), "test")
    unread = function(unread=frozenset({"iommu_group"}))
    found = decide(snapshot(unread), *policy.rules).values()
    assert treatments(found, policy) == {}
    assert treatments(found, policy, given=False)[GPU].scrub is Scrub.GPU_RESET


def test_a_class_that_the_device_does_not_give_is_not_to_be_planned() -> None:
    types = (("CUSTOM_A", TYPES), ("VGPU", None))
    how = rule(Mode.VGPU, types=types)
    own = function()
    given = Decision(True, "", "r", Mode.VGPU, "CUSTOM_A", 4, shares=(Share("CUSTOM_A", 4),))
    (device,) = decide(snapshot(own), how, claims=[claim(own)]).values()
    policy = Policy((how,), "test")
    assert treatments([replace(device, decision=given)], policy)[GPU].types == {"CUSTOM_A": TYPES}
    assert treatments([device], policy, given=False)[GPU].types == dict(types)


def test_the_vfs_that_a_guard_keeps_are_named_by_address() -> None:
    seen = snapshot(*pf(3), host_use={"0000:3b:01.1": "a bond"})
    assert vetoes(decide(seen, rule(Mode.VF)).values()) == {"0000:3b:01.1": "is used by the host: a bond"}


def test_what_the_rule_counts_the_planner_gives() -> None:
    l40s = machine(L40S, rule(Mode.VGPU, types=(("CUSTOM_A", TYPES),), address=(GPU,)))
    (device,) = (each for each in l40s.devices if each.address == GPU)
    assert device.decision.given == (Share("CUSTOM_A", 4),)
    assert len(l40s.planned(l40s.group(GPU, 4)).handles) == device.decision.total
    assert l40s.refused(l40s.group(GPU, 5)).address == GPU


def test_the_mediated_devices_that_the_planner_names_are_known_as_devagents_own() -> None:
    how = rule(Mode.MDEV, types=(("CUSTOM_A", "GRID T4-1B"),), address=(GPU,))
    t4 = machine(T4, how)
    made = t4.planned(t4.group(GPU, 3))
    uids = [handle.uuid for handle in made.handles if isinstance(handle, MdevHandle)]
    assert len(uids) == 3

    def with_mdevs(*named: str) -> Decision:
        found = next(each for each in t4.devices if each.address == GPU)
        folder = "mdev_supported_types/nvidia-222"
        files = {**found.function.attributes, **{f"{folder}/devices/{each}/uevent": "" for each in named}}
        changed = replace(found, function=replace(found.function, attributes=files))
        return next(each.decision for each in judged((changed,), Policy((how,), "t")) if each.address == GPU)

    assert with_mdevs(*uids).managed
    assert not with_mdevs(*uids, str(uuid.UUID(ALICE, version=4))).managed


@pytest.mark.parametrize("prepare", [Prepare(scrub="fpga-blank"), Prepare(blank=BLANK)])
def test_a_wipe_and_its_image_go_together(prepare: Prepare) -> None:
    with pytest.raises(ValueError, match="blank image"):
        treatment(rule(prepare=prepare))
