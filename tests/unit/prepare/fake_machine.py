# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A machine of functions, VFs, mediated devices and FPGAs that behaves as kernels were seen to, in a dict or a file.

What is a single write to the kernel is a single change here, and before and after each one a test can intervene. The
file outlives whoever writes to it, as a kernel does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from devagent.model.handle import Handle, MdevHandle, PciHandle
from devagent.model.plan import Arguments, Group, Plan, Step
from devagent.model.preparation import Holder, Holdings, Preparation, Refusal, RefusalKind
from devagent.prepare.executor import Request
from devagent.prepare.machine import Gone, StepFailed, StepStuck
from devagent.prepare.verbs import inverse

Trap = Callable[[str], None]
LOADED = ("vfio-pci", "iavf", "ice", "nvidia", "dfl-pci", "i915")


@dataclass(slots=True)
class Function:
    """One PCI function; `own` is the driver that a boot gives it."""

    own: str
    pf: str
    index: int = 0
    driver: str | None = None
    override: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    vgpu: int = 0
    image: str = "factory"
    mdevs: dict[str, str] = field(default_factory=dict)
    dirty: bool = False

    def raw(self) -> dict[str, Any]:
        raw = {each.name: getattr(self, each.name) for each in fields(self)}
        return {**raw, "attributes": dict(self.attributes), "mdevs": dict(self.mdevs)}


class Kernel:
    """The state of the machine, and the writes that change it."""

    def __init__(self, path: Path | None = None, trap: Trap = lambda _: None) -> None:
        self._path, self.trap = path, trap
        self.functions: dict[str, Function] = {}
        self.writes = 0
        if path is not None and path.exists():
            self.functions = {address: Function(**raw) for address, raw in json.loads(path.read_text()).items()}

    @contextmanager
    def write(self, what: str) -> Iterator[None]:
        self.trap(f"before {what}")
        yield
        self.writes += 1
        self.save()
        self.trap(f"after {what}")

    def save(self) -> None:
        if self._path is not None:
            new = self._path.with_suffix(".new")
            new.write_text(json.dumps({address: function.raw() for address, function in self.functions.items()}))
            new.replace(self._path)

    def add(self, address: str, own: str, pf: str | None = None, index: int = 0) -> None:
        self.functions[address] = Function(own, pf or address, index, driver=own)
        self.save()

    def function(self, address: str) -> Function:
        if address not in self.functions:
            raise Gone(address)
        return self.functions[address]

    def set_override(self, address: str, driver: str | None) -> None:
        with self.write("driver_override"):
            self.function(address).override = driver

    def unbind(self, address: str) -> None:
        with self.write("unbind"):
            if self.function(address).driver is None:
                raise OSError("ENODEV")
            self.function(address).driver = None

    def probe(self, address: str) -> None:
        """Succeeds also if nothing was bound (drivers_probe)."""
        with self.write("drivers_probe"):
            function = self.function(address)
            driver = function.override or function.own
            if function.driver is None and driver in LOADED:
                function.driver = driver

    def create(self, parent: str, kind: str, uuid: str) -> None:
        with self.write("create"):
            if any(uuid in function.mdevs for function in self.functions.values()):
                raise OSError("EEXIST")
            self.function(parent).mdevs[uuid] = kind

    def remove(self, parent: str, uuid: str) -> None:
        with self.write("remove"):
            del self.function(parent).mdevs[uuid]

    def set_attributes(self, pf: str, index: int, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            with self.write(f"VF {name}"):
                self.vf(pf, index).attributes[name] = value

    def vf(self, pf: str, index: int) -> Function:
        for function in self.functions.values():
            if function.pf == pf and function.index == index and function is not self.functions.get(pf):
                return function
        raise Gone(f"{pf} VF {index}")

    def reboot(self) -> None:
        """Leaves what a warm boot leaves: the functions with their own drivers, FPGA images, and what disks hold."""
        for address, old in list(self.functions.items()):
            self.functions[address] = Function(
                old.own, old.pf, old.index, driver=old.own, image=old.image, dirty=old.dirty
            )
        self.save()

    def used(self, handle: Handle) -> None:
        """A guest has had it."""
        self.function(handle.function).dirty = True
        self.save()

    def state(self) -> dict[str, Any]:
        """Gives all that a host's next user could see; without the override where it says what is so anyway."""
        told = {address: function.raw() for address, function in self.functions.items()}
        for raw in told.values():
            raw["override"] = None if raw["override"] in (None, raw["own"]) else raw["override"]
            raw["attributes"] = {name: value for name, value in raw["attributes"].items() if value}
        return told


class FakeMachine:
    """Does verbs on a Kernel; what stands in `failing` or `hanging` (verb, target) fails or hangs."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.failing: set[tuple[str, str]] = set()
        self.hanging: set[tuple[str, str]] = set()
        self.lying: set[tuple[str, str]] = set()
        self.done: list[Step] = []

    def before(self, step: Step, seconds: float) -> Arguments:
        function = self.kernel.function(step.target)
        match step.verb:
            case "bind":
                return {"driver": function.driver}
            case "create_mdev":
                if step.arguments["uuid"] in function.mdevs:
                    raise StepFailed(RefusalKind.PERMANENT, "there is such a mediated device already", step.target)
                return step.arguments
            case "set_vgpu_type":
                return {"type": function.vgpu}
            case "set_vf_attributes":
                index = int(step.arguments["index"] or 0)
                now = self.kernel.vf(step.target, index).attributes
                return {"index": index, **{name: now.get(name, 0) for name in step.arguments if name != "index"}}
            case "program_fpga":
                return {**step.arguments, "digest": function.image}
        raise AssertionError(step)

    def do(self, step: Step, seconds: float) -> None:
        self.kernel.trap(f"before the verb {step.verb}")
        self.done.append(step)
        if (step.verb, step.target) in self.hanging:
            raise StepStuck(f"{step.target}: {step.verb} hangs in the kernel", step.target)
        if (step.verb, step.target) in self.failing:
            raise StepFailed(RefusalKind.PERMANENT, f"{step.target}: {step.verb} does not work", step.target)
        if (step.verb, step.target) not in self.lying:
            self._do(step)
        self.kernel.trap(f"after the verb {step.verb}")

    def _do(self, step: Step) -> None:
        kernel, target, arguments = self.kernel, step.target, step.arguments
        function = kernel.function(target)
        match step.verb:
            case "bind":
                self._bind(target, arguments["driver"])
            case "create_mdev":
                if str(arguments["uuid"]) not in function.mdevs:
                    kernel.create(target, str(arguments["type"]), str(arguments["uuid"]))
            case "remove_mdev":
                if str(arguments["uuid"]) in function.mdevs:
                    kernel.remove(target, str(arguments["uuid"]))
            case "set_vgpu_type":
                with kernel.write("current_vgpu_type"):
                    function.vgpu = int(arguments["type"] or 0)
            case "set_vf_attributes":
                values = {name: value for name, value in arguments.items() if name != "index"}
                kernel.set_attributes(target, int(arguments["index"] or 0), values)
            case "program_fpga":
                with kernel.write("FPGA image, first half"):
                    function.image = "half written"
                with kernel.write("FPGA image, second half"):
                    function.image = str(arguments["digest"])
            case "reset":
                with kernel.write("reset"):
                    pass
            case "scrub":
                with kernel.write("scrub"):
                    function.dirty = False

    def check(self, step: Step, seconds: float) -> bool:
        function = self.kernel.function(step.target)
        arguments = step.arguments
        match step.verb:
            case "bind":
                return function.driver == arguments["driver"] and function.override in (None, arguments["driver"])
            case "create_mdev":
                return function.mdevs.get(str(arguments["uuid"])) == arguments["type"]
            case "remove_mdev":
                return arguments["uuid"] not in function.mdevs
            case "set_vgpu_type":
                return function.vgpu == arguments["type"]
            case "set_vf_attributes":
                now = self.kernel.vf(step.target, int(arguments["index"] or 0)).attributes
                return all(now.get(name, 0) == value for name, value in arguments.items() if name != "index")
            case "program_fpga":
                return function.image == arguments["digest"]
        raise AssertionError(step)

    def _bind(self, address: str, driver: str | int | None) -> None:
        kernel = self.kernel
        function = kernel.function(address)
        kernel.set_override(address, str(driver) if driver is not None else None)
        if function.driver is not None and function.driver != driver:
            kernel.unbind(address)
        if driver is not None:
            kernel.probe(address)


CARDS = 2
VFS = 3


def build(kernel: Kernel, cards: int = CARDS, vfs: int = VFS) -> None:
    """A NIC with VFs, a GPU with mediated devices, an NVIDIA VF and an FPGA for each of `cards`."""
    for card in range(cards):
        bus = f"0000:{card + 0x10:02x}"
        kernel.add(f"{bus}:00.0", "ice")
        for index in range(vfs):
            kernel.add(
                f"{bus}:01.{index % 8}" if index < 8 else f"{bus}:{index // 8 + 1:02x}.{index % 8}",
                "iavf",
                f"{bus}:00.0",
                index,
            )
        kernel.add(f"{bus}:1d.0", "i915")
        kernel.add(f"{bus}:1e.0", "nvidia")
        kernel.add(f"{bus}:1f.0", "dfl-pci")


def request(consumer: str, *classes: str) -> Request:
    """Asks for one of each class: VF, MDEV, VGPU, FPGA."""
    return Request(consumer, tuple(Group(f"provider of {each}", {each: 1}) for each in classes))


@dataclass(frozen=True, slots=True)
class Plans:
    """A planner for the machine: the first free one of each kind, and back the way it came."""

    kernel: Kernel
    asked: Request | None = None

    def __call__(self, holdings: Holdings) -> Plan | Refusal:
        assert self.asked is not None
        steps: list[Step] = []
        handles: list[Handle] = []
        for group in self.asked.groups:
            (kind,) = group.resources
            found = self._free(kind, holdings, {handle.function for handle in handles})
            if found is None:
                holders = tuple(Holder(consumer=each) for each in sorted(set(holdings.consumers.values())))
                return Refusal(RefusalKind.RETRY, f"every {kind} is taken", holders=holders)
            made, handle = self._steps(self.asked.consumer, group, kind, found)
            steps += made
            handles.append(handle)
        locks = {f"pf:{self.kernel.functions[handle.function].pf}" for handle in handles}
        return Plan(self.asked.consumer, tuple(steps), tuple(handles), tuple(sorted(locks)))

    def _free(self, kind: str, holdings: Holdings, chosen: set[str]) -> str | None:
        own = {"VF": "iavf", "MDEV": "i915", "VGPU": "nvidia", "FPGA": "dfl-pci"}[kind]
        taken = holdings.consumers.keys() | chosen
        if kind == "MDEV":
            taken = chosen  # a parent has room for any number
        free = (
            address
            for address, function in sorted(self.kernel.functions.items())
            if function.own == own and address not in taken and not function.vgpu
        )
        return next(free, None)

    def _steps(self, consumer: str, group: Group, kind: str, address: str) -> tuple[list[Step], Handle]:
        function = self.kernel.functions[address]
        bind = Step("bind", address, {"driver": "vfio-pci"}, {"driver": function.driver})
        pci = PciHandle(group.provider, kind, address)
        match kind:
            case "VF":
                wanted: dict[str, str | int | None] = {"index": function.index, "mac": "02:00:00:00:00:01", "vlan": 7}
                undo: dict[str, str | int | None] = {"index": function.index, "mac": 0, "vlan": 0}
                return [Step("set_vf_attributes", function.pf, wanted, undo), bind], pci
            case "MDEV":
                made: Arguments = {"type": "i915-GVTg", "uuid": str(uuid5(NAMESPACE_OID, consumer))}
                handle = MdevHandle(group.provider, kind, str(made["uuid"]), address, "i915-GVTg")
                return [Step("create_mdev", address, made, made)], handle
            case "VGPU":
                return [Step("set_vgpu_type", address, {"type": 557}, {"type": 0})], pci
        program = Step("program_fpga", address, {"digest": "tenant"}, {"digest": "factory"})
        return [program, bind], pci

    def release(self, preparation: Preparation) -> Plan:
        """Takes every step back, last first, and then resets and scrubs each function."""
        steps: list[Step] = []
        for number in sorted(preparation.done, reverse=True):
            step = preparation.plan.steps[number]
            back = inverse(Step(step.verb, step.target, step.arguments, preparation.found.get(number, step.undo)))
            if step.target in self.kernel.functions and back is not None:
                steps.append(back)
        for handle in preparation.handles:
            steps += [Step("reset", handle.function, {"method": None}), Step("scrub", handle.function, {"how": "all"})]
        return Plan(preparation.consumer, tuple(steps), (), preparation.plan.locks)
