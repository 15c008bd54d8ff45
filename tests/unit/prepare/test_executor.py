# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a caller of the executor sees, and what stands on the machine and in the journal afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from devagent.errors import JournalError, PreparedOtherwise
from devagent.model.plan import Plan, Step
from devagent.model.preparation import Holder, Holdings, Preparation, Refusal, RefusalKind, State
from devagent.prepare.executor import Executor
from devagent.prepare.journal import Journal
from devagent.prepare.recovery import recover
from devagent.prepare.runs import REBOOTED, Patience

from .fake_machine import FakeMachine, Kernel, Plans, build, request

VF = "0000:10:01.0"
PF = "0000:10:00.0"
GPU = "0000:10:1d.0"
VFS = [f"0000:{bus}:01.{index}" for bus in (10, 11) for index in range(3)]


class Host:
    """A machine, a journal, and an executor for them."""

    def __init__(self, path: Path, boot_id: str = "boot 1") -> None:
        self.path = path
        self.kernel = Kernel()
        build(self.kernel)
        self.at_rest = self.kernel.state()
        self.machine = FakeMachine(self.kernel)
        self.start(boot_id)

    def start(self, boot_id: str) -> None:
        self.journal = Journal(self.path, boot_id)
        self.executor = Executor(self.journal, self.machine, Patience(undo=5.0, look_again=0.01, tombstone=0.0))

    def restart(self, boot_id: str = "boot 1") -> None:
        self.journal.close()
        self.start(boot_id)

    def prepare(self, consumer: str, *classes: str, seconds: float = 5.0, wait: float = 0.0) -> Preparation | Refusal:
        asked = request(consumer, *classes)
        return self.executor.prepare(asked, Plans(self.kernel, asked), seconds, wait=wait)

    def prepared(self, consumer: str, *classes: str) -> Preparation:
        answer = self.prepare(consumer, *classes)
        assert isinstance(answer, Preparation), answer
        return answer

    def refused(self, consumer: str, *classes: str, seconds: float = 5.0, wait: float = 0.0) -> Refusal:
        answer = self.prepare(consumer, *classes, seconds=seconds, wait=wait)
        assert isinstance(answer, Refusal), answer
        return answer

    def release(self, consumer: str, seconds: float = 5.0, tombstone: float = 0.0) -> Refusal | None:
        return self.executor.release(consumer, Plans(self.kernel).release, seconds, tombstone=tombstone)

    def state(self, consumer: str) -> State | None:
        entry = self.journal.get(consumer)
        return entry.preparation.state if entry else None


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path / "journal.db")
    yield made
    made.journal.close()


def test_a_prepared_device_is_as_its_handle_says(host: Host) -> None:
    prepared = host.prepared("A", "VF", "MDEV", "FPGA", "VGPU")
    vf, mdev, fpga, vgpu = prepared.handles
    assert prepared.state is State.PREPARED
    assert host.kernel.functions[vf.function].driver == "vfio-pci"
    assert host.kernel.functions[vf.function].attributes == {"mac": "02:00:00:00:00:01", "vlan": 7}
    assert host.kernel.functions[mdev.function].mdevs == {mdev.key: "i915-GVTg"}
    assert host.kernel.functions[fpga.function].image == "tenant"
    assert host.kernel.functions[vgpu.function].vgpu == 557
    assert prepared.done == tuple(range(len(prepared.plan.steps)))


def test_the_same_request_again_gives_the_same_answer_and_does_nothing(host: Host) -> None:
    first = host.prepared("A", "VF")
    host.machine.done.clear()
    assert host.prepared("A", "VF") == first
    assert not host.machine.done


def test_so_does_that_for_a_device_which_nova_itself_gave(host: Host) -> None:
    asked = request("A", "VF")
    asked = replace(asked, groups=tuple(replace(each, owner="nova", address=VF) for each in asked.groups))
    first, second = (host.executor.prepare(asked, Plans(host.kernel, asked), 5.0) for _ in range(2))
    assert isinstance(first, Preparation)
    assert second == first


def test_another_request_for_the_same_consumer_is_an_error(host: Host) -> None:
    host.prepared("A", "VF")
    with pytest.raises(PreparedOtherwise):
        host.prepare("A", "MDEV")


def test_a_release_leaves_the_machine_as_it_was_and_the_device_wiped(host: Host) -> None:
    for handle in host.prepared("A", "VF", "MDEV", "FPGA", "VGPU").handles:
        host.kernel.used(handle)
    assert host.release("A") is None
    assert host.kernel.state() == host.at_rest
    assert host.journal.holdings().consumers == {}
    assert host.journal.holdings().released.keys() == {VF, GPU, "0000:10:1e.0", "0000:10:1f.0"}


def test_a_release_of_nobody_is_done(host: Host) -> None:
    assert host.release("A") is None


def test_a_retry_that_comes_after_the_release_is_refused_until_the_tombstone_expires(host: Host) -> None:
    host.release("A", tombstone=1000.0)
    assert host.refused("A", "VF").kind is RefusalKind.RETRY
    host.release("A", tombstone=-1.0)
    assert host.refused("A", "VF").kind is RefusalKind.RETRY


def test_a_stopped_consumer_may_start_again_at_once(host: Host) -> None:
    first = host.prepared("A", "VF")
    host.release("A")
    assert host.prepared("A", "VF").handles == first.handles


def test_no_device_has_two_consumers(host: Host) -> None:
    handles = [host.prepared(consumer, "VF").handles[0].key for consumer in "ABCDEF"]
    assert sorted(handles) == VFS
    refusal = host.refused("G", "VF")
    assert refusal.kind is RefusalKind.RETRY
    assert [holder.consumer for holder in refusal.holders] == list("ABCDEF")


def test_consumers_at_once_get_different_devices(host: Host) -> None:
    answers: dict[str, Preparation | Refusal] = {}
    together = threading.Barrier(8)

    def ask(consumer: str) -> None:
        together.wait()
        answers[consumer] = host.prepare(consumer, "VF", "MDEV")

    threads = [threading.Thread(target=ask, args=(consumer,)) for consumer in "ABCDEFGH"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ready = [answer for answer in answers.values() if isinstance(answer, Preparation)]
    assert sorted(answer.handles[0].key for answer in ready) == VFS
    assert sum(len(function.mdevs) for function in host.kernel.functions.values()) == len(VFS)


def test_the_same_consumer_twice_at_once_is_prepared_once(host: Host) -> None:
    answers: list[Preparation | Refusal] = []
    threads = [threading.Thread(target=lambda: answers.append(host.prepare("A", "VF", "MDEV"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert all(answer == answers[0] for answer in answers)
    assert len(host.machine.done) == 3


@pytest.mark.parametrize("failing", [("set_vf_attributes", PF), ("bind", VF), ("create_mdev", GPU)])
def test_what_fails_is_undone_and_free_again(host: Host, failing: tuple[str, str]) -> None:
    host.machine.failing = {failing}
    refusal = host.refused("A", "VF", "MDEV")
    assert (refusal.kind, refusal.address) == (RefusalKind.PERMANENT, failing[1])
    assert host.kernel.state() == host.at_rest
    assert host.state("A") is State.FAILED
    assert host.journal.holdings().consumers == {}
    host.machine.failing.clear()
    assert host.prepared("A", "VF", "MDEV").state is State.PREPARED


def test_success_that_the_machine_does_not_show_is_a_failure(host: Host) -> None:
    host.machine.lying = {("bind", VF)}
    refusal = host.refused("A", "VF")
    assert "driver=vfio-pci" in refusal.reason
    assert host.kernel.state() == host.at_rest


def test_what_a_step_really_finds_is_what_comes_back(host: Host) -> None:
    asked = request("A", "VF")
    planned = Plans(host.kernel, asked)(Holdings())
    host.kernel.unbind(VF)
    host.machine.failing = {("create_mdev", GPU)}
    found = host.executor.prepare(asked, lambda _: planned, 5.0)
    assert isinstance(found, Preparation)
    assert found.found[1] == {"driver": None}
    host.release("A")
    assert host.kernel.functions[VF].driver is None


def test_a_device_that_cannot_be_undone_stays_its_consumers_until_it_can(host: Host) -> None:
    def fails_later(step_to: str) -> None:
        if step_to == "after VF vlan":
            host.machine.failing.add(("set_vf_attributes", PF))

    host.machine.failing = {("create_mdev", GPU)}
    host.kernel.trap = fails_later
    assert "could not be undone" in host.refused("A", "VF", "MDEV").reason
    assert host.journal.holdings().consumers == {VF: "A", host_mdev(host): "A"}
    assert PF in host.journal.holdings().stuck
    host.kernel.trap = lambda _: None
    host.machine.failing.clear()
    assert recover(host.journal, host.executor) == {}
    assert host.journal.holdings().consumers == {}
    assert host.kernel.state() == host.at_rest


def host_mdev(host: Host) -> str:
    entry = host.journal.get("A")
    assert entry is not None
    return entry.preparation.plan.handles[1].key


@pytest.mark.parametrize("asked", ["the agent", "the caller", "the caller, to release"])
def test_what_was_undone_while_the_disk_was_full_is_failed_and_not_taken_up_again(
    host: Host, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    def full(*_: object) -> None:
        raise JournalError(host.path, "the disk is full")

    host.machine.failing = {("create_mdev", GPU)}
    with monkeypatch.context() as while_full:
        for name in ("failed", "undone"):
            while_full.setattr(host.journal, name, full)
        assert "the disk is full" in host.refused("A", "VF", "MDEV").reason
        assert host.kernel.state() == host.at_rest
        why = host.executor.given_up("A")
        assert why is not None
        assert why.kind is RefusalKind.PERMANENT
        host.machine.failing.clear()
        assert "the disk is full" in str(host.executor.recover("A"))
    assert host.kernel.state() == host.at_rest
    if asked == "the agent":
        assert host.executor.recover("A") is None
        assert host.state("A") is State.FAILED
        assert host.kernel.state() == host.at_rest
    elif asked == "the caller":
        assert host.prepared("A", "VF", "MDEV").state is State.PREPARED
    else:
        assert host.release("A") is None
        assert host.state("A") is None
    assert host.executor.given_up("A") is None


def test_a_reason_does_not_grow_with_each_attempt_to_undo(host: Host) -> None:
    host.machine.hanging = {("bind", VF)}
    host.refused("A", "VF")
    reasons = [host.executor.recover("A") for _ in range(3)]
    assert reasons[0] is not None
    assert reasons[0] == reasons[1] == reasons[2]


def test_a_stuck_step_leaves_the_device_stuck_and_nobody_waits_for_it(host: Host) -> None:
    host.machine.hanging = {("bind", VF)}
    assert "hangs" in host.refused("A", "VF").reason
    assert host.state("A") is State.FAILED
    assert host.journal.holdings().stuck.keys() == {VF}
    assert host.prepared("B", "VF").handles[0].key == VFS[1]
    assert recover(host.journal, host.executor).keys() == {"A"}
    host.machine.hanging.clear()
    assert host.release("A") is None
    host.release("B")
    assert host.kernel.state() == host.at_rest


def test_a_release_that_fails_goes_on_where_it_was(host: Host) -> None:
    host.prepared("A", "MDEV", "VF")
    host.machine.failing = {("set_vf_attributes", PF)}
    assert host.release("A") is not None
    assert host.state("A") is State.RELEASING
    assert VF in host.journal.holdings().consumers
    host.machine.failing.clear()
    host.machine.done.clear()
    assert recover(host.journal, host.executor) == {}
    assert ("bind", VF) not in {(step.verb, step.target) for step in host.machine.done}
    assert host.kernel.state() == host.at_rest


def test_a_request_after_a_release_that_failed_finishes_it_first(host: Host) -> None:
    host.prepared("A", "VF")
    host.machine.failing = {("bind", VF)}
    assert host.release("A") is not None
    assert host.refused("A", "VF").address == VF
    host.machine.failing.clear()
    assert host.prepared("A", "MDEV").handles[0].function == GPU
    assert host.kernel.functions[VF].driver == "iavf"


def test_a_release_waits_for_who_has_the_device_open(host: Host) -> None:
    host.prepared("A", "VF")
    looks = []

    def plan(preparation: Preparation) -> object:
        looks.append(preparation)
        return Refusal(RefusalKind.RETRY, "in use") if len(looks) < 3 else Plans(host.kernel).release(preparation)

    assert host.executor.release("A", plan, 5.0) is None  # type: ignore[arg-type]
    assert len(looks) == 3


def test_a_release_of_a_device_that_stays_in_use_is_refused_and_changes_nothing(host: Host) -> None:
    host.prepared("A", "VF")
    in_use = Refusal(RefusalKind.RETRY, "in use", VF, (Holder("B"),))
    assert host.executor.release("A", lambda _: in_use, 0.03) == in_use
    assert host.state("A") is State.PREPARED


def test_a_busy_device_is_waited_for_without_a_lock(host: Host) -> None:
    for consumer in "ABCDEF":
        host.prepared(consumer, "VF")
    answers: list[Preparation | Refusal] = []
    waiting = threading.Thread(target=lambda: answers.append(host.prepare("G", "VF", wait=5.0)))
    waiting.start()
    assert host.release("C") is None  # it would wait for a lock that a waiting one has
    waiting.join()
    assert isinstance(answers[0], Preparation)
    assert answers[0].handles[0].key == VFS[2]


def test_a_release_ends_the_wait_for_a_busy_device(host: Host) -> None:
    for consumer in "ABCDEF":
        host.prepared(consumer, "VF")
    answers: list[Preparation | Refusal] = []
    asked = threading.Event()
    plans = Plans(host.kernel, request("G", "VF"))

    def plan(holdings: Holdings) -> object:
        asked.set()
        return plans(holdings)

    def ask() -> None:
        answers.append(host.executor.prepare(request("G", "VF"), plan, 60.0, wait=60.0))  # type: ignore[arg-type]

    waiting = threading.Thread(target=ask)
    waiting.start()
    asked.wait()
    assert host.release("G") is None
    waiting.join()
    assert isinstance(answers[0], Refusal)


def test_a_release_ends_a_preparation_under_way(host: Host) -> None:
    started, going_on = threading.Event(), threading.Event()

    def hold(point: str) -> None:
        if point == "after VF vlan" and not started.is_set():
            started.set()
            going_on.wait()

    host.kernel.trap = hold
    answers: list[Preparation | Refusal] = []
    preparing = threading.Thread(target=lambda: answers.append(host.prepare("A", "VF")))
    preparing.start()
    started.wait()
    releasing = threading.Thread(target=lambda: host.release("A"))
    changes = host.executor._changes.count
    releasing.start()
    host.executor._changes.wait(changes, 10)  # it says so once it has asked for the end
    going_on.set()
    preparing.join()
    releasing.join()
    assert isinstance(answers[0], Refusal)
    assert host.kernel.state() == host.at_rest
    assert host.state("A") is None


def test_different_cards_do_not_wait_for_each_other(host: Host) -> None:
    host.prepared("A", "FPGA")
    inside, other_done = threading.Event(), threading.Event()

    def hold(point: str) -> None:
        if not inside.is_set():
            inside.set()
            assert other_done.wait(10)

    host.kernel.trap = hold
    slow = threading.Thread(target=lambda: host.prepare("B", "VF"))
    slow.start()
    inside.wait()
    assert host.prepared("C", "FPGA").handles[0].function == "0000:11:1f.0"
    other_done.set()
    slow.join()
    assert host.state("B") is State.PREPARED


def test_one_card_is_changed_by_one_at_a_time(host: Host) -> None:
    inside, tried = threading.Event(), threading.Event()

    def hold(point: str) -> None:
        if point == "before VF mac" and not inside.is_set():
            inside.set()
            assert tried.wait(10)

    host.kernel.trap = hold
    slow = threading.Thread(target=lambda: host.prepare("A", "VF"))
    slow.start()
    inside.wait()
    assert host.refused("B", "VF", seconds=0.01).reason == f"pf:{PF} is at work for somebody else"
    tried.set()
    slow.join()
    assert host.journal.holdings().consumers == {VF: "A"}


def test_no_time_left_is_a_failure_that_leaves_nothing(host: Host) -> None:
    assert "no time" in host.refused("A", "VF", seconds=0.0).reason
    assert host.kernel.state() == host.at_rest


def test_a_device_that_is_gone_before_it_was_wiped_is_nobodys_until_it_is(host: Host) -> None:
    host.kernel.used(host.prepared("A", "VF").handles[0])
    gone = host.kernel.functions.pop(VF)
    refusal = host.release("A")
    assert refusal is not None
    assert "cannot be wiped" in refusal.reason
    assert host.journal.holdings().consumers == {VF: "A"}
    host.kernel.functions[VF] = gone
    assert host.release("A") is None
    assert not gone.dirty


def test_a_wipe_takes_its_time_and_the_steps_after_it_have_theirs(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.prepared("A", "VF", "MDEV")
    do = host.machine.do

    def slowly(step: Step, seconds: float) -> None:
        time.sleep(0.5 if step.verb == "scrub" else 0.0)
        do(step, seconds)

    monkeypatch.setattr(host.machine, "do", slowly)
    assert host.release("A", seconds=0.4) is None
    assert [step.verb for step in host.machine.done][-4:] == ["reset", "scrub", "reset", "scrub"]


def test_who_is_at_work_for_a_consumer_is_known(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recovery may wait for a wipe for an hour; the upkeep must not queue behind it."""
    host.prepared("A", "VF")
    seen, do = [], host.machine.do

    def look(step: Step, seconds: float) -> None:
        seen.append([host.executor.is_at_work(consumer) for consumer in ("A", "B")])
        do(step, seconds)

    monkeypatch.setattr(host.machine, "do", look)
    host.release("A")
    assert set(map(tuple, seen)) == {(True, False)}
    assert not host.executor.is_at_work("A")


def test_a_device_that_is_gone_and_need_not_be_wiped_is_free(host: Host) -> None:
    plan = Plans(host.kernel).release(host.prepared("A", "VF"))
    plan = replace(plan, steps=tuple(step for step in plan.steps if step.verb != "scrub"))
    del host.kernel.functions[VF]
    assert host.executor.release("A", lambda _: plan, 5.0) is None
    assert host.journal.holdings().consumers == {}


def test_what_somebody_changed_meanwhile_is_made_so_again_when_the_consumer_asks(host: Host) -> None:
    first = host.prepared("A", "VF", "MDEV")
    host.kernel.unbind(VF)
    assert host.prepared("A", "VF", "MDEV").handles == first.handles
    assert host.kernel.functions[VF].driver == "vfio-pci"
    host.release("A")
    assert host.kernel.state() == host.at_rest


def test_a_device_that_a_guest_has_had_is_wiped_also_if_it_cannot_be_made_ready_again(host: Host) -> None:
    host.kernel.used(host.prepared("A", "VF").handles[0])
    host.kernel.reboot()
    host.restart("boot 2")
    host.machine.failing = {("bind", VF)}
    assert host.refused("A", "VF").address == VF
    assert host.journal.holdings().consumers == {VF: "A"}
    assert host.prepared("B", "VF").handles[0].key == VFS[1]
    host.machine.failing.clear()
    assert host.release("A") is None
    assert not host.kernel.functions[VF].dirty


def test_an_image_that_a_boot_leaves_is_taken_back_all_the_same(host: Host) -> None:
    host.prepared("A", "FPGA")
    host.kernel.reboot()
    host.restart("boot 2")
    host.prepared("A", "FPGA")
    assert host.release("A") is None
    assert host.kernel.state() == host.at_rest


def test_an_image_that_no_other_takes_back_stays_when_the_rest_is_undone(host: Host) -> None:
    asked = request("A", "FPGA")
    plans = Plans(host.kernel, asked)

    def without_blank(holdings: Holdings) -> Plan | Refusal:
        plan = plans(holdings)
        assert isinstance(plan, Plan)
        program, bind = plan.steps
        return replace(plan, steps=(replace(program, undo=None), bind))

    handle = host.prepared("B", "FPGA").handles[0]
    assert host.release("B") is None
    host.machine.failing = {("bind", handle.function)}
    host.machine.done.clear()
    answer = host.executor.prepare(asked, without_blank, 5.0)
    assert isinstance(answer, Refusal)
    assert [step.verb for step in host.machine.done if step.verb == "program_fpga"] == ["program_fpga"]
    assert host.kernel.functions[handle.function].image == "tenant"
    assert host.journal.holdings().consumers == {}


def test_an_fpga_whose_blank_image_was_not_programmed_is_nobodys_whatever_it_says(host: Host) -> None:
    (handle,) = host.prepared("B", "FPGA").handles
    assert host.release("B") is None
    # It says that it has the blank one: so it may say, too, of one that a tenant made to say so.
    host.machine.failing = {("program_fpga", handle.function)}
    assert "could not be undone" in host.refused("A", "FPGA").reason
    assert host.journal.holdings().consumers == {handle.function: "A"}
    host.machine.failing.clear()
    assert host.release("A") is None
    assert host.kernel.state() == host.at_rest


def test_an_fpga_that_is_gone_before_it_was_wiped_is_nobodys_until_it_is(host: Host) -> None:
    (handle,) = host.prepared("A", "FPGA").handles
    wipe = Step("program_fpga", handle.function, {"digest": "factory"})
    gone = host.kernel.functions.pop(handle.function)
    refusal = host.executor.release("A", lambda asked: Plan(asked.consumer, (wipe,), (), asked.plan.locks), 5.0)
    assert refusal is not None
    assert "cannot be wiped" in refusal.reason
    host.kernel.functions[handle.function] = gone
    assert host.release("A") is None
    assert gone.image == "factory"


def test_a_device_that_vanishes_meanwhile_is_undone_as_far_as_it_is_there(host: Host) -> None:
    def vanish(point: str) -> None:
        if point == "before the verb bind":
            host.kernel.functions.pop(VF, None)

    host.kernel.trap = vanish
    assert host.refused("A", "MDEV", "VF").kind is RefusalKind.PERMANENT
    assert host.journal.holdings().consumers == {}
    assert not host.kernel.functions[GPU].mdevs


def test_after_a_boot_the_consumer_keeps_its_device_and_gets_it_made_ready_again(host: Host) -> None:
    before = host.prepared("A", "VF", "MDEV")
    host.kernel.reboot()
    host.restart("boot 2")
    assert recover(host.journal, host.executor) == {}
    assert host.kernel.state() == host.at_rest
    assert host.prepared("B", "VF").handles[0].key == VFS[1]
    again = host.prepared("A", "VF", "MDEV")
    assert (again.handles, again.boot_id) == (before.handles, "boot 2")
    assert host.kernel.functions[VF].driver == "vfio-pci"


def test_what_was_under_way_before_a_boot_is_given_up_and_nothing_of_others_touched(host: Host) -> None:
    interrupted(host, "VF", "FPGA", at="FPGA image, first half")
    host.kernel.reboot()
    # What there is of this boot somebody else has made, as drivers are bound by a rule of the host's.
    host.kernel.functions[VF].driver = "vfio-pci"
    host.restart("boot 2")
    host.machine.done.clear()
    assert recover(host.journal, host.executor) == {"A": REBOOTED}
    assert host.machine.done == []  # what has the address now may be another FPGA
    assert host.executor.recover("A") is None
    assert host.kernel.functions[VF].driver == "vfio-pci"
    assert host.kernel.functions["0000:10:1f.0"].image == "factory"
    assert host.journal.holdings().consumers == {}


def test_another_fpga_at_the_address_of_one_that_was_programmed_before_a_boot_is_left_alone(host: Host) -> None:
    place = "0000:10:1f.0"
    interrupted(host, "VF", "FPGA", at="FPGA image, first half")
    host.kernel.reboot()
    host.restart("boot 2")
    host.machine.done.clear()
    unseen = Refusal(RefusalKind.RETRY, "the look process hangs")
    assert host.executor.recover("A", lambda _: unseen) is unseen
    assert host.journal.holdings().consumers != {}
    assert host.executor.recover("A", lambda _: frozenset({place})) is None
    assert host.machine.done == []
    assert host.journal.holdings().consumers == {}


def test_what_was_given_is_not_made_again_while_others_stand_at_any_address_of_its_plan(host: Host) -> None:
    host.prepared("A", "VF", "MDEV")
    host.kernel.reboot()
    host.restart("boot 2")
    host.machine.done.clear()
    asked = request("A", "VF", "MDEV")
    answer = host.executor.prepare(asked, Plans(host.kernel, asked), 5.0, strangers=lambda _: frozenset({VF}))
    assert isinstance(answer, Refusal)
    assert (answer.kind, answer.address) == (RefusalKind.PERMANENT, VF)
    assert host.machine.done == []


def test_a_release_under_way_before_a_boot_still_wipes_once_it_is_planned_anew(host: Host) -> None:
    handle = host.prepared("A", "VF").handles[0]
    host.kernel.used(handle)
    host.machine.failing = {("bind", VF)}
    assert host.release("A") is not None
    host.kernel.reboot()
    host.machine.failing.clear()
    host.machine.done.clear()
    host.restart("boot 2")
    assert recover(host.journal, host.executor) == {"A": REBOOTED}
    assert host.machine.done == []  # what has the address now may be another device
    assert host.release("A") is None
    assert [step.verb for step in host.machine.done] == ["reset", "scrub"]
    assert not host.kernel.functions[VF].dirty


def test_what_is_too_late_to_finish_is_undone(host: Host) -> None:
    interrupted(host, "MDEV", "VF", at="after drivers_probe", seconds=0.0001)
    host.restart()
    assert recover(host.journal, host.executor) == {}
    assert host.state("A") is State.FAILED
    assert host.kernel.state() == host.at_rest


def test_what_is_in_time_is_finished(host: Host) -> None:
    interrupted(host, "MDEV", "VF", at="after unbind")
    host.restart()
    host.machine.done.clear()
    assert recover(host.journal, host.executor) == {}
    assert host.state("A") is State.PREPARED
    assert [step.verb for step in host.machine.done] == ["bind"]


def test_what_somebody_undid_meanwhile_is_done_again(host: Host) -> None:
    interrupted(host, "MDEV", "VF", at="after unbind")
    host.kernel.functions[GPU].mdevs.clear()
    host.restart()
    assert recover(host.journal, host.executor) == {}
    assert len(host.kernel.functions[GPU].mdevs) == 1


class Killed(BaseException):
    """The process is no more."""


def interrupted(host: Host, *classes: str, at: str, seconds: float = 60.0) -> None:
    def kill(point: str) -> None:
        if at in point:
            raise Killed

    host.kernel.trap = kill
    asked = request("A", *classes)
    with pytest.raises(Killed):
        host.executor.prepare(asked, Plans(host.kernel, asked), 60.0)
    host.kernel.trap = lambda _: None
    entry = host.journal.get("A")
    assert entry is not None
    if seconds < 1:
        shorter = replace(entry.preparation, deadline=time.time() + seconds)
        with host.journal._database.transaction() as transaction:
            host.journal._write(transaction, replace(entry, preparation=shorter))


def test_without_the_journal_only_what_is_provably_free_is_given(host: Host) -> None:
    host.prepared("A", "VF")
    host.journal.close()
    host.path.write_bytes(b"no database at all, but rather long" * 100)
    host.start("boot 1")
    assert not host.journal.trusted
    refusal = host.refused("B", "VF")
    assert "journal was damaged" in refusal.reason
    assert refusal.address == VF
    assert host.prepared("C", "MDEV").state is State.PREPARED
    assert host.kernel.functions[VF].driver == "vfio-pci"
    host.path.with_name(f"{host.path.name}.untrusted").unlink()
    assert host.prepared("D", "VF").handles[0].key == VF
