# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A machine that has NVML closed while an NVIDIA GPU changes hands, and open only where nobody needs it closed.

NVIDIA's driver gives no GPU away while anybody has it open, and NVML opens them all: a look in the wrong second would
hold up a step for as long as it takes, and one that hangs for ever. Steps on other devices never wait for NVML.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Final

from devagent.errors import GateBusy
from devagent.model.plan import Arguments, Step
from devagent.model.preparation import Holder, RefusalKind
from devagent.nvml_gate import NvmlGate
from devagent.prepare.machine import Machine, StepFailed

_ASKING: Final = ("create_mig", "destroy_mig", "set_mig_mode")
"""Verbs that ask NVML themselves."""
_TAKING: Final = ("bind", "reset", "scrub", "set_vf_count")
"""Verbs that take a function from its driver, or that its driver must let happen."""
_PATIENCE_S: Final = 30.0


class GatedMachine:
    """Does the verbs as the machine behind it does; `root` is where its tree begins."""

    def __init__(self, machine: Machine, gate: NvmlGate, root: Path = Path("/")) -> None:
        self._machine, self._gate = machine, gate
        self._devices = root / "sys/bus/pci/devices"

    def before(self, step: Step, seconds: float) -> Arguments:
        """Gives what is there now: see Machine."""
        with self._asking(step, seconds):
            return self._machine.before(step, seconds)

    def do(self, step: Step, seconds: float) -> None:
        """Does the step."""
        if step.verb == "set_mig_mode" or (step.verb in _TAKING and "nvidia" in self._drivers(step)):
            with _refusing(step), self._gate.shut(min(seconds, _PATIENCE_S)):
                self._machine.do(step, seconds)
        else:
            with self._asking(step, seconds):
                self._machine.do(step, seconds)

    def check(self, step: Step, seconds: float) -> bool:
        """Tells whether the machine is as the step makes it: see Machine."""
        with self._asking(step, seconds):
            return self._machine.check(step, seconds)

    @contextmanager
    def _asking(self, step: Step, seconds: float) -> Iterator[None]:
        gate: AbstractContextManager[None] = nullcontext()
        if step.verb in _ASKING:
            gate = self._gate.open(min(seconds, _PATIENCE_S))
        with _refusing(step), gate:
            yield

    def _drivers(self, step: Step) -> set[str]:
        """Gives the driver that a function has, and the one that it shall have; none where that is the same."""
        try:
            now = (self._devices / step.target / "driver").readlink().name
        except OSError:
            now = ""
        wanted = str(step.arguments.get("driver") or "") if step.verb == "bind" else None
        return set() if now == wanted else {now, wanted or ""}


@contextmanager
def _refusing(step: Step) -> Iterator[None]:
    """Makes of a gate that does not move a step that is worth another try."""
    try:
        yield
    except GateBusy as error:
        holders = tuple(Holder(pid=pid, command="devagent") for pid in error.pids)
        raise StepFailed(RefusalKind.RETRY, f"{step.target}: {error}", step.target, holders) from None
