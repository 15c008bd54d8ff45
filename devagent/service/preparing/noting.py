# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A machine that remembers when each of its functions was changed last, so that what was seen before counts no more.

It tells, too, of every step that hangs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from devagent.model.plan import Arguments, Plan, Step
from devagent.prepare.machine import Machine, StepStuck
from devagent.prepare.view import View, functions

_SHARED: Final = ("create_mdev", "set_vgpu_type", "create_mig", "program_fpga")
"""What one function gets of these hangs on what the others of its device have."""


class NotingMachine:
    """Does the verbs as the machine behind it does; `hung` gets the function on which one hangs, and what to say."""

    def __init__(self, machine: Machine, hung: Callable[[str, str], None]) -> None:
        self._machine, self._hung = machine, hung
        self._changed: dict[str, float] = {}
        self._condition = threading.Condition()

    def before(self, step: Step, seconds: float) -> Arguments:
        """Gives what is there now: see Machine."""
        with self._telling():
            return self._machine.before(step, seconds)

    def do(self, step: Step, seconds: float) -> None:
        """Does the step, and notes that it was done, or may have been."""
        try:
            with self._telling():
                self._machine.do(step, seconds)
        finally:
            with self._condition:
                self._changed[step.target] = time.monotonic()
                self._condition.notify_all()

    def check(self, step: Step, seconds: float) -> bool:
        """Tells whether the machine is as the step makes it: see Machine."""
        with self._telling():
            return self._machine.check(step, seconds)

    def changed(self, began: float) -> frozenset[str]:
        """Gives the addresses of the functions that were changed after a look had begun (time.monotonic)."""
        with self._condition:
            return frozenset(address for address, at in self._changed.items() if at >= began)

    def outdated(self, plan: Plan, view: View, began: float) -> bool:
        """Tells whether something that a plan rests on was changed after the look behind `view` had begun."""
        touched = {step.target for step in plan.steps}
        for handle in plan.handles:
            _, part = view.parts[handle.function]
            members = view.groups.get(part.iommu_group, ()) if part.iommu_group is not None else ()
            touched.update([handle.function, *(each.address for each in members)])
        for step in plan.steps:
            if step.verb in _SHARED and step.target in view.parts:
                touched.update(part.address for part in functions(view.parts[step.target][0]))
        with self._condition:
            return any(self._changed.get(address, 0.0) >= began for address in touched)

    def wait(self, seconds: float) -> None:
        """Waits until something was changed, and no longer than `seconds`."""
        with self._condition:
            self._condition.wait(max(0.0, seconds))

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except StepStuck as error:
            self._hung(error.refusal.address or "", error.refusal.reason)
            raise
