# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whatever a look does in its process, the others are answered, and so is the rest of it."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from devagent.errors import Unreadable
from devagent.sources import abandoned
from devagent.sources.abandoned import stuck
from devagent.sources.apart import FAILURES, Ask, Look, Outcome, look_apart
from devagent.sources.captures.recorder import Recorder
from devagent.sources.host import Directory, Tree

from ..worlds import write

QUICK = 0.4


def look(ask: Ask, subjects: Iterable[str], name: str = "look", limit: float = QUICK) -> Look:
    @contextmanager
    def opened(tree: Tree) -> Iterator[Ask]:
        yield ask

    return Look(name, tuple(subjects), opened, limit)


def outcome(tree: Tree, *looks: Look) -> Outcome:
    return look_apart(tree, looks)[looks[0].name]


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    with Directory(write(tmp_path / "host", {"a": "1\n", "b": "2\n"})) as tree:
        yield tree


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Makes sure that no child and no descriptor stays behind."""
    before = descriptors(), children()
    yield
    assert (descriptors(), children()) == before


def children() -> set[str]:
    """Gives the process ids of this process's children; other tests may have servers.

    /proc/thread-self/children is not always whole: proc(5) wants all of them to stand still for that.
    """
    own = str(os.getpid())
    return {each.name for each in Path("/proc").glob("[0-9]*") if parent(each) == own}


def parent(process: Path) -> str:
    with suppress(OSError):
        return (process / "stat").read_text().rpartition(")")[2].split()[1]
    return ""


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_all_is_answered(tree: Tree) -> None:
    assert outcome(tree, look(str.upper, "abc")) == Outcome({"a": "A", "b": "B", "c": "C"})


def test_nothing_asked_starts_no_process(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    assert look_apart(tree, [look(str.upper, "")]) == {}


def test_an_exception_stays_with_its_subject(tree: Tree) -> None:
    def ask(subject: str) -> str:
        if subject == "b":
            raise Unreadable("x/y", "input/output error")
        return str(int(subject))

    assert outcome(tree, look(ask, "1b2x")) == Outcome(
        {"1": "1", "2": "2"},
        {"b": "x/y: input/output error", "x": "ValueError: invalid literal for int() with base 10: 'x'"},
    )


def test_what_hangs_is_given_up_and_the_rest_is_asked(tree: Tree) -> None:
    found = outcome(tree, look(lambda subject: time.sleep(60 * (subject == "b")), "abc"))
    assert found == Outcome({"a": None, "c": None}, {"b": "did not answer within 0.4 s"})


def test_after_three_that_hang_the_rest_is_not_asked(tree: Tree) -> None:
    start = time.monotonic()
    found = outcome(tree, look(lambda _: time.sleep(60), map(str, range(100)), limit=0.2))
    assert time.monotonic() - start < 5
    reasons = list(found.failures.values())
    assert reasons[:3] == ["did not answer within 0.2 s"] * 3
    assert set(reasons[3:]) == {"was not asked: 3 before it did not answer"}
    assert len(reasons) == 100


def test_a_crash_costs_one_answer(tree: Tree) -> None:
    def ask(subject: str) -> str:
        if subject == "b":
            os.kill(os.getpid(), signal.SIGSEGV)
        if subject == "c":
            os._exit(3)
        return subject

    found = outcome(tree, look(ask, "abcd"))
    assert found == Outcome({"a": "a", "d": "d"}, {"b": "ended its process with SIGSEGV", "c": "ended its process"})


def test_an_exit_is_no_answer(tree: Tree) -> None:
    def ask(subject: str) -> None:
        raise SystemExit(0)

    assert outcome(tree, look(ask, "a")).failures == {"a": "ended its process"}


def test_what_cannot_be_opened_answers_nothing(tree: Tree) -> None:
    @contextmanager
    def opened(tree: Tree) -> Iterator[Ask]:
        if tree.text("a"):
            raise OSError("no library")
        yield str.upper

    found = look_apart(tree, [Look("nvml", ("a", "b"), opened, QUICK), look(str.upper, "a")])
    assert found["nvml"] == Outcome({}, {"a": "OSError: no library", "b": "OSError: no library"})
    assert found["look"].answers == {"a": "A"}


def test_a_failure_at_the_end_takes_no_answer_back(tree: Tree) -> None:
    @contextmanager
    def opened(tree: Tree) -> Iterator[Ask]:
        yield str.upper
        raise OSError("cannot be closed")

    assert outcome(tree, Look("x", ("a", "b"), opened, QUICK)) == Outcome({"a": "A", "b": "B"})


def test_one_that_hangs_while_it_is_opened_is_given_up(tree: Tree) -> None:
    @contextmanager
    def opened(tree: Tree) -> Iterator[Ask]:
        time.sleep(60)
        yield str.upper

    assert outcome(tree, Look("x", ("a",), opened, 0.2)).failures == {"a": "did not answer within 0.2 s"}


def test_a_child_that_ignores_all_it_can_is_ended(tree: Tree) -> None:
    def ask(subject: str) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        threading.Thread(target=time.sleep, args=(60,)).start()
        time.sleep(60)

    assert outcome(tree, look(ask, "a")).failures == {"a": "did not answer within 0.4 s"}


def test_looks_run_side_by_side(tree: Tree) -> None:
    start = time.monotonic()
    found = look_apart(tree, [look(lambda _: time.sleep(0.3), "a", str(number), 5.0) for number in range(5)])
    assert time.monotonic() - start < 1.2
    assert [each.answers for each in found.values()] == [{"a": None}] * 5


def test_a_slow_one_does_not_cost_a_quick_one_its_time(tree: Tree) -> None:
    def slow(subject: str) -> str:
        time.sleep(0.25)
        return subject

    found = look_apart(tree, [look(slow, "abcd", "slow", 0.5), look(lambda _: time.sleep(60), "x", "hangs", 0.3)])
    assert found["slow"].answers.keys() == set("abcd")
    assert found["hangs"].failures.keys() == {"x"}


def test_many_subjects_are_quick(tree: Tree) -> None:
    start = time.monotonic()
    subjects = [f"0000:{number:02x}:00.0" for number in range(20_000)]
    assert (
        len(outcome(tree, look(lambda _: {"current_link_speed": "16.0 GT/s PCIe"}, subjects, limit=5.0)).answers)
        == 20_000
    )
    assert time.monotonic() - start < 5


def test_a_big_answer_comes_through(tree: Tree) -> None:
    found = outcome(tree, look(lambda subject: bytes(1 << 24), "ab", limit=10.0))
    assert [len(answer) for answer in found.answers.values()] == [1 << 24] * 2


def test_notes_come_along_with_the_answers(tree: Tree) -> None:
    recorder = Recorder(tree)
    recorder.text("a")

    @contextmanager
    def opened(tree: Tree) -> Iterator[Ask]:
        yield tree.text

    assert outcome(recorder, Look("x", ("b", "c"), opened, QUICK)).answers == {"b": "2", "c": None}
    assert {question.path: answer for question, answer in recorder.notes.items()} == {
        "a": b"1\n",
        "b": b"2\n",
        "c": None,
        FAILURES: None,
    }


def test_failures_of_a_machine_are_kept_and_are_not_asked_again(tmp_path: Path) -> None:
    def wanted(subject: str) -> str:
        assert subject != "x"
        return subject

    with Directory(write(tmp_path, {"a": ""}), machine=True) as tree:
        recorder = Recorder(tree)
        found = look_apart(
            recorder, [look(lambda subject: str(int(subject)), "1x", "numbers"), look(str, "a", "texts")]
        )
        (kept,) = (answer for question, answer in recorder.notes.items() if question.path == FAILURES)
    assert json.loads(kept) == {"numbers": {"x": "ValueError: invalid literal for int() with base 10: 'x'"}}
    with Directory(write(tmp_path, {FAILURES: kept})) as tree:
        assert look_apart(tree, [look(wanted, "1x", "numbers"), look(str, "a", "texts")]) == found


@pytest.mark.parametrize("text", ["{", "[]", "1", '{"numbers": 1}', '{"numbers": {"x": 1}}', "[" * 100_000])
def test_damaged_failures_are_one_themselves(tmp_path: Path, text: str) -> None:
    with Directory(write(tmp_path, {FAILURES: text})) as tree:
        found = look_apart(tree, [look(str.upper, "a")])
    assert found == {"look": Outcome({"a": "A"}), "capture": Outcome({}, {FAILURES: f"{FAILURES} is damaged"})}


def test_interrupting_it_leaves_nothing_behind(tree: Tree) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background ignores it
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            look_apart(tree, [look(lambda _: time.sleep(5), "abc", limit=4.0)])
    finally:
        signal.signal(signal.SIGINT, before)
    time.sleep(0.1)


def test_an_answer_that_cannot_be_sent_stays_with_its_subject(tree: Tree) -> None:
    found = outcome(tree, look(lambda subject: (lambda: None) if subject == "b" else subject, "abc"))
    assert found.answers == {"a": "a", "c": "c"}
    assert found.failures.keys() == {"b"}


def test_what_was_stopped_has_its_time_again(tree: Tree) -> None:
    """Ctrl-Z stops the command and its children; when they go on, nobody has been silent."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        found = look_apart(tree, [look(lambda _: time.sleep(0.2), "abcdef", limit=1.0)])
        os.write(writing, json.dumps(found["look"].failures).encode())
        os._exit(0)
    os.close(writing)
    time.sleep(0.5)
    os.killpg(pid, signal.SIGSTOP)
    time.sleep(2.0)
    os.killpg(pid, signal.SIGCONT)
    with os.fdopen(reading) as answer:
        assert json.loads(answer.read()) == {}
    os.waitpid(pid, 0)


def test_where_no_process_can_be_started_all_fail(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", fork)
    why = "cannot be asked: no process can be started (resource temporarily unavailable)"
    assert outcome(tree, look(str.upper, "ab")) == Outcome({}, {"a": why, "b": why})


def test_children_that_nobody_waits_for_are_no_reason_to_fail(tree: Tree) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # as some supervisors start what they supervise
    try:
        assert outcome(tree, look(str.upper, "ab")).answers == {"a": "A", "b": "B"}
    finally:
        signal.signal(signal.SIGCHLD, before)


class Kernel:
    """Lets children hang as in a driver: SIGKILL is not delivered before `release`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, top: Path) -> None:
        self.killed: list[int] = []
        self.fifo = top / "fifo"
        os.mkfifo(self.fifo)
        self._kill = os.kill
        monkeypatch.setattr(os, "kill", lambda pid, number: self.killed.append(pid))

    def ask(self, subject: str) -> str:
        if subject.startswith("hangs"):
            self.fifo.read_text()  # waits for a writer that never comes
        return subject

    def release(self) -> None:
        while self.killed:
            self._kill(pid := self.killed.pop(), signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # its end is for who has abandoned it


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Kernel]:
    kernel = Kernel(monkeypatch, tmp_path)
    yield kernel
    kernel.release()
    assert stuck() == ()


def test_what_hangs_is_not_asked_again_until_its_process_has_ended(tree: Tree, kernel: Kernel) -> None:
    first = outcome(tree, look(kernel.ask, ["a", "hangs", "b"], limit=0.2))
    assert first == Outcome({"a": "a", "b": "b"}, {"hangs": "did not answer within 0.2 s"})
    (found,) = stuck()
    assert (found.look, found.subject, [found.pid]) == ("look", "hangs", kernel.killed)
    assert Path(f"/proc/{found.pid}").exists()
    again = outcome(tree, look(kernel.ask, ["a", "hangs", "b"], limit=30))
    assert again == Outcome({"a": "a", "b": "b"}, {"hangs": str(found)})
    assert str(found).startswith("still hangs in the kernel (since 20")
    kernel.release()
    assert stuck() == ()
    assert outcome(tree, look(str.upper, ["hangs"])).answers == {"hangs": "HANGS"}


def test_since_when_it_hangs_is_told_in_utc() -> None:
    stuck = abandoned.Stuck("device", "0000:3b:00.0", 4711, since=1_790_000_000.9)
    assert str(stuck) == "still hangs in the kernel (since 2026-09-21T14:13:20Z)"


def test_a_thousand_looks_at_what_hangs_leave_one_process_behind(tree: Tree, kernel: Kernel) -> None:
    outcome(tree, look(kernel.ask, ["hangs"], limit=0.1))
    before = descriptors(), children()
    for number in range(1000):
        others = "" if number % 20 else "ab"
        assert outcome(tree, look(kernel.ask, ["hangs", *others], limit=5)).answers.keys() == set(others)
    assert (descriptors(), children()) == before
    assert len(stuck()) == len(kernel.killed) == 1


def test_however_many_hang_only_some_processes_are_left_behind(tree: Tree, kernel: Kernel) -> None:
    subjects = [f"hangs {number}" for number in range(40)]
    counts, before = [], children()
    for _ in range(8):
        found = outcome(tree, look(kernel.ask, subjects, limit=0.05))
        assert found.failures.keys() == set(subjects)
        counts.append(len(stuck()))
    assert counts[:2] == [3, 6]
    assert counts[-2:] == [16, 16]
    assert len(children() - before) == 16
    reason = "was not asked: 16 processes that asked others hang in the kernel"
    assert set(outcome(tree, look(kernel.ask, ["new"])).failures.values()) == {reason}


def test_what_hangs_in_one_look_may_be_asked_by_another(tree: Tree, kernel: Kernel) -> None:
    outcome(tree, look(kernel.ask, ["hangs"], limit=0.1))
    assert outcome(tree, look(str.upper, ["hangs"], name="other")).answers == {"hangs": "HANGS"}


def test_what_hangs_on_this_machine_is_no_matter_of_a_capture(tmp_path: Path, kernel: Kernel) -> None:
    with Directory(tmp_path, machine=True) as machine, Directory(tmp_path) as capture:
        outcome(machine, look(kernel.ask, ["hangs"], limit=0.1))
        assert outcome(capture, look(str.upper, ["hangs"])).answers == {"hangs": "HANGS"}
        assert outcome(machine, look(str.upper, ["hangs"])).failures == {"hangs": str(stuck()[0])}


def test_one_that_hangs_when_all_is_answered_is_known_too(tree: Tree, kernel: Kernel) -> None:
    @contextmanager
    def opened(tree: Tree) -> Iterator[Ask]:
        yield str.upper
        kernel.ask("hangs")

    assert outcome(tree, Look("x", ("a",), opened, 0.1)) == Outcome({"a": "A"})
    assert [(each.look, each.subject) for each in stuck()] == [("x", "")]
