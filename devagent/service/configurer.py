# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Makes what the policy asks for and the machine lacks: VFs. What it is at is nobody's until it is done."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Final

from devagent.errors import DevagentError, VerbStuck
from devagent.inventory.vfs import Step, plan
from devagent.model.device import Device
from devagent.model.policy import Policy
from devagent.nvml_gate import NvmlGate
from devagent.privileged import Privileged, hanging
from devagent.service.facts import Refused
from devagent.service.metrics import Metrics

LOG = logging.getLogger(__name__)

_DEADLINE: Final = 30.0
_DEADLINE_PER_VF: Final = 1.0
"""The kernel probes the VFs one after the other before it answers, and some drivers take their time with each."""
_AGAIN: Final = 300.0
_NVML_S: Final = 60.0
"""For as long as a look at all GPUs may take, or another GPU of this host its own VFs."""


@dataclass(frozen=True, slots=True)
class _Failure:
    step: Step
    why: str
    until: float
    stuck: bool
    at: float

    def stands(self, step: Step, now: float) -> bool:
        """Tells whether `step`, which is to be done now, has to wait because of what failed before."""
        if step.count == 0 and self.step.count:
            # It made some, but not as many as it should: taking them away to try again would go on for ever.
            return True
        return self.step == step and now < self.until


class Configurer:
    """Runs the steps of each PF in a thread of its own, so that one that hangs holds up no other.

    `ready` is told the address of each PF whose step has ended, however it did.
    """

    def __init__(
        self,
        privileged: Privileged,
        ready: Callable[[str], None],
        metrics: Metrics,
        gate: NvmlGate,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._privileged, self._ready, self._monotonic = privileged, ready, monotonic
        self._metrics, self._gate = metrics, gate
        self._lock = threading.Condition()
        self._running: dict[str, Step] = {}
        self._failed: dict[str, _Failure] = {}

    @property
    def running(self) -> frozenset[str]:
        """The addresses of the PFs that are being configured now."""
        with self._lock:
            return frozenset(self._running)

    @property
    def stuck(self) -> dict[str, str]:
        """The PFs on which a step hangs in the kernel, each with what it was."""
        with self._lock:
            return {address: each.why for address, each in self._failed.items() if each.stuck}

    @property
    def hung(self) -> tuple[tuple[str, str, float], ...]:
        """The same, with the time since when (epoch seconds)."""
        with self._lock:
            return tuple((address, each.why, each.at) for address, each in self._failed.items() if each.stuck)

    def advance(self, devices: Iterable[Device], policy: Policy, held: frozenset[str] | None) -> tuple[Refused, ...]:
        """Begins what is lacking, and gives what cannot be had.

        `held` are the devices that Placement's consumers have; while that is unknown, no VF is taken away.
        """
        self._forget_ended()
        wanted = plan(devices, policy, held)
        refused = [Refused(each.address, each.what, each.why) for each in wanted.refused]
        with self._lock:
            now = self._monotonic()
            asked = {step.address: step for step in wanted.steps}
            self._failed = {
                address: failure
                for address, failure in self._failed.items()
                if failure.stuck or (address in asked and failure.stands(asked[address], now))
            }
            for step in wanted.steps:
                failure = self._failed.get(step.address)
                if failure is not None:
                    refused.append(Refused(step.address, step.what, failure.why))
                elif step.address not in self._running:
                    self._running[step.address] = step
                    threading.Thread(target=self._run, args=(step,), name=f"vfs-{step.address}", daemon=True).start()
        return tuple(refused)

    def _forget_ended(self) -> None:
        """Asks whether what hung has come to its end since."""
        if not self.stuck:
            return
        with suppress(DevagentError):
            left = hanging(self._privileged)
            with self._lock:
                self._failed = {
                    address: failure
                    for address, failure in self._failed.items()
                    if not failure.stuck or address in left
                }

    def forgive(self) -> None:
        """Tries again at once what failed, as after a reload or on an operator's word."""
        with self._lock:
            self._failed = {address: failure for address, failure in self._failed.items() if failure.stuck}

    def wait(self, seconds: float) -> bool:
        """Waits until nothing runs; tells whether that is so."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._running, seconds)

    def _run(self, step: Step) -> None:
        failure = None
        extra = {"device": step.address}
        deadline = _DEADLINE + _DEADLINE_PER_VF * step.count
        LOG.info("making %s", step.what, extra=extra)
        try:
            with self._gate.shut(_NVML_S) if step.driver == "nvidia" else nullcontext():
                self._privileged.call("set_vf_count", deadline, address=step.address, count=step.count)
            LOG.info("has %s now", step.what, extra=extra)
            self._metrics.verb("set_vf_count", "ok")
        except DevagentError as error:
            stuck = isinstance(error, VerbStuck)
            failure = _Failure(step, str(error), self._monotonic() + _AGAIN, stuck, time.time())
            LOG.error("%s cannot be made: %s", step.what, error, extra=extra)
            self._metrics.verb("set_vf_count", "stuck" if stuck else "failed")
        finally:
            with self._lock:
                self._running.pop(step.address, None)
                if failure is not None:
                    self._failed[step.address] = failure
                self._lock.notify_all()
            self._ready(step.address)
