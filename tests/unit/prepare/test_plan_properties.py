# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is true of every plan, whatever is asked for on whichever host."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from devagent.model.claim import Kind, Mode
from devagent.model.device import Device
from devagent.model.handle import MdevHandle
from devagent.model.plan import Group, Plan
from devagent.model.preparation import Holdings, Preparation, Refusal, RefusalKind
from devagent.prepare.planner import plan, release
from devagent.prepare.treatment import Reset, Treatment
from devagent.prepare.view import Bitstream, view

from .scenes import A40, ALICE, H100, H100_NVML, L40S, NOBODY, ROOT, T4, Machine, described_host, on_bus

GPU = "0000:3b:00.0"
INTERFACES = ("f3c9941350814aadbced07eb84a6d0bb", "9346116d52244b4ea1b9b21be6f8d8c5")
CONSUMERS = [f"{number:08d}-27d4-4a3c-9a3e-0c1d2e3f4a5b" for number in range(4)]

Properties = Mapping[str, str]
NONE: Properties = {}
OF_NICS: tuple[Properties, ...] = (NONE, {"mac": "fa:16:3e:0b:7c:01"}, {"vlan": "7", "trust": "true", "rate": "100"})
OF_FPGAS: tuple[Properties, ...] = (NONE, {"bitstream": "first"}, {"bitstream": "second"})
OF_MIG: tuple[Properties, ...] = ({"mig_profile": "1g.10gb"}, {"mig_profile": "1g.10gb+me"})
WRONG: tuple[Properties, ...] = (
    {"vlan": "4095"},
    {"colour": "red"},
    {"vgpu_type": "none"},
    *OF_MIG,
    *OF_NICS,
    *OF_FPGAS,
)
settings.register_profile(
    "plans", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
relaxed = settings(settings.get_profile("plans"))


@cache
def hosts() -> tuple[Machine, ...]:
    vgpu = {GPU: Treatment(Mode.VGPU, types={"CUSTOM_VGPU": None})}
    images = {name: Bitstream(f"sha256:{name}", id) for name, id in zip(("first", "second"), INTERFACES, strict=True)}
    described = [Machine(described_host(name), {}, images) for name in ("gpu8", "zoo", "fpga", "qat")]
    variants = {"0000:1b:00.0": Treatment(Mode.VF, driver="mlx5_vfio_pci"), "0000:19:00.0": Treatment(Mode.WHOLE)}
    divided = [on_bus(L40S), on_bus(H100, nvml={GPU: H100_NVML}), on_bus(T4), on_bus(A40)]
    return (*described, Machine(described_host("gpu8"), variants), *(Machine(devices, vgpu) for devices in divided))


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """Gives a host on which some VFs are with other drivers than they were described with."""
    chosen = draw(st.sampled_from(hosts()))
    machine = Machine(chosen.devices, chosen.treatments, chosen.bitstreams)
    for device in machine.devices:
        if device.claim.driver in ("sriov", "qat", "nvme"):
            for vf in device.vfs[:4]:
                machine.drivers[vf.address] = draw(st.sampled_from(["vfio-pci", None, device.function.driver]))
    return machine


@st.composite
def requests(draw: st.DrawFn, machine: Machine) -> list[Group]:
    seen = machine.view()
    groups = []
    for uid in draw(st.lists(st.sampled_from(sorted(seen.devices)), min_size=1, max_size=2)):
        device = seen.devices[uid]
        offered = sorted(seen.treatment(uid).types) or [device.decision.resource_class or "PGPU"]
        places = [None] * 6 + [device.address, *(vf.address for vf in device.vfs[:3])]
        resources = {draw(st.sampled_from(offered)): draw(st.sampled_from([1] * 6 + [2, 3, 9]))}
        properties = draw(st.sampled_from(6 * fitting(device) + WRONG))
        groups.append(Group(uid, resources, draw(st.sampled_from(places)), properties))
    return groups


def fitting(device: Device) -> tuple[Properties, ...]:
    """Gives what can be asked of a device; whether it is to be had is another question."""
    gpu, kind = device.claim.gpu, device.claim.kind
    if gpu and gpu.mig:
        return OF_MIG
    if gpu and gpu.vgpu and gpu.vgpu.types:
        return tuple({"vgpu_type": each.name} for each in gpu.vgpu.types)
    return OF_NICS if kind is Kind.NIC else OF_FPGAS if kind is Kind.FPGA else (NONE,)


@st.composite
def questions(draw: st.DrawFn) -> tuple[Machine, list[Group], Holdings]:
    """Gives a host, a request, and what others hold already."""
    machine = draw(machines())
    addresses = sorted(vf.address for device in machine.devices for vf in device.vfs[:4])
    taken = draw(st.sets(st.sampled_from(addresses or [GPU]), max_size=3))
    released = draw(st.dictionaries(st.sampled_from(addresses or [GPU]), st.floats(0, 1e9), max_size=3))
    return machine, draw(requests(machine)), Holdings(dict.fromkeys(taken, CONSUMERS[3]), released=released)


def planned(question: tuple[Machine, list[Group], Holdings]) -> Plan:
    machine, groups, holdings = question
    made = machine.plan(*groups, holdings=holdings)
    assume(isinstance(made, Plan))
    assert isinstance(made, Plan)
    return made


@relaxed
@given(questions())
def test_what_is_given_is_what_was_asked_for_and_nothing_twice(question: tuple[Machine, list[Group], Holdings]) -> None:
    machine, groups, holdings = question
    made = planned(question)
    asked = [(group.provider, name) for group in groups for name, n in group.resources.items() for _ in range(n)]
    assert [(handle.provider, handle.resource_class) for handle in made.handles] == asked
    keys = [handle.key for handle in made.handles]
    assert len(set(keys)) == len(keys)
    assert not {*keys, *(handle.function for handle in made.handles)} & set(holdings.consumers)
    seen = machine.view()
    for handle in made.handles:
        device = seen.devices[handle.provider]
        assert handle.function in {device.address, *(vf.address for vf in device.vfs)}
    named = {group.address for group in groups} - {None}
    assert named <= {handle.function for handle in made.handles}


@relaxed
@given(questions())
def test_every_step_is_needed_and_can_be_undone(question: tuple[Machine, list[Group], Holdings]) -> None:
    machine, _, _ = question
    made = planned(question)
    before = machine.state()
    found = {number: machine.do(step) for number, step in enumerate(made.steps)}  # refuses a step without effect
    machine.undo(made, found)
    machine.images.clear()  # what was loaded before cannot be had back
    assert machine.state() == before


@relaxed
@given(questions())
def test_a_release_brings_back_what_was(question: tuple[Machine, list[Group], Holdings]) -> None:
    machine, _, _ = question
    made = planned(question)
    before = machine.state()
    released(machine, machine.prepare(made))
    machine.images.clear()
    assert machine.state() == before


def released(machine: Machine, preparation: Preparation) -> Plan:
    made = release(preparation, machine.view())
    assert isinstance(made, Plan), made
    for step in made.steps:
        machine.do(step)
    return made


@relaxed
@given(questions())
def test_everything_touched_is_locked_and_nothing_else(question: tuple[Machine, list[Group], Holdings]) -> None:
    machine, _, _ = question
    made = planned(question)
    parts = machine.view().parts
    touched = {step.target for step in made.steps} | {handle.function for handle in made.handles}
    pfs = {f"pf:{parts[address][0].address}" for address in touched}
    groups = {f"group:{parts[address][1].iommu_group}" for address in touched}
    assert made.locks == tuple(sorted(pfs | groups))


@relaxed
@given(questions())
def test_the_same_question_gets_the_same_answer_in_whatever_order_the_host_was_seen(
    question: tuple[Machine, list[Group], Holdings],
) -> None:
    machine, groups, holdings = question
    first = machine.plan(*groups, holdings=holdings)
    machine.devices = machine.devices[::-1]
    assert machine.plan(*groups, holdings=holdings) == first


@relaxed
@given(questions())
def test_a_refusal_says_why(question: tuple[Machine, list[Group], Holdings]) -> None:
    machine, groups, holdings = question
    refusal = machine.plan(*groups, holdings=holdings)
    assume(isinstance(refusal, Refusal))
    assert isinstance(refusal, Refusal)
    assert refusal.reason
    assert refusal.reason.isprintable()
    assert {holder.consumer for holder in refusal.holders} <= set(holdings.consumers.values())
    if refusal.holders:
        assert refusal.kind is RefusalKind.RETRY


@relaxed
@given(st.data())
def test_consumers_never_have_the_same_device_however_they_come_and_go(data: st.DataObject) -> None:
    machine = data.draw(machines())
    pristine = machine.state()
    prepared: dict[str, Preparation] = {}
    for _ in range(data.draw(st.integers(1, 8))):
        consumer = data.draw(st.sampled_from(CONSUMERS))
        if consumer in prepared:
            released(machine, prepared.pop(consumer))
            continue
        made = machine.plan(*data.draw(requests(machine)), consumer=consumer, holdings=holdings_of(prepared))
        if isinstance(made, Plan):
            prepared[consumer] = machine.prepare(made)
        keys = [handle.key for each in prepared.values() for handle in each.handles]
        assert len(set(keys)) == len(keys)
    for preparation in prepared.values():
        released(machine, preparation)
    machine.images.clear()
    assert machine.state() == pristine


def holdings_of(prepared: Mapping[str, Preparation]) -> Holdings:
    handles = [(handle, each.consumer) for each in prepared.values() for handle in each.handles]
    return Holdings(
        {handle.key: consumer for handle, consumer in handles},
        {handle.key: handle.parent for handle, _ in handles if isinstance(handle, MdevHandle)},
    )


@relaxed
@given(st.sampled_from(["gpu8", "zoo", "qat", "fpga"]), st.booleans())
def test_kept_functions_need_no_step_the_second_time(name: str, keep: bool) -> None:
    devices = described_host(name)
    given_away = view(devices, ROOT).devices.values()
    treatments = {
        each.address: Treatment(each.decision.mode or Mode.WHOLE, keep=keep, reset=Reset.NEVER) for each in given_away
    }
    machine = Machine(devices, treatments)
    groups = [machine.group(address) for address in sorted(treatments)]
    first = machine.planned(*groups)
    released(machine, machine.prepare(first))
    second = plan(ALICE, groups, machine.view(), NOBODY)
    assert isinstance(second, Plan)
    assert second.handles == first.handles
    assert second.steps == (() if keep else first.steps)
