# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""NVMe controllers are wiped on the real kernel: what was on a namespace is gone, and nobody else's is touched."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

import pytest

from .guest import PCI, Guest, eventually
from .payload import REPOSITORY
from .test_prepare import Said, bind, executing, step

SECRET = "what the tenant before had"
DISK = "/dev/nvme0n1"
SAVED = "/tmp/nvme.saved"
MOUNT = "/mnt/disk"
WIPING = (REPOSITORY / "etc/systemd/devagent.service.d/wiping.conf").read_text()
SCRATCH = """
- name: scratch
  match: {kind: nvme}
  mode: whole
  prepare: {scrub: nvme-format}
"""


def wiping(guest: Guest, *steps: Said) -> list[Said]:
    """Does steps with the rights of the unit and of its drop-in."""
    match = re.search("^AmbientCapabilities=(.*)$", WIPING, re.MULTILINE)
    assert match is not None
    return executing(guest, "steps", json.dumps(steps), more=match[1])


def scrub(target: str, how: str = "nvme-format") -> Said:
    return step("scrub", target, how=how)


def controller(guest: Guest) -> str:
    (address,) = (name for name in guest.names("/sys/bus/pci/drivers/nvme") if name.startswith("0000:"))
    return address


def content(guest: Guest) -> bool:
    """Tells whether the secret is anywhere on the disk, past the kernel's memory."""
    eventually(lambda: guest.run("test", "-b", DISK, check=False).code == 0)
    ran = guest.run("sh", "-c", f"dd if={DISK} bs=1M iflag=direct 2>/dev/null | grep -qa '{SECRET}'", check=False)
    return ran.code == 0


def fill(guest: Guest) -> None:
    guest.call(_fill, DISK, SECRET)
    assert content(guest)


@pytest.fixture
def restored(guest: Guest) -> Iterator[Guest]:
    """Gives the guest, and afterwards its NVMe disk what was on it."""
    yield from _restored(guest)


def _restored(guest: Guest) -> Iterator[Guest]:
    guest.run("dd", f"if={DISK}", f"of={SAVED}", "bs=1M")
    yield guest
    guest.run("umount", MOUNT, check=False)
    pf = next(name for name in guest.names(PCI) if name in _nvmes(guest))
    if guest.link(f"{PCI}/{pf}/driver") != "nvme":
        guest.bind(pf, "nvme")
    eventually(lambda: guest.run("test", "-b", DISK, check=False).code == 0)
    guest.run("dd", f"if={SAVED}", f"of={DISK}", "bs=1M", "oflag=direct")


def _nvmes(guest: Guest) -> list[str]:
    return [name for name in guest.names(PCI) if guest.read(f"{PCI}/{name}/class") == "0x010802"]


def test_a_drive_that_a_guest_had_is_formatted(restored: Guest) -> None:
    guest = restored
    address = controller(guest)
    fill(guest)
    (taken,) = wiping(guest, bind(address, "vfio-pci"))
    assert taken["holds"]
    machine = guest.hold(address)
    held = wiping(guest, bind(address, "nvme"), scrub(address))
    assert [each["kind"] for each in held] == ["retry", "permanent"]
    machine.end()
    back, wiped, sanitized = wiping(guest, bind(address, "nvme"), scrub(address), scrub(address, "nvme-sanitize"))
    assert back["holds"]
    assert wiped.get("reason") is None
    assert sanitized["reason"] == f"{address} cannot be sanitized; it can be formatted: nvme-format"
    assert not content(guest)


def test_a_drive_in_use_is_not_wiped(restored: Guest) -> None:
    guest = restored
    address = controller(guest)
    guest.run("sh", "-c", f"mkdir -p {MOUNT} && mount {DISK} {MOUNT} && echo '{SECRET}' > {MOUNT}/file && sync")
    (mounted,) = wiping(guest, scrub(address))
    assert (mounted["kind"], mounted["reason"]) == (
        "retry",
        f"{address}: {DISK} is mounted on {MOUNT}: it is not wiped",
    )
    guest.run("umount", MOUNT)
    reader = guest.start("sh", "-c", f"exec sleep 1000 < {DISK}")
    (opened,) = wiping(guest, scrub(address))
    assert (opened["kind"], opened["holders"]) == ("retry", [[reader.pid, "sleep"]])
    reader.end()
    assert content(guest)


def test_without_its_drop_in_nothing_is_wiped(restored: Guest) -> None:
    guest = restored
    address = controller(guest)
    fill(guest)
    (refused,) = executing(guest, "steps", json.dumps([scrub(address)]))
    assert "install devagent.service.d/wiping.conf" in refused["reason"]
    assert content(guest)


def _fill(disk: str, secret: str) -> None:
    """Runs in the guest: writes the disk full, past the kernel's memory."""
    import mmap  # noqa: PLC0415 - there nothing of this module is imported

    with mmap.mmap(-1, 1 << 20) as page:
        page[:] = (secret.encode() * (1 << 16))[: 1 << 20]
        fd = os.open(disk, os.O_WRONLY | os.O_DIRECT)
        for _ in range(8):
            os.write(fd, page)
        os.close(fd)
