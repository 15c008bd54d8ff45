# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""NVMe drives are wiped by Format or Sanitize: only whole, only while nobody uses them, and looked at afterwards."""

from __future__ import annotations

import ctypes
import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from devagent.model.preparation import Holder, RefusalKind
from devagent.privileged import capabilities, nvme_admin
from devagent.privileged.refused import VerbRefused
from devagent.privileged.scrubbing import can_scrub, scrub

from ..worlds import Link, write
from .nvmes import ADMIN_CMD, COMMAND, FOLDER, NVME, SECRET, Drive, Space, drive

__all__ = ["drive"]

Put = Callable[..., Drive]
FORMAT, SANITIZE = "nvme-format", "nvme-sanitize"
USER_DATA, CRYPTO = 1 << 9, 2 << 9
DONE, UNDER_WAY, FAILED, UNTOUCHED = 1, 2, 3, 1 << 8


def wipe(top: Path, how: str = FORMAT, seconds: float = 30.0) -> None:
    assert scrub(top, NVME, how, time.monotonic() + seconds) == {}


def refused(top: Path, how: str = FORMAT, seconds: float = 30.0) -> VerbRefused:
    with pytest.raises(VerbRefused) as caught:
        wipe(top, how, seconds)
    return caught.value


def test_a_command_is_laid_out_as_the_kernel_has_it() -> None:
    assert ctypes.sizeof(nvme_admin.AdminCommand) == COMMAND.size == 72
    assert nvme_admin.ADMIN_CMD == ADMIN_CMD
    offsets = {name: getattr(nvme_admin.AdminCommand, name).offset for name in ("nsid", "addr", "cdw10", "result")}
    assert offsets == {"nsid": 4, "addr": 24, "cdw10": 40, "result": 68}


@pytest.mark.parametrize(("fna", "erase"), [(0, USER_DATA), (0b100, CRYPTO)])
def test_a_format_erases_in_the_best_way_that_there_is(tmp_path: Path, drive: Put, fna: int, erase: int) -> None:
    it = drive(fna=fna)
    wipe(tmp_path)
    assert it.formats == [(1, erase)]
    assert it.content() == bytes(len(SECRET))


def test_every_namespace_keeps_its_format(tmp_path: Path, drive: Put) -> None:
    # Format 0x23 of 64, metadata at the end of each block, protection type 2 in its first 8 bytes.
    it = drive(spaces={1: Space(flbas=0b101_0011, dps=0b1010), 7: Space("nvme1n2", flbas=1)})
    wipe(tmp_path)
    assert it.formats == [(1, 2 << 12 | 3 | 1 << 4 | 2 << 5 | 1 << 8 | USER_DATA), (7, 1 | USER_DATA)]


def test_where_one_format_wipes_all_it_is_done_once(tmp_path: Path, drive: Put) -> None:
    spaces = {1: Space(), 7: Space("nvme1n2")}
    it = drive(fna=0b10, spaces=spaces)
    wipe(tmp_path)
    assert it.formats == [(0xFFFFFFFF, USER_DATA)]
    it.fna = 0b1010  # it does not take the number that stands for all
    wipe(tmp_path)
    assert it.formats[1:] == [(1, USER_DATA)]


def test_the_kernel_waits_as_long_as_there_is_time(tmp_path: Path, drive: Put) -> None:
    it = drive()
    wipe(tmp_path, seconds=3000.0)
    assert 2_990_000 < it.timeouts[it.done.index((0x80, 1, USER_DATA))] <= 2_995_000


def test_what_is_there_after_a_wipe_is_seen(tmp_path: Path, drive: Put) -> None:
    drive(wipes=False)
    error = refused(tmp_path)
    assert "was reported wiped, and has at byte 0 what it had before" in str(error)


def test_an_empty_drive_is_wiped_all_the_same(tmp_path: Path, drive: Put) -> None:
    it = drive(wipes=False)
    (tmp_path / "dev/nvme1n1").write_bytes(bytes(1 << 20))
    wipe(tmp_path)
    assert len(it.formats) == 1


def test_a_format_that_is_under_way_is_waited_for(tmp_path: Path, drive: Put) -> None:
    it = drive(answers={0x80: [0x4084, 0x4084, 0]})
    wipe(tmp_path)
    assert len(it.formats) == 1


@pytest.mark.parametrize(
    ("status", "says"),
    [(0x4015, "operation denied"), (0x2020, "write protected"), (0x03FF, "it answered (NVMe status 0x3ff)")],
)
def test_the_controllers_answer_is_explained(tmp_path: Path, drive: Put, status: int, says: str) -> None:
    it = drive(answers={0x80: [status]})
    error = refused(tmp_path)
    assert says in str(error)
    assert it.content() == SECRET


def test_the_kernels_answer_is_told(tmp_path: Path, drive: Put) -> None:
    drive(answers={0x80: [-errno.EINTR]})
    assert "interrupted system call" in str(refused(tmp_path))


# --- who has it ---


@pytest.mark.parametrize(
    ("path", "content", "says"),
    [
        (
            "proc/1/mountinfo",
            "36 25 259:9 / /srv rw - ext4 /dev/nvme1n1p1 rw\n",
            "/dev/nvme1n1p1 is mounted on /srv",
        ),
        (
            "proc/1/mountinfo",
            "36 25 0:33 /@ /home rw shared:1 - btrfs /dev/nvme1n1 rw\n",
            "/dev/nvme1n1 is mounted on /home",
        ),
        ("proc/swaps", "Filename Type\n/dev/nvme1n1p1  partition 1 0 -2\n", "/dev/nvme1n1p1 is swapped on"),
        ("sys/class/block/nvme1n1/nvme1n1p1/holders/dm-3", Link("../dm-3"), "/dev/nvme1n1p1 holds dm-3"),
        ("proc/4711/fd/3", Link("/dev/nvme1n1p1"), "process 4711 has /dev/nvme1n1p1 open"),
        ("proc/4711/fd/3", Link("/dev/ng1n1"), "process 4711 has /dev/ng1n1 open"),
    ],
)
@pytest.mark.parametrize("how", [FORMAT, SANITIZE])
def test_a_drive_in_use_is_left_alone_and_who_has_it_is_told(
    tmp_path: Path, drive: Put, how: str, path: str, content: str | Link, says: str
) -> None:
    it = drive(sanicap=0b10)
    part = "sys/class/block/nvme1n1/nvme1n1p1"
    write(tmp_path, {f"{part}/partition": "1\n", f"{part}/dev": "259:9\n", "proc/4711/comm": "dd\n", path: content})
    error = refused(tmp_path, how)
    assert says in str(error)
    assert error.kind is RefusalKind.RETRY
    assert error.holders == ((Holder(pid=4711, command="dd"),) if "4711" in path else ())
    assert it.content() == SECRET


def test_a_disk_that_the_kernel_gives_to_nobody_else_is_left_alone(
    tmp_path: Path, drive: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    it, real = drive(), os.open

    def busy(path: Path, flags: int, *more: int) -> int:
        if flags & os.O_EXCL:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return real(path, flags, *more)

    monkeypatch.setattr(os, "open", busy)
    assert "/dev/nvme1n1 is mounted, or something is built on it" in str(refused(tmp_path))
    assert it.formats == []


def test_a_disk_is_claimed_while_it_is_formatted(tmp_path: Path, drive: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    it, seen, erase = drive(), [], Drive.erase

    def look(self: Drive, space: Space) -> None:
        links = [fd.readlink() for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
        seen.append(self.top / "dev/nvme1n1" in links)
        erase(self, space)

    monkeypatch.setattr(Drive, "erase", look)
    wipe(tmp_path)
    assert (seen, len(it.formats)) == ([True], 1)


# --- what is not possible, or not right ---


@pytest.mark.parametrize(
    ("how", "has", "says"),
    [
        (FORMAT, {"oacs": 0}, f"{NVME} cannot be formatted, nor can it be sanitized"),
        (FORMAT, {"oacs": 0, "sanicap": 1}, f"{NVME} cannot be formatted; it can be sanitized: nvme-sanitize"),
        (SANITIZE, {}, f"{NVME} cannot be sanitized; it can be formatted: nvme-format"),
        (SANITIZE, {"oacs": 0}, f"{NVME} cannot be sanitized, nor can it be formatted"),
        (FORMAT, {"driver": "vfio-pci"}, f"{NVME} is bound to vfio-pci: only nvme wipes NVMe drives"),
    ],
)
def test_what_a_drive_cannot_is_refused_for_good(
    tmp_path: Path, drive: Put, how: str, has: dict[str, int], says: str
) -> None:
    drive(**has)
    error = refused(tmp_path, how)
    assert (str(error), error.kind) == (says, RefusalKind.PERMANENT)


def test_a_namespace_that_the_guest_has_hidden_is_not_forgotten(tmp_path: Path, drive: Put) -> None:
    it = drive(spaces={1: Space(), 2: Space("nvme1n2", attached=())})
    error = refused(tmp_path)
    assert "namespaces 2 are not attached, so they cannot be formatted" in str(error)
    assert (error.kind, it.formats) == (RefusalKind.RETRY, [])


def test_a_vf_is_formatted_if_its_namespaces_are_its_own(tmp_path: Path, drive: Put) -> None:
    it = drive()
    write(tmp_path, {f"{FOLDER}/physfn": Link("../0000:80:00.0")})
    wipe(tmp_path)
    assert it.formats == [(1, USER_DATA)]


@pytest.mark.parametrize(
    ("how", "has", "says"),
    [
        (FORMAT, {"spaces": {1: Space(attached=(5, 6))}}, "its namespace 1 is not its own"),
        (FORMAT, {"spaces": {1: Space(nmic=1)}, "answers": {0x06: [0, 0, 0, 0x4002]}}, "its namespace 1 is not its"),
        (FORMAT, {"fna": 0b10}, "a format of it would wipe the namespaces of others"),
        (SANITIZE, {"sanicap": 0b10}, "a sanitize would wipe all of its drive, other tenants' namespaces, too"),
    ],
)
def test_a_vf_whose_wipe_would_reach_others_is_left_alone(
    tmp_path: Path, drive: Put, how: str, has: dict[str, object], says: str
) -> None:
    it = drive(**has)
    write(tmp_path, {f"{FOLDER}/physfn": Link("../0000:80:00.0")})
    error = refused(tmp_path, how)
    assert says in str(error)
    assert (error.kind, it.content()) == (RefusalKind.PERMANENT, SECRET)


@pytest.mark.parametrize(("how", "fna"), [(SANITIZE, 0), (FORMAT, 0b01)])
def test_another_controller_of_the_drive_is_not_wiped_with_it(tmp_path: Path, drive: Put, how: str, fna: int) -> None:
    it = drive(sanicap=0b10, fna=fna)
    subsystem = "sys/class/nvme-subsystem/nvme-subsys1"
    write(tmp_path, {f"{subsystem}/nvme1": Link("../nvme1"), f"{subsystem}/nvme4": Link("../nvme4")})
    error = refused(tmp_path, how)
    assert "would wipe what nvme4 of" in str(error)
    assert (error.kind, it.content()) == (RefusalKind.PERMANENT, SECRET)


def test_a_controller_with_vfs_is_left_alone(tmp_path: Path, drive: Put) -> None:
    drive()
    write(tmp_path, {f"{FOLDER}/virtfn0": Link("../x")})
    assert "has 1 VFs, which a wipe would harm" in str(refused(tmp_path))


@pytest.mark.parametrize("state", ["connecting", "dead"])
def test_a_controller_that_does_not_come_up_is_not_asked(tmp_path: Path, drive: Put, state: str) -> None:
    it = drive(state=state)
    assert f"its controller is {state}, not live" in str(refused(tmp_path, seconds=5.02))
    assert it.done == []


def test_a_device_that_is_gone_is_told_as_gone(tmp_path: Path) -> None:
    write(tmp_path, {"sys/bus/pci/devices/": ""})
    assert refused(tmp_path).gone


@pytest.mark.parametrize("ask", [scrub, can_scrub])
def test_without_the_capability_the_missing_drop_in_is_named(
    tmp_path: Path, drive: Put, monkeypatch: pytest.MonkeyPatch, ask: Callable[..., object]
) -> None:
    it = drive()
    monkeypatch.setattr(capabilities, "has", lambda _: False)
    with pytest.raises(VerbRefused, match=r"CAP_SYS_ADMIN.*install devagent.service.d/wiping.conf") as caught:
        ask(tmp_path, NVME, FORMAT, time.monotonic() + 30)
    assert (caught.value.kind, it.done) == (RefusalKind.PERMANENT, [])


# --- sanitize ---


@pytest.mark.parametrize(("sanicap", "action"), [(0b111, 2), (0b101, 4), (0b100, 3)])
def test_a_sanitize_takes_the_best_way_and_is_waited_for(tmp_path: Path, drive: Put, sanicap: int, action: int) -> None:
    it = drive(sanicap=sanicap, sanitize=[(0, 0), (1000, UNDER_WAY), (65535, UNDER_WAY), (65535, DONE | UNTOUCHED)])
    wipe(tmp_path, SANITIZE)
    assert [(nsid, how) for opcode, nsid, how in it.done if opcode == 0x84] == [(0, 1 << 4 | action)]
    assert len(it.sanitize) == 1
    assert it.content() == bytes(len(SECRET))


def test_a_sanitize_under_way_is_joined(tmp_path: Path, drive: Put) -> None:
    """It was begun before the agent was restarted, and what is on the drive cannot be read meanwhile."""
    it = drive(sanicap=0b10, sanitize=[(30000, UNDER_WAY), (60000, UNDER_WAY), (65535, DONE)])
    wipe(tmp_path, SANITIZE)
    assert 0x84 not in [opcode for opcode, *_ in it.done]


def test_a_sanitize_that_ended_while_nobody_looked_is_not_done_again(tmp_path: Path, drive: Put) -> None:
    it = drive(sanicap=0b10, sanitize=[(65535, DONE | UNTOUCHED)])
    wipe(tmp_path, SANITIZE)
    assert 0x84 not in [opcode for opcode, *_ in it.done]


def test_a_drive_that_was_written_since_its_last_sanitize_gets_another(tmp_path: Path, drive: Put) -> None:
    it = drive(sanicap=0b10, sanitize=[(65535, DONE), (65535, DONE | UNTOUCHED)])
    wipe(tmp_path, SANITIZE)
    assert 0x84 in [opcode for opcode, *_ in it.done]


def test_a_sanitize_that_takes_longer_goes_on_and_says_how_far_it_is(tmp_path: Path, drive: Put) -> None:
    drive(sanicap=0b10, sanitize=[(0, 0), (24576, UNDER_WAY)])
    error = refused(tmp_path, SANITIZE, seconds=15.01)
    assert "is being sanitized still, 37 % are done" in str(error)
    assert error.kind is RefusalKind.RETRY


def test_a_sanitize_that_failed_is_told_and_begun_again_by_the_next(tmp_path: Path, drive: Put) -> None:
    it = drive(sanicap=0b10, sanitize=[(0, 0), (0, FAILED), (0, FAILED), (65535, DONE | UNTOUCHED)])
    assert "its sanitize has failed (state 3" in str(refused(tmp_path, SANITIZE))
    wipe(tmp_path, SANITIZE)
    assert [opcode for opcode, *_ in it.done].count(0x84) == 2


# --- in advance ---


def test_what_can_be_wiped_is_known_without_a_change(tmp_path: Path, drive: Put) -> None:
    it = drive(sanicap=0b10)
    for how in (FORMAT, SANITIZE):
        assert can_scrub(tmp_path, NVME, how, time.monotonic() + 30) == {}
    assert {opcode for opcode, *_ in it.done} == {0x06}
    it.oacs = 0
    with pytest.raises(VerbRefused, match="cannot be formatted"):
        can_scrub(tmp_path, NVME, FORMAT, time.monotonic() + 30)


def test_of_a_drive_on_another_driver_little_is_known_in_advance(tmp_path: Path, drive: Put) -> None:
    it = drive(driver="vfio-pci")
    assert can_scrub(tmp_path, NVME, FORMAT, time.monotonic() + 30) == {}
    assert it.done == []


def test_another_drive_in_the_place_of_the_one_that_is_to_be_wiped_is_left_alone(tmp_path: Path, drive: Put) -> None:
    it = drive()
    number = tmp_path / FOLDER / "nvme/nvme1/serial"
    number.write_text("S4EVNX0M 1          \n")
    with pytest.raises(VerbRefused, match="is not the drive S4EVNX0M 2 that was to be wiped, but S4EVNX0M 1") as caught:
        scrub(tmp_path, NVME, FORMAT, time.monotonic() + 30, "S4EVNX0M 2")
    assert (caught.value.kind, it.formats) == (RefusalKind.RETRY, [])
    number.unlink()
    with pytest.raises(VerbRefused, match="but None"):
        scrub(tmp_path, NVME, FORMAT, time.monotonic() + 30, "S4EVNX0M 1")
    number.write_text("S4EVNX0M 1          \n")
    assert scrub(tmp_path, NVME, FORMAT, time.monotonic() + 30, "S4EVNX0M 1") == {}
    assert it.formats
