# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Waiting for the kernel's events, with a pipe where the kernel's socket would be."""

from __future__ import annotations

import logging
import os
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devagent.model.happened import Happened
from devagent.model.occurrence import PcieError
from devagent.sources import udev
from devagent.sources.udev import NOTHING, QUIET, Events, Interval, changes

PF = "/devices/pci0000:3a/0000:3a:01.0/0000:3b:00.0"
VF = "/devices/pci0000:3a/0000:3a:01.0/0000:3b:00.2"


class Event:
    """What pyudev gives of one event; a path of None is one that cannot be decoded."""

    def __init__(self, path: str | None, subsystem: str = "pci", action: str = "change", **properties: str) -> None:
        self.path, self.subsystem, self.action, self.properties = path, subsystem, action, properties

    @property
    def device_path(self) -> str:
        return b"\xff".decode() if self.path is None else self.path


class Monitor:
    """Gives an event for each byte of a pipe; an `!` is an overflow, which stays as pyudev's does."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.broken = False
        self.events: list[Event] = []

    def say(self, *events: Event) -> None:
        self.events += events
        os.write(self.writer, b"x" * len(events))

    def fileno(self) -> int:
        return self.reader

    def poll(self, timeout: float) -> Event | None:
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
        return self.events.pop(0) if self.events else Event(PF)

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

    def poll(timeout: float) -> Event | None:
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


def test_by_the_clock_everything_may_have_changed_but_not_before_it_is_time() -> None:
    waiting = Interval(0.3)
    found = [waiting.wait(0.02) for _ in range(3)]
    assert found == [NOTHING] * 3
    assert waiting.wait(30) == Happened(everything=True)
    assert waiting.wait(0.01) == NOTHING


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


@pytest.mark.parametrize(
    ("path", "subsystem", "address"),
    [
        (PF, "pci", "0000:3b:00.0"),
        (VF, "pci", "0000:3b:00.2"),
        (f"{PF}/net/ens1f0", "net", "0000:3b:00.0"),
        (f"{VF}/vfio-dev/vfio0", "vfio-dev", "0000:3b:00.2"),
        (f"{PF}/drm/card1/card1-DP-1", "drm", "0000:3b:00.0"),
        (f"{PF}/c3dd55d9-0000-4000-8000-0123456789ab", "mdev", "0000:3b:00.0"),
        (f"{PF}/nvme/nvme0/nvme0n1/nvme0n1p1", "block", "0000:3b:00.0"),
        (f"{PF}/dfl-fme.0/dfl-fme-region.1/fpga_region/region0", "fpga_region", "0000:3b:00.0"),
        ("/devices/pci0000:00/0000:00:0e.0/pci10000:00/10000:00:01.0/10000:01:00.0", "pci", "10000:01:00.0"),
    ],
)
def test_it_says_which_function_an_event_is_about(
    events: Events, monitors: list[Monitor], path: str, subsystem: str, address: str
) -> None:
    monitors[0].say(Event(path, subsystem, "add"))
    assert events.wait(30) == Happened(frozenset({address}), events=1)


@pytest.mark.parametrize(
    ("path", "subsystem"),
    [
        ("/devices/virtual/net/veth1a2b3c", "net"),
        ("/devices/virtual/net/bond0", "net"),
        ("/devices/virtual/block/dm-3", "block"),
        ("/devices/virtual/vfio/12", "vfio"),
    ],
)
def test_what_is_of_no_device_is_no_reason_to_look(
    events: Events, monitors: list[Monitor], path: str, subsystem: str
) -> None:
    monitors[0].say(Event(path, subsystem, "add"), Event(path, subsystem, "remove"))
    assert events.wait(30) == Happened(events=2)


@pytest.mark.parametrize(
    ("path", "subsystem"),
    [
        ("/module/nvidia", "module"),
        ("/devices/virtual/kfd/kfd", "kfd"),
        ("/devices/virtual/iommu/dmar0", "iommu"),
        ("/devices/platform/soc/ff200000.fpga/fpga_manager/fpga0", "fpga_manager"),
        (None, "pci"),
        ("", "pci"),
        ("/devices/pci0000:3a/odd", "pci"),
        ("devices", "net"),
        ("\x00\x01", "block"),
        ("/devices/virtual/x", "what is that"),
    ],
)
def test_what_may_be_of_any_device_is_a_reason_to_look_at_everything(
    events: Events, monitors: list[Monitor], path: str | None, subsystem: str
) -> None:
    monitors[0].say(Event(VF), Event(path, subsystem, "add"))
    assert events.wait(30) == Happened(frozenset({"0000:3b:00.2"}), everything=True, events=2)


def test_errors_that_the_kernel_recovers_from_are_told_the_last_one_last(
    events: Events, monitors: list[Monitor]
) -> None:
    states = ["BEGIN_RECOVERY", "SUCCESSFUL_RECOVERY", "BEGIN_RECOVERY"]
    monitors[0].say(*(Event(PF, ERROR_EVENT=state, DEVICE_ONLINE="0") for state in states))
    monitors[0].say(Event(VF, ERROR_EVENT="FAILED_RECOVERY"), Event(f"{PF}/net/a", "net", ERROR_EVENT="BEGIN_RECOVERY"))
    found = events.wait(30)
    assert found.errors == (
        PcieError("0000:3b:00.0", "successful_recovery"),
        PcieError("0000:3b:00.0", "begin_recovery"),
        PcieError("0000:3b:00.2", "failed_recovery"),
    )
    assert found.addresses == {"0000:3b:00.0", "0000:3b:00.2"}
    assert not found.everything


def test_when_nothing_happens_it_says_nothing(events: Events) -> None:
    assert events.wait(0.02) == NOTHING == Happened()


def test_after_an_overflow_everything_is_to_be_looked_at(events: Events, monitors: list[Monitor]) -> None:
    os.write(monitors[0].writer, b"x!")
    assert events.wait(30) == Happened(frozenset({"0000:3b:00.0"}), everything=True, events=1)
    monitors[1].say(Event(VF))
    assert events.wait(30) == Happened(frozenset({"0000:3b:00.2"}), events=1)


class Opening:
    """Opens monitors, unless the kernel refuses."""

    def __init__(self, monitors: list[Monitor]) -> None:
        self.monitors, self.refuses, self.asked = monitors, False, 0

    def __call__(self) -> Monitor:
        self.asked += 1
        if self.refuses:
            raise OSError("Could not create udev monitor")
        self.monitors.append(Monitor())
        return self.monitors[-1]


def test_without_a_new_monitor_it_is_the_clock_until_there_is_one(
    monitors: list[Monitor], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    opening = Opening(monitors)
    events = Events(opening, Interval(0.05))
    opening.refuses = True
    os.write(monitors[0].writer, b"!")
    assert events.wait(30).everything
    for _ in range(3):
        assert events.wait(30) == Happened(everything=True)
    assert opening.asked == 5
    opening.refuses = False
    assert events.wait(30) == Happened(everything=True)  # what happened in between nobody knows
    assert events.wait(0.02) == NOTHING
    monitors[1].say(Event(VF))
    assert events.wait(30).addresses == {"0000:3b:00.2"}
    assert [record.getMessage() for record in caplog.records] == [
        "the kernel's events cannot be heard (Could not create udev monitor): devices are looked at by the clock",
        "the kernel's events are heard again",
    ]


def test_a_storm_costs_no_memory_for_each_event(events: Events, monitors: list[Monitor]) -> None:
    def storm(count: int) -> int:
        left = iter(range(count))
        event = Event(VF, ERROR_EVENT="BEGIN_RECOVERY")
        monitors[0].poll = lambda timeout: event if next(left, None) is not None else real(timeout)  # type: ignore[method-assign]
        os.write(monitors[0].writer, b"x")
        tracemalloc.start()
        found = events.wait(30)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found.events == count + 1
        return peak

    real: Callable[[float], Event | None] = monitors[0].poll
    assert storm(5000) < 4 * storm(50)
