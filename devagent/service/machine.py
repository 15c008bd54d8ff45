# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The machine, as the executor changes it: the privileged process's verbs for the steps of a plan.

What is read here are links and names of sysfs, which wait for no lock of the kernel; whatever may wait, reading
included (a driver_override waits for its device's), is done by the privileged process, which can leave it behind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from devagent.errors import VerbFailed, VerbStuck
from devagent.model.plan import Arguments, Step
from devagent.model.preparation import RefusalKind
from devagent.prepare.attributes import NEUTRAL
from devagent.prepare.functions import is_vfio
from devagent.prepare.machine import Gone, Machine, StepFailed, StepStuck
from devagent.privileged import Privileged
from devagent.privileged.refused import VerbRefused

_PATIENCE_S: Final = 120.0
"""For one verb at most, however much time there is: a reset may take 60 s, and what hangs must be known in time to
undo the rest and to try another host."""

_READY: Final = frozenset(
    {"bind", "reset", "create_mdev", "remove_mdev", "set_vgpu_type", "set_vf_attributes", "set_vf_count"}
)


class PrivilegedMachine(Machine):
    """The host itself; `root` is where its tree begins, as the privileged process has it."""

    def __init__(self, privileged: Privileged, root: Path = Path("/")) -> None:
        self._privileged = privileged
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
        now = self._now(step, seconds)
        if step.verb == "set_vf_attributes":
            # A driver may take what it does not tell: it is brought back to what a VF has by itself.
            now = {name: NEUTRAL[name] if value is None else value for name, value in now.items()}
        # What is not to be changed need not be brought back.
        return {name: now[name] if _counts(step, name) else None for name in step.arguments}

    def do(self, step: Step, seconds: float) -> None:
        """Has the privileged process do the step."""
        usual = {"override": _usual_override(step.arguments["driver"])} if step.verb == "bind" else {}
        self._call(step, step.verb, seconds, **{**usual, **step.arguments})

    def check(self, step: Step, seconds: float) -> bool:
        """Tells whether the machine is as the step makes it."""
        if step.verb == "create_mdev":
            return self._mdev(step) == step.arguments["type"]
        if step.verb == "remove_mdev":
            return self._mdev(step) is None
        now = self._now(step, seconds)
        return all(_is(now[name], value, step) for name, value in step.arguments.items() if _counts(step, name))

    def _now(self, step: Step, seconds: float) -> Mapping[str, Any]:
        read = _READ.get(step.verb)
        if read is None:
            raise _unable(step)
        return read(self, step, seconds)

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
        if step.verb not in _READY:
            raise _unable(step)
        try:
            return self._privileged.call(verb, min(seconds, _PATIENCE_S), address=step.target, **arguments)
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
}


def _counts(step: Step, name: str) -> bool:
    """Tells whether an argument says how something is to be: of a VF's attributes, None says that it may be any."""
    return step.verb != "set_vf_attributes" or step.arguments[name] is not None


def _is(now: object, wanted: object, step: Step) -> bool:
    """A driver need not tell all of a VF's attributes; what it does not tell was set, and cannot be checked."""
    return now == wanted or (now is None and step.verb == "set_vf_attributes")


def _usual_override(driver: object) -> str | None:
    """Gives the override that goes with a driver: nothing else would match one of VFIO's."""
    return driver if isinstance(driver, str) and is_vfio(driver) else None


def _unable(step: Step) -> StepFailed:
    reason = f"{step.target}: this version cannot do {step.verb} yet"
    return StepFailed(RefusalKind.PERMANENT, reason, step.target)
