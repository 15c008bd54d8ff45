# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""NVML is open in any number of processes, or closed in all of them; who hangs with it open is known."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devagent.errors import GateBusy
from devagent.nvml_gate import NvmlGate


@pytest.fixture
def gate(tmp_path: Path) -> NvmlGate:
    made = NvmlGate(tmp_path)
    made.make()
    made.make()
    return made


@contextmanager
def hanging(gate: NvmlGate) -> Iterator[int]:
    """A process that has NVML open and does not end by itself."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        with gate.open(0):
            os.write(writing, b"x")
            time.sleep(600)
        os._exit(0)
    try:
        os.read(reading, 1)
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)
        os.close(writing)


def test_any_number_at_once_may_have_it_open(gate: NvmlGate) -> None:
    with gate.open(0), gate.open(0):
        pass


def test_while_it_is_shut_nobody_opens_it(gate: NvmlGate) -> None:
    with gate.shut(0):
        for way in (gate.open, gate.shut):
            with pytest.raises(GateBusy), way(0.05):
                pass
    with gate.open(0):
        pass


def test_who_has_it_open_keeps_it_from_being_shut_and_is_named(gate: NvmlGate) -> None:
    with hanging(gate) as pid:
        with pytest.raises(GateBusy, match="devagent itself still has NVML open") as caught, gate.shut(0.05):
            pass
        assert caught.value.pids == (pid,)
        assert f"(process {pid})" in str(caught.value)
    with gate.shut(5):  # its end lets go of it, however it ended
        pass


def test_who_waits_to_shut_it_is_not_kept_waiting_by_who_comes_later(gate: NvmlGate) -> None:
    shut = threading.Event()

    def wait() -> None:
        with gate.shut(60):
            shut.set()

    with gate.open(0):
        thread = threading.Thread(target=wait)
        thread.start()
        for _ in range(6000):
            try:
                with gate.open(0):
                    time.sleep(0.01)
            except GateBusy:
                break
        else:
            raise AssertionError("a look began")
        assert not shut.is_set()
    thread.join(60)
    assert shut.is_set()


def test_what_fails_inside_lets_go(gate: NvmlGate) -> None:
    for way in (gate.open, gate.shut):
        with pytest.raises(ZeroDivisionError), way(0):
            raise ZeroDivisionError
    with gate.shut(0):
        pass


def test_without_an_agents_state_there_is_no_gate(tmp_path: Path) -> None:
    nowhere = NvmlGate(tmp_path / "none")
    with nowhere.shut(0), nowhere.open(0):
        pass


def test_only_its_owner_can_keep_it_shut(gate: NvmlGate) -> None:
    assert [path.stat().st_mode & 0o777 for path in sorted(gate.folder.iterdir())] == [0o600, 0o600]
