# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What systemd is told, as its socket receives it."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devagent.service.systemd import Notifier


@pytest.fixture(params=["path", "abstract"])
def name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "notify") if request.param == "path" else f"@devagent-test-{os.getpid()}"


@pytest.fixture
def service_manager(name: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(name.replace("@", "\0", 1))
        line.settimeout(10)
        yield line


def test_each_thing_told_is_one_datagram(service_manager: socket.socket, name: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.status("looks at\nthe host")
    notifier.ready()
    notifier.watchdog()
    notifier.stopping()
    assert [service_manager.recv(4096).decode() for _ in range(4)] == [
        "STATUS=looks at the host",
        "READY=1",
        "WATCHDOG=1",
        "STOPPING=1",
    ]


def test_a_reload_is_told_with_its_time(service_manager: socket.socket, name: str) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    Notifier({"NOTIFY_SOCKET": name}).reloading()
    match = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", service_manager.recv(4096).decode())
    assert match is not None
    assert before <= int(match[1]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_a_status_of_anything_fits_in_a_message(service_manager: socket.socket, name: str) -> None:
    Notifier({"NOTIFY_SOCKET": name}).status("\udc9b" + "x" * 100_000)
    assert service_manager.recv(4096).decode().startswith("STATUS=?xxx")


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "vsock:2:1234", "@devagent-nobody", "x" * 200])
def test_where_nobody_listens_nothing_happens(address: str) -> None:
    Notifier({"NOTIFY_SOCKET": address} if address else {}).ready()


def test_a_service_manager_that_does_not_read_does_not_stop_the_agent(tmp_path: Path) -> None:
    name = str(tmp_path / "notify")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full,
    ):
        deaf.bind(name)
        full.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                full.sendto(b"x", name)
        Notifier({"NOTIFY_SOCKET": name}).ready()
        assert deaf.recv(10) == b"x"


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_only_if_it_waits_for_us(environment: dict[str, str], seconds: float | None) -> None:
    assert Notifier(environment).watchdog_s == seconds
