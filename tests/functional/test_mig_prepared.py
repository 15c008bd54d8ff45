# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A MIG-backed vGPU from the plan to the library: prepared, killed anywhere, recovered, released, nothing left."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from unit.prepare.scenes import ALICE, BOB, ROOT, on_bus

from devagent.inventory.build import device_uuid
from devagent.model.claim import Mode
from devagent.model.handle import PciHandle
from devagent.model.plan import Arguments, Group, Plan, Step
from devagent.model.preparation import Holdings, Preparation, Refusal
from devagent.nvml_gate import NvmlGate
from devagent.prepare import planner, recovery
from devagent.prepare.executor import Executor, Request
from devagent.prepare.journal import Journal
from devagent.prepare.machine import Machine
from devagent.prepare.runs import Patience
from devagent.prepare.treatment import Treatment
from devagent.prepare.view import View, view
from devagent.privileged import Privileged
from devagent.service.preparing.gated import GatedMachine
from devagent.service.preparing.machine import PrivilegedMachine

from .mig_gpu import GPU, ONE, nvml, privileged, root
from .nvml.library import Nvml

__all__ = ["nvml", "privileged", "root"]

VFS = [f"0000:3b:00.{function}" for function in (4, 5)]
TYPE = "7"
LONG = 60.0
KILLED = 9


@pytest.fixture
def host(root: Path) -> Path:
    """The GPU has two VFs that can carry a vGPU, in groups of their own, which nobody has open."""
    for number, vf in enumerate(VFS):
        folder = root / f"sys/bus/pci/devices/{vf}/nvidia"
        folder.mkdir(parents=True)
        (folder / "current_vgpu_type").write_text("0\n")
        (folder / "creatable_vgpu_types").write_text(f"ID    : vGPU Name\n{TYPE}     : NVIDIA A100-1-5C\n")
        (folder.parent / "iommu_group").symlink_to(f"../../../kernel/iommu_groups/{70 + number}")
    return root


def carried(host: Path) -> list[str]:
    return [(host / f"sys/bus/pci/devices/{vf}/nvidia/current_vgpu_type").read_text().strip() for vf in VFS]


@pytest.fixture(scope="module")
def seen() -> View:
    """What a look shows before anything is made: types that no VF can carry yet."""
    table = {"nvidia/current_vgpu_type": "0", "nvidia/creatable_vgpu_types": "ID    : vGPU Name\n"}
    own = {"total": 16, "count": 2, "offset": 4, "driver": "nvidia", "attributes": table}
    mig = {
        "enabled": True,
        "pending": True,
        "profiles": [{"name": "1g.5gb", "memory_mib": 4864, "total": 7, "free": 7}],
    }
    vgpu = {"types": [{"name": "NVIDIA A100-1-5C", "id": TYPE, "memory_mib": 5120, "total": 7}]}
    gpu = {"id": "10de:20f1", "class": "030200", "driver": "nvidia", "vfs": own}
    devices = on_bus(gpu, nvml={GPU: {"name": "NVIDIA A100-PCIE-40GB", "facts": {"mig": mig, "vgpu": vgpu}}})
    return view(devices, ROOT, {GPU: Treatment(Mode.VGPU, types={"CUSTOM_MIG_1G_5GB": "NVIDIA A100-1-5C"})})


def request(seen: View, consumer: str = ALICE) -> Request:
    uid = device_uuid(ROOT, seen.cards[GPU])
    return Request(consumer, (Group(uid, {"CUSTOM_MIG_1G_5GB": 1}),))


@dataclass
class Fatal:
    """Kills its process at the call number `at`, before or after it is carried out."""

    machine: Machine
    at: int
    before_it: bool
    calls: int = 0

    def _mortal(self, call: Callable[[], object]) -> object:
        self.calls += 1
        if self.calls == self.at and self.before_it:
            os._exit(KILLED)
        answer = call()
        if self.calls == self.at:
            os._exit(KILLED)
        return answer

    def before(self, step: Step, seconds: float) -> Arguments:
        return self._mortal(lambda: self.machine.before(step, seconds))  # type: ignore[return-value]

    def do(self, step: Step, seconds: float) -> None:
        self._mortal(lambda: self.machine.do(step, seconds))

    def check(self, step: Step, seconds: float) -> bool:
        return bool(self._mortal(lambda: self.machine.check(step, seconds)))


class Agent:
    """The journal and the executor of one life of the agent."""

    def __init__(self, top: Path, machine: Machine, seen: View) -> None:
        self.journal, self.seen, self.host = Journal(top / "preparations.db", "boot"), seen, top / "host"
        self.executor = Executor(self.journal, machine, Patience(tombstone=0.0))

    def prepare(self, consumer: str = ALICE) -> Preparation | Refusal:
        asked = request(self.seen, consumer)

        def plan(holdings: Holdings) -> Plan | Refusal:
            return planner.plan(consumer, asked.groups, self.seen, holdings)

        return self.executor.prepare(asked, plan, LONG)

    def release(self, consumer: str = ALICE) -> Refusal | None:
        return self.executor.release(consumer, lambda has: planner.release(has, self.now()), LONG)

    def now(self) -> View:
        """What a look shows by now."""
        files = {f"virtfn{index}/nvidia/current_vgpu_type": text for index, text in enumerate(carried(self.host))}
        gpu = self.seen.cards[GPU]
        gpu = replace(gpu, function=replace(gpu.function, attributes={**gpu.function.attributes, **files}))
        return replace(self.seen, cards={GPU: gpu}, parts={p: (gpu, part) for p, (_, part) in self.seen.parts.items()})


@pytest.fixture
def machine(privileged: Privileged, host: Path, tmp_path: Path) -> Machine:
    gate = NvmlGate(tmp_path)
    gate.make()
    return GatedMachine(PrivilegedMachine(privileged, host), gate, host)


def prepared(answer: Preparation | Refusal) -> str:
    """Gives the VF that was given."""
    assert isinstance(answer, Preparation), answer
    (handle,) = answer.handles
    assert isinstance(handle, PciHandle)
    return handle.address


def test_two_consumers_have_an_instance_each_and_leave_nothing(
    tmp_path: Path, machine: Machine, seen: View, nvml: Nvml, host: Path
) -> None:
    agent = Agent(tmp_path, machine, seen)
    assert [prepared(agent.prepare(ALICE)), prepared(agent.prepare(BOB))] == VFS
    assert (nvml.instances, carried(host)) == ([(ONE, 5, True), (ONE, 6, True)], [TYPE, TYPE])
    assert prepared(agent.prepare(ALICE)) == VFS[0], "the same again, and nothing done twice"
    assert agent.release(ALICE) is None
    assert (nvml.instances, carried(host)) == ([(ONE, 5, True)], ["0", TYPE])
    assert agent.release(BOB) is None
    assert (nvml.instances, carried(host)) == ([], ["0", "0"])


def test_what_cannot_be_carried_takes_its_instance_with_it(
    tmp_path: Path, machine: Machine, seen: View, nvml: Nvml, host: Path
) -> None:
    for vf in VFS:
        (host / f"sys/bus/pci/devices/{vf}/nvidia/creatable_vgpu_types").write_text("ID    : vGPU Name\n")
    answer = Agent(tmp_path, machine, seen).prepare()
    assert isinstance(answer, Refusal)
    assert "has no room for a vGPU of type 7" in answer.reason
    assert nvml.instances == []


@pytest.mark.parametrize("before_it", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("release", [False, True], ids=["preparing", "releasing"])
def test_wherever_it_is_killed_it_ends_the_same(
    tmp_path: Path, machine: Machine, seen: View, nvml: Nvml, host: Path, release: bool, before_it: bool
) -> None:
    deaths = 0
    for at in range(1, 20):
        if release:
            first = Agent(tmp_path, machine, seen)
            prepared(first.prepare())
            first.journal.close()
        code = _life_of(tmp_path, Fatal(machine, at, before_it), seen, release=release)
        deaths += code == KILLED
        agent = Agent(tmp_path, machine, seen)
        assert recovery.recover(agent.journal, agent.executor) == {}
        if not release:
            assert prepared(agent.prepare()) in VFS
            assert len(nvml.instances) == 1
            assert sorted(carried(host)) == ["0", TYPE]
            assert [made for _, _, made in nvml.instances] == [True]
        assert agent.release() is None
        assert (nvml.instances, carried(host)) == ([], ["0", "0"])
        assert agent.journal.get(ALICE) is None
        agent.journal.close()
        if code == 0:
            break
    assert deaths >= 4, "a point for each call of the machine, until a life goes through"
    assert code == 0


def _life_of(top: Path, machine: Machine, seen: View, *, release: bool) -> int:
    """Lives a life of the agent in a process of its own; gives how that ended."""
    pid = os.fork()
    if pid == 0:
        ended_well = False
        try:
            agent = Agent(top, machine, seen)
            ended_well = agent.release() is None if release else isinstance(agent.prepare(), Preparation)
        finally:
            os._exit(0 if ended_well else 1)
    until = time.monotonic() + LONG
    while time.monotonic() < until:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    raise AssertionError("it hangs")
