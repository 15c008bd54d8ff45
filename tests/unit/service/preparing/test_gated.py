# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Steps that need NVML closed have it closed, those that ask it have it open, and all others never wait for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from devagent.errors import GateBusy
from devagent.model.plan import Arguments, Step
from devagent.model.preparation import Holder, RefusalKind
from devagent.nvml_gate import NvmlGate
from devagent.prepare.machine import StepFailed
from devagent.service.preparing import gated
from devagent.service.preparing.gated import GatedMachine

from ...worlds import Link, write

GPU, FREE, NIC = "0000:3b:00.0", "0000:5e:00.0", "0000:af:00.0"
LONG = 30.0


class Machine:
    """Notes of each call how the gate stands meanwhile."""

    def __init__(self, gate: NvmlGate) -> None:
        self.gate = gate
        self.seen: list[str] = []

    def look(self) -> None:
        for way, meaning in ((self.gate.shut, "free"), (self.gate.open, "open")):
            try:
                with way(0):
                    self.seen.append(meaning)
                    return
            except GateBusy:
                pass
        self.seen.append("shut")

    def before(self, step: Step, seconds: float) -> Arguments:
        self.look()
        return {}

    def do(self, step: Step, seconds: float) -> None:
        self.look()

    def check(self, step: Step, seconds: float) -> bool:
        self.look()
        return True


@pytest.fixture
def behind(gate: NvmlGate) -> Machine:
    return Machine(gate)


@pytest.fixture
def machine(tmp_path: Path, gate: NvmlGate, behind: Machine) -> GatedMachine:
    """A host with a GPU with NVIDIA's driver, one with vfio-pci, and a NIC."""
    drivers = {GPU: "nvidia", FREE: "vfio-pci", NIC: "mlx5_core"}
    links = {
        f"sys/bus/pci/devices/{address}/driver": Link(f"../../drivers/{name}") for address, name in drivers.items()
    }
    return GatedMachine(behind, gate, write(tmp_path / "host", links))


PLACE: Arguments = {"profile": "1g.10gb", "placement": 0}


@pytest.mark.parametrize(
    ("step", "meanwhile"),
    [
        (Step("bind", GPU, {"driver": "vfio-pci"}), "shut"),
        (Step("bind", GPU, {"driver": None}), "shut"),
        (Step("bind", FREE, {"driver": "nvidia"}), "shut"),
        (Step("set_vf_count", GPU, {"count": 32}), "shut"),
        (Step("reset", GPU, {"method": None}), "shut"),
        (Step("scrub", GPU, {"how": "gpu-reset"}), "shut"),
        (Step("set_mig_mode", GPU, {"enabled": 1}), "shut"),
        (Step("create_mig", GPU, PLACE), "open"),
        (Step("destroy_mig", GPU, PLACE), "open"),
        (Step("bind", GPU, {"driver": "nvidia"}), "free"),
        (Step("bind", FREE, {"driver": None}), "free"),
        (Step("bind", NIC, {"driver": "vfio-pci"}), "free"),
        (Step("set_vf_count", NIC, {"count": 8}), "free"),
        (Step("set_vgpu_type", "0000:3b:00.4", {"type": 1155}), "free"),
        (Step("reset", "0000:d8:00.0", {"method": None}), "free"),
    ],
    ids=lambda value: f"{value.verb}-{value.target}" if isinstance(value, Step) else value,
)
def test_how_nvml_is_while_a_step_is_done(machine: GatedMachine, behind: Machine, step: Step, meanwhile: str) -> None:
    machine.do(step, LONG)
    assert behind.seen == [meanwhile]
    behind.look()
    assert behind.seen[1:] == ["free"], "it is let go of afterwards"


@pytest.mark.parametrize(
    ("step", "meanwhile"),
    [
        (Step("create_mig", GPU, PLACE), "open"),
        (Step("set_mig_mode", GPU, {"enabled": 1}), "open"),
        (Step("bind", GPU, {"driver": "vfio-pci"}), "free"),
    ],
    ids=lambda value: value.verb if isinstance(value, Step) else value,
)
def test_how_nvml_is_while_a_step_is_read(machine: GatedMachine, behind: Machine, step: Step, meanwhile: str) -> None:
    machine.before(step, LONG)
    machine.check(step, LONG)
    assert behind.seen == [meanwhile, meanwhile]


def test_a_look_that_hangs_costs_a_try_of_that_gpu_and_of_no_other_device(
    machine: GatedMachine, behind: Machine, gate: NvmlGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gated, "_PATIENCE_S", 0.05)
    with gate.open(0):
        with pytest.raises(StepFailed) as caught:
            machine.do(Step("bind", GPU, {"driver": "vfio-pci"}), LONG)
        machine.do(Step("bind", NIC, {"driver": "vfio-pci"}), LONG)
    refusal = caught.value.refusal
    assert (refusal.kind, refusal.address) == (RefusalKind.RETRY, GPU)
    assert refusal.reason.startswith(f"{GPU}: devagent itself still has NVML open")
    assert refusal.holders == (Holder(pid=os.getpid(), command="devagent"),)
    assert len(behind.seen) == 1


@pytest.mark.parametrize("ask", [GatedMachine.before, GatedMachine.do, GatedMachine.check])
def test_nvml_is_not_asked_while_a_gpu_changes_hands(
    machine: GatedMachine, behind: Machine, gate: NvmlGate, ask: Callable[..., object]
) -> None:
    with gate.shut(0), pytest.raises(StepFailed, match="is being given to another driver") as caught:
        ask(machine, Step("create_mig", GPU, PLACE), 0.05)
    assert caught.value.refusal.kind is RefusalKind.RETRY
    assert behind.seen == []
