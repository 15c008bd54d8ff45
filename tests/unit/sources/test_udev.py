# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Waiting for the kernel's events, with a pipe where the kernel's socket would be."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devagent.sources import udev
from devagent.sources.udev import QUIET, Events, Interval, changes


class Monitor:
    """Reads an event from each byte of a pipe; an `!` is an overflow, which stays as pyudev's does."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.broken = False

    def fileno(self) -> int:
        return self.reader

    def poll(self, timeout: float) -> str | None:
        assert timeout == 0
        if self.broken:
            raise OSError("Error while polling fd")
        try:
            event = os.read(self.reader, 1).decode()
        except BlockingIOError:
            return None
        if event == "!":
            self.broken = True
            raise OSError("Error while polling fd")
        return event

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture
def monitors() -> Iterator[list[Monitor]]:
    opened: list[Monitor] = []
    yield opened
    for monitor in opened:
        monitor.close()


@pytest.fixture
def events(monitors: list[Monitor]) -> Events:
    def opened() -> Monitor:
        monitors.append(Monitor())
        return monitors[-1]

    return Events(opened)


def waited(waiting: udev.Changes, seconds: float) -> float:
    start = time.monotonic()
    waiting.wait(seconds)
    return time.monotonic() - start


def test_it_waits_no_longer_than_asked(events: Events) -> None:
    assert 0.05 <= waited(events, 0.05) < 1


def test_a_burst_is_one_change(events: Events, monitors: list[Monitor]) -> None:
    os.write(monitors[0].writer, b"x" * 500)
    assert QUIET <= waited(events, 30) < 2
    assert 0.05 <= waited(events, 0.05) < 1  # nothing is left of it


def test_an_overflow_is_a_change_and_the_next_event_is_heard(events: Events, monitors: list[Monitor]) -> None:
    os.write(monitors[0].writer, b"xx!")
    assert waited(events, 30) < 2
    assert len(monitors) == 2
    assert 0.05 <= waited(events, 0.05) < 1  # no busy loop
    os.write(monitors[1].writer, b"x")
    assert QUIET <= waited(events, 30) < 2


def test_a_storm_without_end_is_looked_at_all_the_same(
    events: Events, monitors: list[Monitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udev, "_LONGEST", 0.3)
    real = monitors[0].poll

    def poll(timeout: float) -> str | None:
        os.write(monitors[0].writer, b"x")
        return real(timeout)

    monkeypatch.setattr(monitors[0], "poll", poll)
    os.write(monitors[0].writer, b"x")
    assert waited(events, 30) < 3


@pytest.mark.parametrize("kind", ["events", "interval"])
def test_it_ends_when_nobody_reads_any_more(events: Events, kind: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        (events if kind == "events" else Interval()).wait(30, writer)
    os.close(writer)


def test_a_reader_that_is_there_is_no_event(events: Events) -> None:
    reader, writer = os.pipe()
    start = time.monotonic()
    events.wait(0.05, writer)
    assert time.monotonic() - start >= 0.05
    os.close(reader)
    os.close(writer)


def test_an_output_that_is_a_file_is_none_to_wait_for(events: Events, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as output:
        events.wait(0.01, output.fileno())


def test_a_captured_host_is_looked_at_by_the_clock() -> None:
    assert isinstance(changes(machine=False), Interval)
    assert 0.02 <= waited(Interval(0.02), 30) < 1


def test_without_pyudev_it_is_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyudev", None)
    assert isinstance(changes(machine=True), Interval)


def test_without_netlink_it_is_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    pyudev = pytest.importorskip("pyudev")

    def refused(*_: object, **__: object) -> None:
        raise OSError("Could not create udev monitor")

    monkeypatch.setattr(pyudev.Monitor, "from_netlink", refused)
    assert isinstance(changes(machine=True), Interval)


def test_this_machine_can_be_waited_for() -> None:
    waiting = changes(machine=True)
    assert waited(waiting, 0.05) < 5
