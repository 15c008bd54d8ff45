# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The look process answers as discovery in our own process would; whatever a driver does in it costs one look."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import pickle
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hosts.generate import generate

from devagent import registry
from devagent.driver import Driver, Specificity
from devagent.errors import LookFailed
from devagent.inventory.default_policy import DEFAULT
from devagent.model.claim import Claim
from devagent.model.pci import Function
from devagent.privileged import Privileged, start
from devagent.service import frames, looker, looking
from devagent.service.looker import Looker

from ..worlds import described, look, port

LONG = 60.0
GPU = "0000:3b:00.0"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    return generate(described(port({"id": "10de:20f1", "class": "030200", "driver": "vfio-pci"})), tmp_path / "h")


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[[Path], Looker]]:
    """Starts the privileged process and gives a Looker, with what was patched before."""
    begun: list[tuple[Privileged, Looker]] = []

    def begin(root: Path) -> Looker:
        privileged = start({"look": partial(looking.serve, root=str(root))})
        begun.append((privileged, Looker(privileged, str(tmp_path / "state"))))
        return begun[-1][1]

    yield begin
    for privileged, each in begun:
        each.close()
        privileged.stop()


def plug_in(monkeypatch: pytest.MonkeyPatch, do: Callable[[], Any]) -> None:
    """Installs a driver that does something while it claims; which it does once it is told to by a file."""

    class Odd(Driver):
        name = "a"
        specificity = Specificity.FAMILY

        def recognises(self, function: Function) -> bool:
            return True

        def claim(self, function: Function) -> Claim | None:
            do()
            return None

    real = registry.load
    monkeypatch.setattr(registry, "load", lambda: registry.Registry([Odd(), *real().drivers]))


def test_it_sees_what_a_look_in_this_process_sees(host: Path, begin: Callable[[Path], Looker]) -> None:
    eyes = begin(host)
    found = eyes.look(DEFAULT, timeout=LONG)
    assert found == look(host)
    assert found.devices[0].address == GPU
    assert eyes.look(DEFAULT, {GPU}, timeout=LONG) == found
    assert eyes.look(DEFAULT, timeout=LONG, every=True) == look(host, every=True)


def test_it_is_one_process_that_sees_what_changed(host: Path, begin: Callable[[Path], Looker]) -> None:
    eyes = begin(host)
    assert eyes.pid is None
    assert eyes.look(DEFAULT, timeout=LONG).devices[0].function.driver == "vfio-pci"
    pid = eyes.pid
    (host / "sys/bus/pci/devices" / GPU / "driver").unlink()
    assert eyes.look(DEFAULT, {GPU}, timeout=LONG).devices[0].function.driver is None
    assert eyes.pid == pid != os.getpid()


def test_it_keeps_no_capability_but_those_that_looking_needs(host: Path, begin: Callable[[Path], Looker]) -> None:
    eyes = begin(host)
    eyes.look(DEFAULT, timeout=LONG)
    lines = Path(f"/proc/{eyes.pid}/status").read_text().splitlines()
    said = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert int(said["CapEff"], 16) & ~(1 << 2 | 1 << 19 | 1 << 34) == 0
    assert (said["CapInh"], said["CapAmb"], said["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")
    assert said["Name"] == "devagent-look"
    assert said["Threads"] == "1"


def test_what_cannot_be_looked_at_is_told_and_the_process_lives(
    tmp_path: Path, begin: Callable[[Path], Looker]
) -> None:
    eyes = begin(tmp_path / "none")
    for _ in range(2):
        with pytest.raises(LookFailed, match=f"could not look at the host: {tmp_path}/none"):
            eyes.look(DEFAULT, timeout=LONG)
    pid = eyes.pid
    generate(described(port({"id": "10de:20f1", "class": "030200"})), tmp_path / "none")
    assert eyes.look(DEFAULT, timeout=LONG).devices[0].address == GPU
    assert eyes.pid == pid


def test_a_driver_that_loops_for_ever_costs_one_look(
    host: Path,
    begin: Callable[[Path], Looker],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def loop() -> None:
        while (tmp_path / "loop").exists():
            pass

    plug_in(monkeypatch, loop)
    (tmp_path / "loop").touch()
    eyes = begin(host)
    with pytest.raises(LookFailed, match=r"it did not end within 1 s; it was at .*\.py:[0-9]+ in \w+$"):
        eyes.look(DEFAULT, timeout=1)
    assert eyes.pid is None
    (tmp_path / "loop").unlink()
    assert eyes.look(DEFAULT, timeout=LONG) == look(host)
    assert caplog.text == "", "its end was told by the look that failed"


def test_a_library_that_hangs_costs_one_look(
    host: Path, begin: Callable[[Path], Looker], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Python cannot interrupt what a library does; the kernel can."""
    hung = tmp_path / "hung"

    def hang() -> None:
        if not hung.exists():
            hung.write_text(str(os.getpid()))
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            time.sleep(1000)

    monkeypatch.setattr(looker, "_GRACE_S", 0.3)
    plug_in(monkeypatch, hang)
    eyes = begin(host)
    with pytest.raises(LookFailed, match="hangs: it was ended"):
        eyes.look(DEFAULT, timeout=1)
    assert eyes.look(DEFAULT, timeout=LONG) == look(host)
    assert not Path(f"/proc/{hung.read_text()}").exists()


def test_a_driver_that_crashes_costs_one_look(
    host: Path, begin: Callable[[Path], Looker], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    crashed = tmp_path / "crashed"

    def crash() -> None:
        if not crashed.exists():
            crashed.touch()
            ctypes.string_at(0)

    plug_in(monkeypatch, crash)
    eyes = begin(host)
    with pytest.raises(LookFailed, match="the look process ended with SIGSEGV during a look"):
        eyes.look(DEFAULT, timeout=LONG)
    assert eyes.look(DEFAULT, timeout=LONG) == look(host)


def test_one_that_dies_between_two_looks_costs_none(
    host: Path, begin: Callable[[Path], Looker], caplog: pytest.LogCaptureFixture
) -> None:
    eyes = begin(host)
    found = eyes.look(DEFAULT, timeout=LONG)
    assert eyes.pid is not None
    os.kill(eyes.pid, signal.SIGKILL)
    while Path(f"/proc/{eyes.pid}").exists():
        time.sleep(0.001)
    with caplog.at_level(logging.WARNING):
        assert eyes.look(DEFAULT, timeout=LONG) == found
    assert "the look process ended with SIGKILL between two looks" in caplog.text


def test_without_the_privileged_process_a_look_fails(host: Path, tmp_path: Path) -> None:
    privileged = start({"look": partial(looking.serve, root=str(host))})
    eyes = Looker(privileged, str(tmp_path / "state"))
    eyes.look(DEFAULT, timeout=LONG)
    privileged.stop()
    for _ in range(2):
        with pytest.raises(LookFailed):
            eyes.look(DEFAULT, timeout=LONG)
    eyes.close()


def test_closing_ends_a_look_that_is_under_way(
    host: Path, begin: Callable[[Path], Looker], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def hang() -> None:
        (tmp_path / "begun").touch()
        time.sleep(1000)

    plug_in(monkeypatch, hang)
    eyes = begin(host)
    failures: list[LookFailed] = []

    def run() -> None:
        try:
            eyes.look(DEFAULT, timeout=LONG)
        except LookFailed as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not (tmp_path / "begun").exists():
        time.sleep(0.001)
    eyes.close()
    thread.join(2 * LONG)
    (failure,) = failures
    assert "during a look" in str(failure), "not by its own limit, a minute later"


def test_a_host_with_thousands_of_functions_is_told_whole(
    host_tree: Callable[[str], Path], begin: Callable[[Path], Looker]
) -> None:
    top = host_tree("big")
    eyes = begin(top)
    found = eyes.look(DEFAULT, timeout=LONG)
    assert found == look(top)
    assert sum(1 + len(device.vfs) for device in found.devices) >= 4000


def test_a_look_that_is_done_is_not_timed_any_more() -> None:
    """Else the process would end itself while it has nothing to do."""
    during = []

    class Eyes:
        def look(self, raw: dict[str, Any]) -> str:
            during.append(signal.getitimer(signal.ITIMER_REAL)[0])
            return "seen"

    before = signal.getsignal(signal.SIGALRM)
    ours, theirs = socket.socketpair()
    try:
        with ours, theirs:
            answer = looking._answer(Eyes(), theirs, b'{"limit_s": 50}')  # type: ignore[arg-type]
        assert pickle.loads(answer) == ("seen", None, os.getpid())
        assert (0 < during[0] <= 50, signal.getitimer(signal.ITIMER_REAL)[0]) == (True, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- what no agent of ours would send ---


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize(
    "request_",
    [
        pickle.dumps(Bomb()), b"", b"\xff", b"{}", b"[]", b"null", b"[" * 100_000,
        b'{"limit_s": 1e999, "policy": 1}', b'{"limit_s": "x"}', b'{"limit_s": -1, "policy": {}}',
        json.dumps({"limit_s": 9, "policy": {"rules": [], "origin": 1}, "only": None, "state_path": "", "every": 0}),
        json.dumps({"limit_s": 9, "policy": {"rules": [], "origin": ""}, "only": 1, "state_path": "", "every": False}),
    ],
)  # fmt: skip
def test_a_request_that_is_none_is_answered_and_makes_nothing(
    host: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request_: bytes | str
) -> None:
    monkeypatch.chdir(tmp_path)
    privileged = start({"look": partial(looking.serve, root=str(host))})
    with privileged.service("look") as connection:
        frames.send(connection, request_ if isinstance(request_, bytes) else request_.encode())
        data = frames.receive(connection, time.monotonic() + LONG)
        assert data is not None
        found, failure, pid = pickle.loads(data)
        assert found is None
        assert failure
        assert pid
    privileged.stop()
    assert not (tmp_path / "exploded").exists()


def test_an_answer_that_cannot_be_read_costs_one_look(tmp_path: Path) -> None:
    def lie(connection: socket.socket) -> None:
        frames.receive(connection)
        frames.send(connection, b"no pickle")

    privileged = start({"look": lie})
    eyes = Looker(privileged, str(tmp_path))
    with pytest.raises(LookFailed, match="an answer that cannot be read"):
        eyes.look(DEFAULT, timeout=LONG)
    eyes.close()
    privileged.stop()
