# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The privileged process answers whatever its children do, refuses what it does not know, ends with its agent."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from devagent.errors import VerbFailed, VerbStuck
from devagent.privileged import Privileged, prctl, process, start, verbs
from devagent.privileged.verbs import Verb

from ..worlds import write
from .pfs import DEVICE, PF, Kernel, host, pf

GRACE_S = 0.3
LONG = 30.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE_S", GRACE_S)


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Privileged]]:
    """Starts a privileged process, with what was patched before, and stops it in the end."""
    started = []

    def begin(services: Any = None, root: Path = tmp_path) -> Privileged:
        started.append(start(services or {}, root=str(root)))
        return started[-1]

    yield begin
    for each in started:
        each.stop()


def add(monkeypatch: pytest.MonkeyPatch, name: str, do: Callable[..., Any], **arguments: Any) -> None:
    """Adds a verb for a test."""
    monkeypatch.setitem(verbs.VERBS, name, Verb(name, "test", do, arguments))


def hanging(top: Path, address: str = PF) -> Path:
    """Gives a host whose PF hangs in the kernel when VFs are made: opening a FIFO waits for a reader."""
    write(top, pf(address=address))
    numvfs = top / "sys/bus/pci/devices" / address / "sriov_numvfs"
    numvfs.unlink()
    os.mkfifo(numvfs)
    return top


def children(pid: int) -> set[int]:
    return {int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def ended(pid: int, seconds: float = 10.0) -> bool:
    """Waits for the end of a process that need not be our child."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_verb_is_carried_out(
    tmp_path: Path, begin: Callable[..., Privileged], monkeypatch: pytest.MonkeyPatch
) -> None:
    Kernel(tmp_path).install(monkeypatch)
    privileged = begin(root=host(tmp_path))
    assert privileged.call("set_vf_count", LONG, address=PF, count=4) == {"before": 0, "after": 4}
    assert len(list((tmp_path / "host" / DEVICE).glob("virtfn*"))) == 4
    with pytest.raises(VerbFailed, match="must be removed before there can be 8") as caught:
        privileged.call("set_vf_count", LONG, address=PF, count=8)
    assert caught.value.verb == "set_vf_count"


def test_many_at_once_and_none_waits_for_one_that_hangs(tmp_path: Path, begin: Callable[..., Privileged]) -> None:
    privileged = begin(root=hanging(tmp_path))
    with ThreadPoolExecutor(32) as pool:
        late = pool.submit(privileged.call, "set_vf_count", LONG, address=PF, count=4)
        until(lambda: bool(children(privileged.pid)))
        assert list(pool.map(lambda _: privileged.call("ping", LONG), range(200))) == [{}] * 200
        assert not late.done()
        fd = os.open(tmp_path / DEVICE / "sriov_numvfs", os.O_RDONLY | os.O_NONBLOCK)
        try:
            with pytest.raises(VerbFailed, match="has 0 VFs, though 4 were asked for"):
                late.result(LONG)
        finally:
            os.close(fd)


def test_what_is_late_is_killed(tmp_path: Path, begin: Callable[..., Privileged]) -> None:
    privileged = begin(root=hanging(tmp_path))
    with pytest.raises(VerbFailed) as caught:
        privileged.call("set_vf_count", 0.2, address=PF, count=4)
    text = f"{PF}: set_vf_count did not end within 0.2 s and was killed; how far it came is unknown"
    assert str(caught.value) == text
    assert privileged.call("stuck", LONG) == {"stuck": []}
    until(lambda: not children(privileged.pid))


def test_what_cannot_be_killed_is_remembered_until_it_ends(
    tmp_path: Path, begin: Callable[..., Privileged], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "killpg", lambda *_: None)  # as if it hung in the kernel
    other = "0000:5e:00.0"
    privileged = begin(root=write(hanging(tmp_path), pf(driver=None, address=other)))
    with pytest.raises(VerbStuck, match=f"^{PF}: set_vf_count hangs in the kernel since 20") as caught:
        privileged.call("set_vf_count", 0.1, address=PF, count=4)
    pid = caught.value.pid
    (stuck,) = privileged.call("stuck", LONG)["stuck"]
    assert stuck == {
        "verb": "set_vf_count", "arguments": {"address": PF, "count": 4}, "pid": pid, "since": stuck["since"],
    }  # fmt: skip
    assert abs(stuck["since"] - time.time()) < LONG
    with pytest.raises(VerbStuck):  # at once: another would only hang behind the first
        privileged.call("set_vf_count", LONG, address=PF, count=0)
    until(lambda: children(privileged.pid) == {pid})
    with pytest.raises(VerbFailed, match="has 0 VFs"):  # other devices are served
        privileged.call("set_vf_count", LONG, address=other, count=4)
    os.kill(pid, signal.SIGKILL)  # the kernel lets go of it
    until(lambda: not privileged.call("stuck", LONG)["stuck"])


def test_a_verb_that_crashes_or_fails_says_so(
    begin: Callable[..., Privileged], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    add(monkeypatch, "crash", lambda _: os.kill(os.getpid(), signal.SIGSEGV))
    add(monkeypatch, "leave", lambda _: os._exit(3))
    add(monkeypatch, "fail", lambda _: int("x"))
    add(monkeypatch, "odd", lambda _: {"x": object()})
    privileged = begin()
    for verb, says in {
        "crash": "crash ended with SIGSEGV and did not answer",
        "leave": "leave ended with exit code 3 and did not answer",
        "fail": "ValueError: invalid literal for int() with base 10: 'x'",
        "odd": "TypeError: Object of type object is not JSON serializable",
    }.items():
        with pytest.raises(VerbFailed) as caught:
            privileged.call(verb, LONG)
        assert str(caught.value) == says
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [("reboot", {}), ("set_vf_count", {"address": "../../../etc/x", "count": 1}), ("ping", {"x": 1}), ("ping", {1: 2})],
)
def test_what_is_not_known_is_refused_before_any_fork(
    begin: Callable[..., Privileged], monkeypatch: pytest.MonkeyPatch, verb: str, arguments: dict[str, Any]
) -> None:
    def fork(*_: Any) -> None:
        raise OSError(0, "forked")

    privileged = begin()
    monkeypatch.setattr(process, "fork", fork)
    without_fork = begin()
    for each in (privileged, without_fork):
        with pytest.raises(VerbFailed, match=r"^refused: the request"):
            each.call(verb, LONG, **{str(key): value for key, value in arguments.items()})


def test_too_many_at_once_are_refused(
    begin: Callable[..., Privileged], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(process, "MAX_CHILDREN", 2)
    privileged = begin(root=hanging(tmp_path))
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(privileged.call, "set_vf_count", 1.0, address=PF, count=4) for _ in range(2)]
        until(lambda: len(children(privileged.pid)) == 2)
        with pytest.raises(VerbFailed, match="is one too many: 2 are carried out already"):
            privileged.call("ping", LONG)
        assert all("killed" in str(call.exception()) for call in calls)
    assert privileged.call("ping", LONG) == {}


def test_it_stays_small_and_single_threaded(tmp_path: Path) -> None:
    """It is forked before anything else is loaded: what is not there cannot go wrong in it."""
    code = "import sys; from devagent import privileged; print(*sorted(sys.modules))"
    modules = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    for name in ("yaml", "oslo_config", "oslo_log", "requests", "stevedore", "pyudev", "cheroot", "jsonschema"):
        assert name not in modules
    for name in ("http", "ssl", "sqlite3", "asyncio", "pickle", "logging", "subprocess", "pynvml"):
        assert name not in modules
    ours = {name for name in modules if name.startswith("devagent.")} - {"devagent.errors", "devagent._version"}
    assert {name.split(".")[1] for name in ours} == {"privileged", "model", "nvml", "cause", "places"}


def test_it_does_not_grow(begin: Callable[..., Privileged]) -> None:
    def descriptors() -> int:
        return len(list(Path(f"/proc/{privileged.pid}/fd").iterdir()))

    privileged = begin()
    privileged.call("ping", LONG)
    before = descriptors()
    for _ in range(100):
        privileged.call("ping", LONG)
        with suppress(VerbFailed):
            privileged.call("none", LONG)
    until(lambda: descriptors() <= before and not children(privileged.pid))
    assert len(list(Path(f"/proc/{privileged.pid}/task").iterdir())) == 1


def test_nothing_that_the_agent_had_open_stays_open_in_it(begin: Callable[..., Privileged]) -> None:
    reading, writing = os.pipe()
    privileged = begin()
    os.close(writing)
    assert os.read(reading, 1) == b""
    os.close(reading)
    assert privileged.call("ping", LONG) == {}


def test_a_child_has_nothing_of_the_others_open(
    tmp_path: Path, begin: Callable[..., Privileged], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that hangs for ever would keep their sockets open, and nobody would see them end."""
    add(monkeypatch, "sockets", lambda _: {"there": len(sockets())})
    privileged = begin({"echo": echo}, root=hanging(tmp_path))
    with privileged.service("echo"), ThreadPoolExecutor(1) as pool:
        pending = pool.submit(privileged.call, "set_vf_count", LONG, address=PF, count=4)
        until(lambda: len(children(privileged.pid)) == 2)
        assert privileged.call("sockets", LONG) == {"there": 1}, "its own, for the answer"
        privileged.stop()
        pending.exception(LONG)


def test_a_program_that_a_verb_starts_has_nothing_of_it_open(
    begin: Callable[..., Privileged], monkeypatch: pytest.MonkeyPatch
) -> None:
    """NVIDIA's tools: they could answer in its place, and the agent would wait for one that lives on."""
    add(monkeypatch, "sockets", lambda _: {"inherited": [fd for fd in sockets() if os.get_inheritable(fd)]})
    assert begin().call("sockets", LONG) == {"inherited": []}


def sockets() -> list[int]:
    fds = [int(each.name) for each in Path("/proc/self/fd").iterdir()]
    there = [fd for fd in fds if fd > 2 and Path(f"/proc/self/fd/{fd}").is_symlink()]
    return [fd for fd in there if stat.S_ISSOCK(os.fstat(fd).st_mode)]


def test_signals_that_end_the_agent_do_not_end_it(begin: Callable[..., Privileged]) -> None:
    privileged = begin()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(privileged.pid, number)
    assert privileged.call("ping", LONG) == {}


# --- its end, and the agent's ---


def test_when_it_dies_the_agent_knows_at_once(tmp_path: Path, begin: Callable[..., Privileged]) -> None:
    privileged = begin(root=hanging(tmp_path))
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(privileged.call, "set_vf_count", LONG, address=PF, count=4)
        until(lambda: bool(children(privileged.pid)))
        (child,) = children(privileged.pid)
        os.kill(privileged.pid, signal.SIGKILL)
        with pytest.raises(VerbFailed, match="the privileged process has ended; devagent must be restarted"):
            pending.result(LONG)
    assert ended(child)
    assert not privileged.alive
    with pytest.raises(VerbFailed, match="ping: the privileged process has ended"):
        privileged.call("ping", LONG)
    with pytest.raises(VerbFailed, match="look: the privileged process has ended"):
        privileged.service("look")


def test_what_is_started_while_it_dies_ends_too(
    tmp_path: Path, begin: Callable[..., Privileged], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = prctl.die_with_parent

    def too_late() -> None:
        parent = os.getppid()
        os.kill(parent, signal.SIGKILL)
        until(lambda: os.getppid() != parent)
        real()

    add(monkeypatch, "note", lambda _: {"x": (tmp_path / "noted").write_text("")})
    monkeypatch.setattr(prctl, "die_with_parent", too_late)
    with pytest.raises(VerbFailed, match="has ended"):
        begin().call("note", LONG)
    assert not (tmp_path / "noted").exists()


def test_it_ends_with_all_that_it_started_when_it_is_stopped(tmp_path: Path, begin: Callable[..., Privileged]) -> None:
    privileged = begin({"parent": parent}, root=hanging(tmp_path))
    with privileged.service("parent") as service, ThreadPoolExecutor(1) as pool:
        pending = pool.submit(privileged.call, "set_vf_count", LONG, address=PF, count=4)
        begun = {int(service.recv(20)), int(service.recv(20))}
        until(lambda: len(children(privileged.pid)) == 2)
        begun |= children(privileged.pid)
        assert len(begun) == 3
        privileged.stop()
        assert all(ended(each) for each in begun)
        with pytest.raises(VerbFailed):
            pending.result(LONG)
    assert not Path(f"/proc/{privileged.pid}").exists()
    privileged.stop()
    assert not privileged.alive


def test_it_ends_when_the_agent_is_killed(tmp_path: Path) -> None:
    hanging(tmp_path)
    code = f"""
import os, signal, sys, threading
from devagent import privileged
p = privileged.start({{}}, root={str(tmp_path)!r})
threading.Thread(target=p.call, args=("set_vf_count", 30), kwargs=dict(address={PF!r}, count=4), daemon=True).start()
while not (children := open(f"/proc/{{p.pid}}/task/{{p.pid}}/children").read()):
    pass
print(p.pid, children, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    printed = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False).stdout
    assert len(printed.split()) == 2
    assert all(ended(int(pid)) for pid in printed.split())


# --- services ---


def echo(connection: socket.socket) -> None:
    while data := connection.recv(100):
        connection.send(data.upper())


def fall(connection: socket.socket) -> None:
    connection.recv(1)
    os.kill(os.getpid(), signal.SIGSEGV)


def test_a_service_has_its_socket_to_itself(begin: Callable[..., Privileged]) -> None:
    privileged = begin({"echo": echo})
    with privileged.service("echo") as one, privileged.service("echo") as other:
        one.send(b"a")
        other.send(b"b")
        assert (one.recv(10), other.recv(10)) == (b"A", b"B")
        assert privileged.call("ping", LONG) == {}


def test_a_service_that_dies_is_seen_at_once_and_says_how(begin: Callable[..., Privileged]) -> None:
    privileged = begin({"fall": fall})
    with privileged.service("fall") as connection:
        connection.send(b"x")
        connection.settimeout(LONG)
        with suppress(ConnectionError):
            assert connection.recv(10) == b""
    assert privileged.call("ended", LONG) == {"ended": {"fall": "ended with SIGSEGV"}}


def parent(connection: socket.socket) -> None:
    """Says its number, then starts a child that says its own, and both hang."""
    connection.send(b"%-20d" % os.getpid())
    if os.fork() == 0:
        connection.send(b"%-20d" % os.getpid())
    signal.pause()


def test_closing_the_socket_ends_a_service_that_hangs_and_what_it_started(begin: Callable[..., Privileged]) -> None:
    privileged = begin({"parent": parent})
    with privileged.service("parent") as connection:
        pids = {int(connection.recv(20)), int(connection.recv(20))}
        assert len(pids) == 2
    assert all(ended(pid) for pid in pids)
    until(lambda: not children(privileged.pid))


def test_an_unknown_service_is_none(begin: Callable[..., Privileged]) -> None:
    with begin({"echo": echo}).service("other") as connection:
        assert b"there is no service" in connection.recv(1000)
        assert connection.recv(1000) == b""


# --- what no agent of ours would send ---


def send(privileged: Privileged, data: bytes, fds: list[int]) -> None:
    socket.send_fds(privileged._control, [data], fds)


def test_it_survives_garbage_and_touches_nothing(
    tmp_path: Path, begin: Callable[..., Privileged], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(tmp_path).install(monkeypatch)
    top = host(tmp_path)
    privileged = begin(root=top)
    dice = random.Random(11)
    words = [b'{"verb":', b'"set_vf_count"', b',"arguments":', b'{"address":', b'"../../x"', b',"count":', b"4", b"}",
             b',"deadline_s":', b"1e999", b"\xff", b"[" * 900, b"null", b"\0", b'"', b"{}", b"-1"]  # fmt: skip
    with (tmp_path / "file").open("w") as file:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        inet = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        closed, other = socket.socketpair()
        closed.close()
        choices = [file.fileno(), theirs.fileno(), inet.fileno(), other.fileno(), privileged._control.fileno()]
        with ours, theirs, inet, other:
            for _ in range(2000):
                data = b"".join(dice.choices(words, k=dice.randrange(9)))
                send(privileged, data, dice.choices(choices, k=dice.choice([0, 0, 1, 1, 1, 2, 9])))
                ours.setblocking(False)
                with suppress(BlockingIOError):
                    while ours.recv(1000):
                        pass
        assert privileged.call("ping", LONG) == {}
    assert kernel.written == []
    assert list((top / DEVICE).glob("virtfn*")) == []
    assert (tmp_path / "file").read_text() == ""


GOOD = json.dumps({"verb": "ping", "arguments": {}, "deadline_s": 30}).encode()


def test_an_oversized_request_is_refused(begin: Callable[..., Privileged]) -> None:
    privileged = begin()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        send(privileged, GOOD + b" " * 100_000, [theirs.fileno()])
        assert ours.recv(1000) == b'{"failed": "refused: the request is too long"}'


def test_an_answer_that_nobody_wants_hurts_nobody(begin: Callable[..., Privileged]) -> None:
    privileged = begin()
    for _ in range(50):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        send(privileged, GOOD, [theirs.fileno()])
        theirs.close()
        ours.close()
    assert privileged.call("ping", LONG) == {}


def test_an_answer_that_does_not_fit_is_not_waited_for(begin: Callable[..., Privileged]) -> None:
    privileged = begin()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                theirs.send(b"x" * 1000)
        send(privileged, GOOD, [theirs.fileno()])
        assert privileged.call("ping", LONG) == {}
        until(lambda: not children(privileged.pid))


def test_without_a_socket_or_with_two_nothing_is_carried_out(
    begin: Callable[..., Privileged], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add(monkeypatch, "note", lambda _: {"x": (tmp_path / "noted").write_text("")})
    privileged = begin()
    request = GOOD.replace(b"ping", b"note")
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
    send(privileged, request, [])
    send(privileged, request, [theirs.fileno() for _, theirs in pairs])
    assert privileged.call("ping", LONG) == {}
    until(lambda: not children(privileged.pid))
    assert not (tmp_path / "noted").exists()
    for ours, theirs in pairs:
        theirs.close()
        ours.settimeout(LONG)
        assert ours.recv(1) == b"", "nobody keeps the other end"
        ours.close()


def test_threads_may_call_while_it_is_stopped(begin: Callable[..., Privileged]) -> None:
    privileged = begin()
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            while True:
                privileged.call("ping", LONG)
        except VerbFailed:
            pass
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    privileged.stop()
    for thread in threads:
        thread.join(LONG)
    assert failures == []
    assert not any(thread.is_alive() for thread in threads)
