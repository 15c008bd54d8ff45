# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The machine, as the executor changes it: the privileged process's verbs for the steps of a plan.

What is read here are links and names of sysfs, which wait for no lock of the kernel; whatever may wait, reading
included (a driver_override waits for its device's), is done by the privileged process, which can leave it behind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from devagent.errors import VerbFailed, VerbStuck
from devagent.model.pci import is_vfio
from devagent.model.plan import Arguments, Step
from devagent.model.preparation import Refusal, RefusalKind
from devagent.prepare.attributes import NEUTRAL
from devagent.prepare.machine import Gone, Machine, StepFailed, StepStuck
from devagent.privileged import Privileged
from devagent.privileged.refused import VerbRefused

_PATIENCE_S: Final = 120.0
"""For one verb at most, however much time there is: a reset may take 60 s, and what hangs must be known in time to
undo the rest and to try another host."""

_WIPE_S: Final = 3600.0
"""For a wipe, whatever time there is: a drive may take that long, and one that is left half way is not wiped."""
_QUICK_WIPES: Final = ("gpu-reset",)
_LOOK_S: Final = 10.0

_MIG: Final = ("create_mig", "destroy_mig")


Begun = Callable[[str, str], Iterable[Arguments]]


class PrivilegedMachine(Machine):
    """The host itself; `root` is where its tree begins, as the privileged process has it.

    `begun` gives what steps of a verb that were begun at a function have found, and that may yet be done.
    """

    def __init__(self, privileged: Privileged, root: Path = Path("/"), begun: Begun = lambda *_: ()) -> None:
        self._privileged, self._begun = privileged, begun
        self._devices = root / "sys/bus/pci/devices"

    def before(self, step: Step, seconds: float) -> Arguments:
        """Gives what the step's `undo` must be; a mediated device that is to be made must not be there yet."""
        if step.verb == "create_mdev" and self._mdev(step) is not None:
            reason = f"{step.target}: there is a mediated device {step.arguments['uuid']} already, of no consumer"
            raise StepFailed(RefusalKind.PERMANENT, reason, step.target)
        if step.verb in ("create_mdev", "remove_mdev"):
            return dict(step.arguments)
        if step.verb == "bind":
            return self._found_bound(step, seconds)
        if step.verb in _MIG:
            return {**step.arguments, "placement": self._placement(step, seconds)}
        if step.verb == "program_fpga" and step.undo is not None:
            return dict(step.undo)  # what is in an FPGA cannot be read: the image that the plan has comes back
        now = self._now(step, seconds)
        if step.verb == "set_vf_attributes":
            # A driver may take what it does not tell: it is brought back to what a VF has by itself.
            now = {name: NEUTRAL[name] if value is None else value for name, value in now.items()}
        # What is not to be changed need not be brought back.
        return {name: now[name] if _counts(step, name) else None for name in step.arguments}

    def do(self, step: Step, seconds: float) -> None:
        """Has the privileged process do the step: a MIG instance where `before` chose, a wipe in the time it needs."""
        arguments = dict(step.arguments)
        if step.verb == "bind":
            arguments = {"override": _usual_override(step.arguments["driver"]), **arguments}
        elif step.verb in _MIG:
            arguments["placement"] = _place(step)
        elif step.verb == "scrub":
            arguments = {"serial": None, **arguments}
        self._call(step, step.verb, seconds, **arguments)

    def check(self, step: Step, seconds: float) -> bool:
        """Tells whether the machine is as the step makes it."""
        if step.verb == "create_mdev":
            return self._mdev(step) == step.arguments["type"]
        if step.verb == "remove_mdev":
            return self._mdev(step) is None
        if step.verb in _MIG:
            return self._has_instance(step, seconds) == (step.verb == "create_mig")
        if step.verb == "program_fpga":
            image = {name: step.arguments[name] for name in ("region", "port", "digest")}
            return bool(self._call(step, "fpga_image", seconds, **image)["holds"])
        now = self._now(step, seconds)
        return all(_is(now[name], value, step) for name, value in step.arguments.items() if _counts(step, name))

    def unwipeable(self, address: str, how: str) -> Refusal | None:
        """Says why a function could certainly not be wiped by `how`; None if it can, or if that is not known now."""
        try:
            self._privileged.call("can_scrub", _LOOK_S, address=address, how=how)
        except VerbRefused as error:
            if error.kind is RefusalKind.PERMANENT and not error.gone:
                return Refusal(error.kind, f"the policy wants it wiped after use ({how}): {error}", address)
        except VerbFailed:
            pass
        return None

    def _now(self, step: Step, seconds: float) -> Mapping[str, Any]:
        return _READ[step.verb](self, step, seconds)

    def _driver(self, step: Step, seconds: float) -> Mapping[str, Any]:
        if "override" in step.arguments:
            return self._call(step, "driver", seconds)
        self._names(step)
        return {"driver": self._link(step, "driver")}

    def _found_bound(self, step: Step, seconds: float) -> Arguments:
        """Gives the driver, and the override where it is none that would be there with this driver anyway."""
        now = self._call(step, "driver", seconds)
        usual = now["override"] == _usual_override(now["driver"])
        return {"driver": now["driver"]} if usual else now

    def _vf_count(self, step: Step, _: float) -> Mapping[str, Any]:
        return {"count": sum(re.fullmatch("virtfn[0-9]+", name) is not None for name in self._names(step))}

    def _vgpu_type(self, step: Step, seconds: float) -> Mapping[str, Any]:
        return self._call(step, "vgpu_type", seconds)

    def _vf_attributes(self, step: Step, seconds: float) -> Mapping[str, Any]:
        index = step.arguments["index"]
        return {"index": index, **self._call(step, "vf_attributes", seconds, index=index)}

    def _mig_mode(self, step: Step, seconds: float) -> Mapping[str, Any]:
        return self._call(step, "mig_mode", seconds)

    def _placement(self, step: Step, seconds: float) -> Any:
        """Gives the memory slice of the step's MIG instance: where it is said, or where there is room for it."""
        placement = _place(step)
        if placement is None:
            # What a process that was killed had chosen may yet be made, or be undone: it is nobody else's place.
            begun = self._begun("create_mig", step.target)
            promised = sorted({f"{each['profile']}@{each['placement']}" for each in begun})
            asked = {"profile": step.arguments["profile"], "promised": promised}
            placement = self._call(step, "mig_placement", seconds, **asked)["placement"]
        return placement

    def _has_instance(self, step: Step, seconds: float) -> bool:
        """Tells whether the step's MIG instance is there; one half made still is, but is not what was to be made."""
        there = self._call(step, "mig_instances", seconds)["instances"]
        wanted = (step.arguments["profile"], _place(step))
        found = [each for each in there if (each["profile"], each["placement"]) == wanted]
        return any(each["compute"] or step.verb == "destroy_mig" for each in found)

    def _mdev(self, step: Step) -> str | None:
        """Gives the type of the step's mediated device, None if there is no such device."""
        self._names(step)
        return self._link(step, f"{step.arguments['uuid']}/mdev_type")

    def _names(self, step: Step) -> list[str]:
        try:
            return [each.name for each in (self._devices / step.target).iterdir()]
        except OSError:
            raise Gone(step.target) from None

    def _link(self, step: Step, name: str) -> str | None:
        try:
            return (self._devices / step.target / name).readlink().name
        except OSError:
            return None

    def _call(self, step: Step, verb: str, seconds: float, **arguments: Any) -> dict[str, Any]:
        try:
            return self._privileged.call(verb, _patience(step, seconds), address=step.target, **arguments)
        except VerbStuck as error:
            raise StepStuck(str(error), step.target) from error
        except VerbRefused as error:
            if error.gone:
                raise Gone(step.target) from error
            raise StepFailed(error.kind, str(error), step.target, error.holders) from error
        except VerbFailed as error:
            raise StepFailed(RefusalKind.RETRY, str(error), step.target) from error


_READ: Final[Mapping[str, Callable[[PrivilegedMachine, Step, float], Mapping[str, Any]]]] = {
    "bind": PrivilegedMachine._driver,
    "set_vf_count": PrivilegedMachine._vf_count,
    "set_vgpu_type": PrivilegedMachine._vgpu_type,
    "set_vf_attributes": PrivilegedMachine._vf_attributes,
    "set_mig_mode": PrivilegedMachine._mig_mode,
}


def _place(step: Step) -> str | int | None:
    """Gives where a MIG instance is or is to be: a step that leaves it open has it in its `undo`."""
    placement = step.arguments["placement"]
    return step.undo["placement"] if placement is None and step.undo is not None else placement


def _patience(step: Step, seconds: float) -> float:
    if step.verb == "scrub":
        return _PATIENCE_S if step.arguments["how"] in _QUICK_WIPES else _WIPE_S
    return min(seconds, _PATIENCE_S)


def _counts(step: Step, name: str) -> bool:
    """Tells whether an argument says how something is to be: of a VF's attributes, None says that it may be any."""
    return step.verb != "set_vf_attributes" or step.arguments[name] is not None


def _is(now: object, wanted: object, step: Step) -> bool:
    """A driver need not tell all of a VF's attributes; what it does not tell was set, and cannot be checked."""
    return now == wanted or (now is None and step.verb == "set_vf_attributes")


def _usual_override(driver: object) -> str | None:
    """Gives the override that goes with a driver: nothing else would match one of VFIO's."""
    return driver if isinstance(driver, str) and is_vfio(driver) else None
