# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Hosts to plan on, as the discovery sees them, and a machine in memory to which the steps of a plan can be done."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from hosts.generate import generate

from devagent.inventory.build import device_uuid
from devagent.model.claim import Mode
from devagent.model.device import Device
from devagent.model.gpu import MigInstance
from devagent.model.plan import Arguments, Group, Plan, Step
from devagent.model.preparation import Holdings, Preparation, Refusal, State
from devagent.prepare.attributes import NEUTRAL
from devagent.prepare.planner import plan
from devagent.prepare.treatment import Treatment
from devagent.prepare.verbs import VERBS, inverse
from devagent.prepare.view import Bitstream, View, functions, view

from ..worlds import described, look, port

ROOT = "0c6e1f57-6a3d-4f0b-9a55-2f7d5a3b8e10"
ALICE = "5e1f0f6a-27d4-4a3c-9a3e-0c1d2e3f4a5b"
BOB = "b0b00000-27d4-4a3c-9a3e-0c1d2e3f4a5b"
HOSTS = Path(__file__).parents[2] / "hosts"
NOBODY = Holdings()

TYPES = "ID    : vGPU Name\n1155  : NVIDIA L40S-8Q\n1156  : NVIDIA L40S-16Q\n"
L40S: Mapping[str, Any] = {
    "id": "10de:26b9",
    "class": "030200",
    "driver": "nvidia",
    "vfs": {
        "total": 32,
        "count": 4,
        "offset": 4,
        "driver": "nvidia",
        "attributes": {"nvidia/current_vgpu_type": "0", "nvidia/creatable_vgpu_types": TYPES},
    },
}
# With MIG on, no type can be created before there is a GPU instance of its profile.
H100: Mapping[str, Any] = {
    **L40S,
    "id": "10de:2331",
    "vfs": {
        **L40S["vfs"],
        "attributes": {"nvidia/current_vgpu_type": "0", "nvidia/creatable_vgpu_types": "ID    : vGPU Name\n"},
    },
}
H100_NVML: Mapping[str, Any] = {
    "name": "NVIDIA H100 PCIe",
    "facts": {
        "uuid": "GPU-5f0c2b17-7d1e-4c55-9b2a-0d6f3c1e8a07",
        "mig": {
            "enabled": True,
            "pending": True,
            "profiles": [
                {"name": "1g.10gb", "memory_mib": 9856, "total": 7, "free": 3},
                {"name": "1g.10gb+me", "memory_mib": 9856, "total": 1, "free": 1},
                {"name": "7g.80gb", "memory_mib": 81152, "total": 1, "free": 0},
            ],
        },
        "vgpu": {
            "types": [
                {"name": "NVIDIA H100-1-10C", "id": "1130", "memory_mib": 10240, "total": 7},
                {"name": "NVIDIA H100-1-10Q", "id": "1131", "memory_mib": 10240, "total": 7},
                {"name": "NVIDIA H100-1-10CME", "id": "1132", "memory_mib": 10240, "total": 1},
                {"name": "NVIDIA H100-7-80C", "id": "1133", "memory_mib": 81920, "total": 1},
            ]
        },
    },
}
T4: Mapping[str, Any] = {
    "id": "10de:1eb8",
    "class": "030200",
    "driver": "nvidia",
    "mdev": {"types": {"nvidia-222": {"name": "GRID T4-1B", "available_instances": 3}}},
}
A40: Mapping[str, Any] = {
    "id": "10de:2235",
    "class": "030200",
    "driver": "nvidia",
    "vfs": {"total": 32, "count": 3, "offset": 4, "driver": "nvidia"},
    "mdev": {"types": {"nvidia-558": {"name": "NVIDIA A40-8Q", "available_instances": 1}}, "vfs": True},
}


@cache
def described_host(name: str) -> tuple[Device, ...]:
    """Gives every function of a host of tests/hosts."""
    with tempfile.TemporaryDirectory() as top:
        return look(generate(HOSTS / f"{name}.yaml", Path(top) / "h"), every=True).devices


def on_bus(*devices: Mapping[str, Any], **more: Any) -> tuple[Device, ...]:
    """Gives the functions of a host with these devices behind one port; the first is 0000:3b:00.0."""
    with tempfile.TemporaryDirectory() as top:
        host = described(port(*map(dict, devices)), **{"drivers": ["vfio-pci"]} | more)
        return look(generate(host, Path(top) / "h"), every=True).devices


def provider(address: str, devices: Iterable[Device]) -> str:
    """Gives the UUID of the resource provider of the device at an address."""
    return next(device_uuid(ROOT, device) for device in devices if device.address == address)


@dataclass(repr=False)
class Machine:
    """A host whose functions can be bound, divided and programmed; everything else stays as it was discovered."""

    devices: tuple[Device, ...]
    treatments: Mapping[str, Treatment] = field(default_factory=dict)
    bitstreams: Mapping[str, Bitstream] = field(default_factory=dict)
    drivers: dict[str, str | None] = field(default_factory=dict)
    mdevs: dict[str, tuple[str, str]] = field(default_factory=dict)
    vgpus: dict[str, int] = field(default_factory=dict)
    instances: dict[tuple[str, int], str] = field(default_factory=dict)
    network: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    images: dict[tuple[str, Any], str] = field(default_factory=dict)
    cleaned: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for each in self.devices:
            self.drivers |= {part.address: part.driver for part in functions(each)}

    def state(self) -> object:
        """Gives all that steps change and can be brought back."""
        network = {place: values for place, values in self.network.items() if values != dict(NEUTRAL)}
        vgpus = {address: number for address, number in self.vgpus.items() if number}
        return deepcopy((self.drivers, self.mdevs, vgpus, self.instances, network, self.images))

    def view(self) -> View:
        """Looks at the machine as it is now."""
        return view(map(self._now, self.devices), ROOT, self.treatments, self.bitstreams)

    def __repr__(self) -> str:
        """Tells which host it is, by its devices, and what differs from how it was described."""
        described = {part.address: part.driver for device in self.devices for part in functions(device)}
        changed = {address: driver for address, driver in self.drivers.items() if driver != described[address]}
        return f"Machine({[device.address for device in self.view().devices.values()]}, {changed})"

    def group(self, address: str, count: int = 1, name: str | None = None, /, **more: Any) -> Group:
        """Asks for so many of what the device at an address gives; `at` names a function, all else are properties."""
        seen = self.view()
        uid = provider(address, self.devices)
        treatment = seen.treatments.get(uid)
        resource_class = name or next(iter(treatment.types if treatment else ()), None)
        resource_class = resource_class or seen.devices[uid].decision.resource_class
        return Group(uid, {str(resource_class): count}, more.pop("at", None), more)

    def plan(self, *groups: Group, consumer: str = ALICE, holdings: Holdings = NOBODY) -> Plan | Refusal:
        return plan(consumer, groups, self.view(), holdings)

    def planned(self, *groups: Group, consumer: str = ALICE, holdings: Holdings = NOBODY) -> Plan:
        """Plans what is known to be possible."""
        made = self.plan(*groups, consumer=consumer, holdings=holdings)
        assert isinstance(made, Plan), made
        return made

    def refused(self, *groups: Group, holdings: Holdings = NOBODY) -> Refusal:
        """Plans what is known to be impossible."""
        made = self.plan(*groups, holdings=holdings)
        assert isinstance(made, Refusal), made
        return made

    def prepare(self, made: Plan) -> Preparation:
        """Does all steps of a plan."""
        found = {number: self.do(step) for number, step in enumerate(made.steps)}
        return Preparation(
            made.consumer,
            (),
            made,
            State.PREPARED,
            created=0,
            boot_id="b",
            deadline=300,
            done=tuple(found),
            found=found,
            handles=made.handles,
        )

    def undo(self, made: Plan, found: Mapping[int, Arguments]) -> None:
        """Takes the steps of a plan back, last first."""
        for number, step in reversed(list(enumerate(made.steps))):
            back = inverse(replace(step, undo={**step.undo, **found[number]}) if step.undo is not None else step)
            if back is not None:
                self.do(back)

    def do(self, step: Step) -> Arguments:
        """Does one step as the machine's own verbs would, strictly; gives what its undo must be beyond the plan's."""
        verb = VERBS[step.verb]
        assert set(step.arguments) | set(verb.optional) == set(verb.arguments), step
        assert step.target in self.drivers, step
        return getattr(self, f"_{step.verb}")(step.target, **step.arguments) or {}

    def _bind(self, target: str, driver: str | None, override: str | None = None) -> None:
        assert self.drivers[target] != driver, f"{target} is on {driver} already"
        assert not self.vgpus.get(target), f"{target} carries a vGPU"
        self.drivers[target] = driver

    def _create_mdev(self, target: str, type: str, uuid: str) -> None:
        assert uuid not in self.mdevs
        self.mdevs[uuid] = (target, type)

    def _remove_mdev(self, target: str, type: str, uuid: str) -> None:
        assert self.mdevs.pop(uuid) == (target, type)

    def _set_vgpu_type(self, target: str, type: int) -> None:
        assert (type == 0) == bool(self.vgpus.get(target, 0)), f"{target} has type {self.vgpus.get(target)}"
        self.vgpus[target] = type

    def _set_vf_attributes(self, target: str, index: int, **values: Any) -> Arguments:
        before = self.network.get((target, index), dict(NEUTRAL))
        self.network[target, index] = before | {name: value for name, value in values.items() if value is not None}
        return {name: before[name] for name, value in values.items() if value is not None}

    def _create_mig(self, target: str, profile: str, placement: str | int | None) -> Arguments:
        place = next(number for number in range(7) if (target, number) not in self.instances)
        self.instances[target, place] = profile
        return {"placement": place}

    def _destroy_mig(self, target: str, profile: str, placement: int) -> None:
        assert self.instances.pop((target, placement)) == profile

    def _program_fpga(self, target: str, region: str | None, port: int | None, digest: str, interface: str) -> None:
        assert "vfio" not in (self.drivers[target] or "vfio"), f"{target} is not with its own driver"
        self.images[target, port] = digest

    def _reset(self, target: str, method: str | None) -> None:
        self.cleaned.append((target, "reset"))

    def _scrub(self, target: str, how: str, serial: str | None = None) -> None:
        assert "vfio" not in (self.drivers[target] or "vfio"), f"{target} is not with its own driver"
        self.cleaned.append((target, how))

    def _now(self, device: Device) -> Device:
        function, claim = device.function, device.claim
        if function.sriov is not None:
            vfs = tuple(replace(vf, driver=self.drivers[vf.address]) for vf in function.sriov.vfs)
            function = replace(function, sriov=replace(function.sriov, vfs=vfs))
        types = {
            f"virtfn{vf.index}/nvidia/current_vgpu_type": str(self.vgpus[vf.address])
            for vf in device.vfs
            if vf.address in self.vgpus
        }
        function = replace(function, driver=self.drivers[device.address], attributes={**function.attributes, **types})
        if claim.mdev is not None:
            places = {device.address, *(vf.address for vf in device.vfs)}
            made = ((uid, type) for uid, (parent, type) in self.mdevs.items() if parent in places)
            claim = replace(claim, mdev=replace(claim.mdev, devices=(*claim.mdev.devices, *made)))
        if claim.gpu is not None and claim.gpu.mig is not None:
            instances = tuple(
                MigInstance(place, profile, place, 1)
                for (address, place), profile in self.instances.items()
                if address == device.address
            )
            mig = replace(claim.gpu.mig, instances=(*claim.gpu.mig.instances, *instances))
            claim = replace(claim, gpu=replace(claim.gpu, mig=mig))
        return replace(device, function=function, claim=claim)


def l40s(**more: Any) -> Machine:
    """A GPU with four VFs that carry vGPUs by NVIDIA's own VFIO framework."""
    return Machine(on_bus(L40S), {"0000:3b:00.0": Treatment(Mode.VGPU, types={"CUSTOM_VGPU": None}, **more)})


def held(*addresses: str, consumer: str = BOB) -> Holdings:
    """Says that somebody holds these functions."""
    return Holdings(consumers=dict.fromkeys(addresses, consumer))


def lines(made: Plan | Refusal) -> str:
    """Writes a plan down for people."""
    assert isinstance(made, Plan), made
    steps = [f"{step.verb} {step.target}{_said(step.arguments)}{_undone(step)}" for step in made.steps]
    handles = [f"=> {handle.resource_class} {handle.function}" for handle in made.handles]
    return "\n".join([*steps, *handles, f"locks {' '.join(made.locks)}"])


def _undone(step: Step) -> str:
    return "" if step.undo is None else f"   undo{_said(step.undo)}"


def _said(arguments: Arguments) -> str:
    return "".join(f" {name}={value}" for name, value in arguments.items() if value is not None or name == "driver")
