# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The kernel log as /dev/kmsg gives it: one record a read, lost ones with EPIPE; a socket keeps records apart too."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devagent.model.occurrence import AerError, DriverLoaded, Xid
from devagent.sources import kernel_log
from devagent.sources.kernel_log import KernelLog, parse

# As users of these drivers pasted them into public issues (leptonai/gpud 46, akash-network/support 244,
# NVIDIA/open-gpu-kernel-modules 1150, Bumblebee-Project/Bumblebee 677) and as NVIDIA's driver has them in its source.
LINES = [
    (
        "NVRM: Xid (PCI:0000:01:00): 79, pid=1122, GPU has fallen off the bus.",
        ("0000:01:00.0", 79, "pid=1122, GPU has fallen off the bus.", None),
    ),
    (
        "NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus.",
        ("0000:01:00.0", 79, "GPU has fallen off the bus.", None),
    ),
    (
        "NVRM: Xid (PCI:0000:cb:00): 13, pid='<unknown>', name=<unknown>, Graphics Exception: ESR 0x57c730=0xc04000b",
        ("0000:cb:00.0", 13, "pid='<unknown>', name=<unknown>, Graphics Exception: ESR 0x57c730=0xc04000b", None),
    ),
    (
        "NVRM: Xid (PCI:0000:01:00): 32, Channel ID 00000000 intr 00004000",
        ("0000:01:00.0", 32, "Channel ID 00000000 intr 00004000", None),
    ),
    ("NVRM: Xid (0000:03:00): 13, 0001 00000000 000090c0", ("0000:03:00.0", 13, "0001 00000000 000090c0", None)),
    ("NVRM: Xid (PCI:0000:03:00.1): 31, Ch 00000003", ("0000:03:00.1", 31, "Ch 00000003", None)),
    (
        "NVRM: Xid (PCI:0000:01:00 GPU-I:05): 94, pid=7194, Contained: CE User Channel (0x9). RST: No, D-RST: No",
        ("0000:01:00.0", 94, "pid=7194, Contained: CE User Channel (0x9). RST: No, D-RST: No", "GI 5"),
    ),
    (
        "NVRM: Xid (PCI:0000:C3:00 GPU-I:02 GPU-CI:00): 31, pid=9, name=a, Ch 00000003",
        ("0000:c3:00.0", 31, "pid=9, name=a, Ch 00000003", "GI 2 CI 0"),
    ),
    (
        "NVRM: Xid (PCI:0019:01:00): 149, NETIR Fatal XC0 i0 Link -1 (0x000fe406 0x00000000)",
        ("0019:01:00.0", 149, "NETIR Fatal XC0 i0 Link -1 (0x000fe406 0x00000000)", None),
    ),
    ("NVRM: Xid (PCI:10000:01:00): 45", ("10000:01:00.0", 45, "", None)),
    ("NVRM: Xid (PCI:00000000:3B:00): 62, 2b1f(1ed8)", ("0000:3b:00.0", 62, "2b1f(1ed8)", None)),
]


@pytest.mark.parametrize(("line", "told"), LINES)
def test_every_spelling_of_an_xid_is_understood(line: str, told: tuple[str, int, str, str | None]) -> None:
    address, number, detail, instance = told
    assert parse(line, 5.0) == Xid(address, number, detail, 5.0, instance)


@pytest.mark.parametrize(
    ("line", "fatal", "address"),
    [
        ("pcieport 0000:00:01.0: AER: Uncorrected (Fatal) error received: 0000:02:00.0", True, "0000:02:00.0"),
        (
            "pcieport 0000:00:1d.2: AER: Multiple Uncorrected (Non-Fatal) error received: 0000:00:1d.2",
            False,
            "0000:00:1d.2",
        ),
        (
            "pcieport 0000:00:1d.2: AER: Uncorrectable (Fatal) error message received from 0000:01:00.1",
            True,
            "0000:01:00.1",
        ),
    ],
)
def test_uncorrected_pcie_errors_are_understood(line: str, fatal: bool, address: str) -> None:
    assert parse(line, 5.0) == AerError(address, fatal, 5.0)


def test_a_module_that_is_loaded_is_understood() -> None:
    line = "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024"
    assert parse(line, 5.0) == DriverLoaded(5.0)


@pytest.mark.parametrize(
    "line",
    [
        "NVRM: GPU at PCI:0000:00:05: GPU-efbdfde9-5798-a6e7-4c46-12518fa15375",
        "NVRM: GPU Board Serial Number: 1650423013443",
        "NVRM: GPU 0000:01:00.0: GPU has fallen off the bus.",
        "pcieport 0000:00:07.0: AER: Multiple Corrected error received: 0000:2b:00.0",
        "evil[1]: segfault NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus.",
        "NVRM: Xid (PCI:zzzz:01:00): 79",
        "NVRM: Xid (PCI:0000:01:00): many",
    ],
)
def test_everything_else_tells_nothing(line: str) -> None:
    assert parse(line, 5.0) is None


@settings(deadline=None)
@given(st.text() | st.from_regex(r"NVRM: Xid \(.*\): [0-9]+.*") | st.from_regex(r"\S+ \S+ AER: Uncorrected.*"))
def test_no_text_breaks_the_parser(text: str) -> None:
    told = parse(text, 1.0)
    assert told is None or told.at == 1.0


def record(sequence: int, text: str, micros: int = 1_000_000) -> bytes:
    return f"4,{sequence},{micros},-;{text}\n SUBSYSTEM=pci\n DEVICE=+pci:0000:3b:00.0\n".encode()


def xid(number: int = 79) -> str:
    return f"NVRM: Xid (PCI:0000:3b:00): {number}, pid=1"


class Kernel:
    """The kernel's end of a log."""

    def __init__(self) -> None:
        self.end, self.mine = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.mine.setblocking(False)
        self.opened = 0

    def open(self) -> int:
        self.opened += 1
        return os.dup(self.mine.fileno())

    def say(self, *records: bytes) -> None:
        for each in records:
            self.end.send(each)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    made = Kernel()
    with made.end, made.mine:
        yield made


@pytest.fixture
def log(kernel: Kernel) -> Iterator[KernelLog]:
    made = KernelLog(opened=kernel.open)
    yield made
    made.close()


def numbers(log: KernelLog) -> list[int]:
    return [each.number for each in log.read() if isinstance(each, Xid)]


def test_what_is_new_is_told_once_and_nothing_waits(kernel: Kernel, log: KernelLog) -> None:
    assert log.read() == ()
    kernel.say(record(7, "usb 1-1: new device"), record(8, xid(79)), record(9, xid(13)))
    assert numbers(log) == [79, 13]
    assert numbers(log) == []
    assert log.position == 9
    kernel.say(record(10, xid(45)))
    assert numbers(log) == [45]


def test_after_a_restart_nothing_is_told_again(kernel: Kernel) -> None:
    kernel.say(record(7, xid(79)), record(8, xid(62)), record(9, xid(13)))
    log = KernelLog(8, opened=kernel.open)
    assert numbers(log) == [13]
    log.close()


def test_its_time_is_the_records_own(kernel: Kernel) -> None:
    log = KernelLog(opened=kernel.open, clock=lambda: 1_800_000_000.0)
    kernel.say(record(1, xid(), 1_000_000), record(2, xid(), 61_000_000))
    first, second = (each.at for each in log.read())
    assert second - first == pytest.approx(60.0)
    assert first < 1_800_000_000.0
    log.close()


def test_escaped_signs_are_shown_if_they_can_be(kernel: Kernel, log: KernelLog) -> None:
    kernel.say(record(1, r"NVRM: Xid (PCI:0000:3b:00): 13, name=a\x5cb\x1b[2J\x0a"))
    (told,) = log.read()
    assert isinstance(told, Xid)
    assert told.detail == r"name=a\b\x1b[2J\x0a"


@pytest.mark.parametrize("garbage", [b"\xff\xfe;", b"4,x,1,-;NVRM", b";", b"4,1;NVRM: Xid", b"\n"])
def test_what_is_no_record_is_passed_over(kernel: Kernel, log: KernelLog, garbage: bytes) -> None:
    kernel.say(garbage, record(8, xid(62)))
    assert numbers(log) == [62]


def test_records_that_were_overwritten_are_survived_and_counted(
    kernel: Kernel, log: KernelLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel answers EPIPE once and goes on with the oldest record; EINVAL for one that does not fit."""
    answers = [OSError(errno.EPIPE, "Broken pipe"), OSError(errno.EINVAL, "Invalid argument")]
    real = os.read

    def read(fd: int, size: int) -> bytes:
        if answers:
            raise answers.pop(0)
        return real(fd, size)

    monkeypatch.setattr(os, "read", read)
    kernel.say(record(500, xid(62)))
    assert numbers(log) == [62]
    assert (log.lost, log.problem) == (1, None)


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOENT, errno.EACCES])
def test_a_log_that_cannot_be_opened_is_said_once(number: int, caplog: pytest.LogCaptureFixture) -> None:
    def refused() -> int:
        raise OSError(number, os.strerror(number))

    log = KernelLog(3, opened=refused)
    assert (log.read(), log.read(), log.fileno(), log.position) == ((), (), None, 3)
    assert log.problem == f"/dev/kmsg: {os.strerror(number).lower()}"
    assert len(caplog.records) == 1
    assert "root or CAP_SYSLOG may read it" in caplog.text


def test_a_log_that_fails_later_is_given_up_and_said_once(kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    log = KernelLog(opened=lambda: os.open("/", os.O_RDONLY))
    assert (log.read(), log.read(), log.fileno()) == ((), (), None)
    assert len(caplog.records) == 1


def test_the_end_of_the_log_is_no_endless_loop(kernel: Kernel, log: KernelLog) -> None:
    kernel.end.close()
    assert log.read() == ()


def test_one_call_takes_only_so_much_of_a_storm(
    kernel: Kernel, log: KernelLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_log, "_MOST", 10)
    kernel.say(*[record(number, xid(45)) for number in range(25)])
    assert [len(numbers(log)) for _ in range(4)] == [10, 10, 5, 0]


def test_this_machines_own_log_can_be_read_or_says_why() -> None:
    log = KernelLog()
    log.read()
    assert (log.fileno() is None) == (log.problem is not None)
    log.close()
    assert log.fileno() is None
