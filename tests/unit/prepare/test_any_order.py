# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whatever comes in whatever order: a device has one consumer at most, and what nobody has is as it was at first.

Consumers prepare and release, the agent is killed anywhere, verbs fail and hang, devices go and come back, the host
boots: hypothesis makes the stories up, and a model of a few lines says what must be so after each of their events.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from devagent.errors import PreparedOtherwise
from devagent.model.handle import Handle, MdevHandle
from devagent.model.preparation import Preparation, State
from devagent.prepare.executor import Executor
from devagent.prepare.recovery import recover
from devagent.prepare.runs import REBOOTED, Patience

from .fake_machine import FakeMachine, Function, Kernel, Plans, build, request
from .traps import Killed, Trap, TrappedJournal, raise_killed

CONSUMERS = st.sampled_from(["A", "B", "C", "D"])
CLASSES = st.lists(st.sampled_from(["VF", "MDEV", "VGPU", "FPGA"]), min_size=1, max_size=3).map(tuple)
POINTS = st.integers(0, 60)
PARTS = ["0000:10:01.0", "0000:10:01.1", "0000:10:1d.0", "0000:10:1e.0", "0000:10:1f.0"]
VERBS = ["bind", "create_mdev", "remove_mdev", "set_vgpu_type", "program_fpga", "reset", "scrub"]
TROUBLE = st.tuples(st.sampled_from(VERBS), st.sampled_from(PARTS))


class Lives(RuleBasedStateMachine):
    """The host, and what must be so on it: `ready` are the true handles by consumer."""

    def __init__(self) -> None:
        super().__init__()
        self.top = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.kernel = Kernel()
        build(self.kernel, cards=1, vfs=2)
        self.at_rest = self.kernel.state()
        self.machine = FakeMachine(self.kernel)
        self.unplugged: dict[str, Function] = {}
        self.ready: dict[str, tuple[Handle, ...]] = {}
        self.boot = 1
        self.start()

    def start(self) -> None:
        self.journal = TrappedJournal(self.top / "journal.db", f"boot {self.boot}")
        patience = Patience(undo=60.0, look_again=0.001, tombstone=0.0)
        self.executor = Executor(self.journal, self.machine, patience)

    def teardown(self) -> None:
        """However it went: once nothing fails any more, all can be released, and nothing is left."""
        self.heal()
        for address in list(self.unplugged):
            self.replug(address)
        for consumer in "ABCD":
            assert self.executor.release(consumer, Plans(self.kernel).release, 60.0) is None
        assert self.kernel.state() == self.at_rest
        assert self.journal.entries() == ()
        assert self.journal.holdings().consumers == {}
        self.journal.close()
        shutil.rmtree(self.top)

    @rule(consumer=CONSUMERS, classes=CLASSES)
    def prepare(self, consumer: str, classes: tuple[str, ...]) -> None:
        asked = request(consumer, *classes)
        try:
            answer = self.executor.prepare(asked, Plans(self.kernel, asked), 60.0)
        except PreparedOtherwise:
            return
        if isinstance(answer, Preparation):
            self.ready[consumer] = answer.handles
            for handle in answer.handles:
                self.kernel.used(handle)

    @rule(consumer=CONSUMERS)
    def release(self, consumer: str) -> None:
        self.ready.pop(consumer, None)
        left = self.executor.release(consumer, Plans(self.kernel).release, 60.0)
        assert left is None or self.machine.failing or self.machine.hanging or self.unplugged

    @rule(consumer=CONSUMERS, classes=CLASSES, point=POINTS, releasing=st.booleans(), boots=st.booleans())
    def killed(self, consumer: str, classes: tuple[str, ...], point: int, releasing: bool, boots: bool) -> None:
        self.kernel.trap = self.journal.trap = Trap(point, raise_killed)
        try:
            if releasing:
                self.release(consumer)
            else:
                self.prepare(consumer, classes)
        except Killed:
            pass
        self.kernel.trap = self.journal.trap = Trap()
        self.restart(boots)

    @rule(boots=st.booleans())
    def restart(self, boots: bool) -> None:
        self.journal.close()
        if boots:
            self.boot += 1
            self.kernel.reboot()
            self.ready.clear()
        self.start()
        left = dict(recover(self.journal, self.executor))
        for consumer, why in list(left.items()):
            # A release that a boot has interrupted is planned anew by who can look at the devices, as Upkeep does.
            if why == REBOOTED and self.executor.release(consumer, Plans(self.kernel).release, 60.0) is None:
                del left[consumer]
        assert not left or self.machine.failing or self.machine.hanging or self.unplugged

    @rule(trouble=TROUBLE)
    def fails(self, trouble: tuple[str, str]) -> None:
        self.machine.failing.add(trouble)

    @rule(trouble=TROUBLE)
    def hangs(self, trouble: tuple[str, str]) -> None:
        self.machine.hanging.add(trouble)

    @precondition(lambda self: self.machine.failing or self.machine.hanging)
    @rule()
    def heal(self) -> None:
        self.machine.failing.clear()
        self.machine.hanging.clear()

    @rule(address=st.sampled_from(PARTS))
    def unplug(self, address: str) -> None:
        gone = self.kernel.functions.pop(address, None)
        if gone is not None:
            self.unplugged[address] = gone
        self.ready = {
            consumer: handles
            for consumer, handles in self.ready.items()
            if address not in {handle.function for handle in handles}
        }

    @precondition(lambda self: self.unplugged)
    @rule(data=st.data())
    def plug(self, data: Any) -> None:
        self.replug(data.draw(st.sampled_from(sorted(self.unplugged))))

    def replug(self, address: str) -> None:
        """It has lost its power meanwhile, but not what is stored in it."""
        old = self.unplugged.pop(address)
        self.kernel.functions[address] = Function(old.own, old.pf, old.index, old.own, dirty=old.dirty)

    @invariant()
    def nothing_has_two_consumers(self) -> None:
        keys = [handle.key for handles in self.ready.values() for handle in handles]
        assert len(keys) == len(set(keys))

    @invariant()
    def handles_are_true(self) -> None:
        for consumer, handles in self.ready.items():
            entry = self.journal.get(consumer)
            assert entry is not None
            assert entry.preparation.state is State.PREPARED
            assert entry.preparation.handles == handles
            for handle in handles:
                function = self.kernel.functions[handle.function]
                if isinstance(handle, MdevHandle):
                    assert handle.uuid in function.mdevs
                else:
                    assert function.vgpu == 557 if function.own == "nvidia" else function.driver == "vfio-pci"

    @invariant()
    def what_nobody_holds_is_as_it_was(self) -> None:
        held = self.journal.holdings().consumers
        for address, state in self.kernel.state().items():
            state["mdevs"] = {uuid: kind for uuid, kind in state["mdevs"].items() if uuid not in held}
            if address not in held:
                if self.at_rest[address]["own"] == "i915":
                    state["dirty"] = False  # a parent is used by those who have its mediated devices
                assert state == self.at_rest[address]


Lives.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLives = Lives.TestCase
