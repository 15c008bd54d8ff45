# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""VFs that the policy asks for: made side by side, failures remembered, and what hangs left alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from devagent.errors import GateBusy, VerbFailed, VerbStuck
from devagent.inventory.policy import devices
from devagent.model.claim import Claim, Kind, Mode
from devagent.model.device import Device
from devagent.model.pci import Sriov, VirtualFunction
from devagent.model.policy import ALL_VFS, Match, Policy, Rule
from devagent.model.snapshot import HostFacts, Snapshot
from devagent.nvml_gate import NvmlGate
from devagent.service.configurer import Configurer
from devagent.service.metrics import Metrics

from ..worlds import function

FIRST, SECOND = "0000:3b:00.0", "0000:5e:00.0"
POLICY = Policy((Rule("vfs", Match(), Mode.VF, vf_count=4),), "test")


class Machine:
    """Takes the verbs: each waits for `go` if that is wanted, and raises what stands for its device."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.errors: dict[str, Exception] = {}
        self.go: dict[str, threading.Event] = {}
        self.stuck: list[str] = []

    def call(self, verb: str, deadline_s: float, **arguments: Any) -> dict[str, Any]:
        if verb == "stuck":
            return {"stuck": [{"arguments": {"address": address}} for address in self.stuck]}
        address = arguments["address"]
        self.asked.append((address, arguments["count"]))
        if address in self.go:
            assert self.go[address].wait(60)
        if address in self.errors:
            raise self.errors[address]
        return {"before": 0}


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def ended() -> list[str]:
    return []


@pytest.fixture
def configurer(machine: Machine, clock: Time, ended: list[str], gate: NvmlGate) -> Configurer:
    return Configurer(machine, ended.append, Metrics(), gate, clock)  # type: ignore[arg-type]


def pfs(*addresses: str, vfs: int = 0) -> tuple[Device, ...]:
    """Gives PFs of NICs that could have eight VFs, and have so many."""
    functions = {}
    for number, address in enumerate(addresses):
        made = tuple(VirtualFunction(i, f"{address[:-3]}10.{i}", None, 100 + 10 * number + i) for i in range(vfs))
        sriov = Sriov(8, "101e", made)
        pf = function(address, "15b3:101d", "020000", iommu_group=number, driver="mlx5_core", sriov=sriov)
        functions[address] = pf
        functions |= {
            vf.address: function(vf.address, "15b3:101e", "020000", physfn=address, iommu_group=vf.iommu_group)
            for vf in made
        }
    claims = {
        each: Claim("sriov", each, Kind.NIC, "Mellanox", "ConnectX", offers={Mode.VF: "SRIOV_NET_VF"})
        for each in addresses
    }
    return devices(Snapshot(HostFacts(iommu=True), functions), claims, POLICY)


def wait(condition: Callable[[], object]) -> None:
    for _ in range(6000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError


def test_what_is_lacking_is_made_once_and_told_when_it_is_done(
    configurer: Configurer, machine: Machine, ended: list[str]
) -> None:
    machine.go[FIRST] = threading.Event()
    assert configurer.advance(pfs(FIRST), POLICY, None) == ()
    assert configurer.running == {FIRST}
    assert configurer.advance(pfs(FIRST), POLICY, None) == ()
    machine.go[FIRST].set()
    assert configurer.wait(60)
    wait(lambda: ended)
    assert (machine.asked, ended) == ([(FIRST, 4)], [FIRST])


def test_one_that_takes_its_time_holds_up_no_other(configurer: Configurer, machine: Machine, ended: list[str]) -> None:
    machine.go[FIRST] = threading.Event()
    configurer.advance(pfs(FIRST, SECOND), POLICY, None)
    wait(lambda: ended == [SECOND])
    assert configurer.running == {FIRST}
    assert not configurer.wait(0)
    machine.go[FIRST].set()
    assert configurer.wait(60)


def test_a_failure_is_told_and_tried_again_only_after_a_while_or_on_a_word(
    configurer: Configurer, machine: Machine, clock: Time
) -> None:
    machine.errors[FIRST] = VerbFailed("set_vf_count", "the driver makes no VFs")
    configurer.advance(pfs(FIRST), POLICY, None)
    configurer.wait(60)
    (refused,) = configurer.advance(pfs(FIRST), POLICY, None)
    assert (refused.address, refused.what, refused.why) == (FIRST, "4 VFs", "the driver makes no VFs")
    assert len(machine.asked) == 1
    clock.now += 301
    configurer.advance(pfs(FIRST), POLICY, None)
    configurer.wait(60)
    configurer.forgive()
    configurer.advance(pfs(FIRST), POLICY, None)
    configurer.wait(60)
    assert len(machine.asked) == 3


def test_what_hangs_is_not_touched_again_until_it_has_come_to_its_end(
    configurer: Configurer, machine: Machine, clock: Time
) -> None:
    machine.errors[FIRST] = VerbStuck("set_vf_count", "hangs in the kernel", 4711)
    machine.stuck = [FIRST]
    configurer.advance(pfs(FIRST), POLICY, None)
    configurer.wait(60)
    assert configurer.stuck == {FIRST: "hangs in the kernel"}
    clock.now += 10_000
    configurer.forgive()
    (refused,) = configurer.advance(pfs(FIRST), POLICY, None)
    assert refused.why == "hangs in the kernel"
    assert len(machine.asked) == 1
    machine.stuck = []
    del machine.errors[FIRST]
    assert configurer.advance(pfs(FIRST), POLICY, None) == ()
    configurer.wait(60)
    assert (configurer.stuck, len(machine.asked)) == ({}, 2)


def test_a_driver_that_makes_fewer_than_it_should_keeps_them(
    configurer: Configurer, machine: Machine, clock: Time
) -> None:
    machine.errors[FIRST] = VerbFailed("set_vf_count", "the driver made 2 of 4")
    configurer.advance(pfs(FIRST), POLICY, frozenset())
    configurer.wait(60)
    clock.now += 10_000
    (refused,) = configurer.advance(pfs(FIRST, vfs=2), POLICY, frozenset())
    assert refused.why == "the driver made 2 of 4"
    assert machine.asked == [(FIRST, 4)]


def test_a_failure_of_what_the_policy_no_longer_wants_is_forgotten(configurer: Configurer, machine: Machine) -> None:
    machine.errors[FIRST] = VerbFailed("set_vf_count", "the driver makes no VFs")
    configurer.advance(pfs(FIRST), POLICY, None)
    configurer.wait(60)
    assert configurer.advance(pfs(FIRST), Policy((), "none"), None) == ()


# --- GPUs, whose VFs are made while nobody has NVML open ---


def gpu() -> tuple[tuple[Device, ...], Policy]:
    """Gives a GPU without VFs, of which vGPUs are to be made."""
    policy = Policy((Rule("l40s", Match(), Mode.VGPU, vf_count=ALL_VFS, types=(("CUSTOM_A", None),)),), "test")
    made = function(FIRST, "10de:26b9", "030200", iommu_group=1, driver="nvidia", sriov=Sriov(8, "26b9", ()))
    claims = {FIRST: Claim("nvidia", FIRST, Kind.GPU, "NVIDIA", "L40S", offers={Mode.WHOLE: "PGPU"})}
    return devices(Snapshot(HostFacts(iommu=True), {FIRST: made}), claims, policy), policy


def test_a_gpus_vfs_wait_for_looks_to_end_and_keep_others_from_beginning(
    configurer: Configurer, machine: Machine, gate: NvmlGate
) -> None:
    machine.go[FIRST] = threading.Event()
    with gate.open(0):
        assert configurer.advance(*gpu(), None) == ()
        wait(lambda: configurer.running)
        assert not configurer.wait(0.3)
        assert machine.asked == []
    wait(lambda: machine.asked)
    with pytest.raises(GateBusy), gate.open(0):
        pass
    machine.go[FIRST].set()
    assert configurer.wait(60)
    assert machine.asked == [(FIRST, 8)]


def test_a_look_that_never_ends_is_told_and_holds_up_no_nic(
    configurer: Configurer, machine: Machine, gate: NvmlGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devagent.service.configurer._NVML_S", 0.1)
    with gate.open(0):
        configurer.advance(pfs(SECOND), POLICY, None)
        configurer.wait(60)
        configurer.advance(*gpu(), None)
        configurer.wait(60)
        (refused,) = configurer.advance(*gpu(), None)
    assert f"still has NVML open, for a look or a MIG instance that takes long or hangs (process {os.getpid()})" in (
        refused.why
    )
    assert machine.asked == [(SECOND, 4)]
