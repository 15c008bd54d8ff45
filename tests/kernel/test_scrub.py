# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""NVMe controllers are wiped on the real kernel: what was on a namespace is gone, and nobody else's is touched."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

import pytest

from .daemon import Daemon
from .guest import PCI, Guest, eventually
from .payload import REPOSITORY
from .plan_steps import Said, bind, executing, step

SECRET = "what the tenant before had"
DISK = "/dev/nvme0n1"
SAVED = "/tmp/nvme.saved"
MOUNT = "/mnt/disk"
WIPING = (REPOSITORY / "etc/systemd/devagent.service.d/wiping.conf.sample").read_text()
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
    machine.end()
    assert [each["holders"] for each in held] == [[[machine.pid, "python3"]]] * 2
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


def test_a_prepared_drive_is_wiped_by_its_release_in_the_sandbox_of_the_unit(daemon: Daemon) -> None:
    guest = daemon.guest
    address = controller(guest)
    daemon.drop_in(WIPING)
    daemon.configure(SCRATCH)
    for _ in _restored(guest):
        fill(guest)
        daemon.start()
        provider = daemon.provider(address)
        (offered,) = provider["inventories"]
        consumer = daemon.cloud.allocate(provider["uuid"], **{offered: 1})
        group = {"provider": provider["uuid"], "resources": {offered: 1}}
        made = daemon.ask(f"/v1/preparations/{consumer}", "PUT", {"groups": [group]})
        assert (made["state"], made["handles"][0]["address"]) == ("prepared", address)
        assert guest.link(f"{PCI}/{address}/driver") == "vfio-pci"
        guest.hold(address).end()
        daemon.ask(f"/v1/preparations/{consumer}", "DELETE")
        daemon.until(lambda: daemon.ask("/v1/preparations")["preparations"] == [], f"{consumer} is released")
        assert guest.link(f"{PCI}/{address}/driver") == "nvme"
        assert not content(guest)


def test_a_drive_that_could_not_be_wiped_is_not_given_in_the_first_place(daemon: Daemon) -> None:
    address = controller(daemon.guest)
    daemon.configure(SCRATCH)
    daemon.start()
    provider = daemon.provider(address)
    (offered,) = provider["inventories"]
    consumer = daemon.cloud.allocate(provider["uuid"], **{offered: 1})
    group = {"provider": provider["uuid"], "resources": {offered: 1}}
    with pytest.raises(AssertionError, match=r"422 .*install devagent.service.d/wiping.conf"):
        daemon.ask(f"/v1/preparations/{consumer}", "PUT", {"groups": [group]})
    assert daemon.guest.link(f"{PCI}/{address}/driver") == "nvme"


def test_a_vf_goes_to_a_guest_and_back_and_others_namespaces_stay(restored: Guest) -> None:
    guest = restored
    address = controller(guest)
    fill(guest)
    guest.call(_command, "/dev/nvme0", 0x1C, 1 << 8 | 1, 0)  # the PF gives all its flexible interrupts, and queues
    guest.call(_command, "/dev/nvme0", 0x1C, 1, 0)
    guest.write("/sys/class/nvme/nvme0/reset_controller", "1")
    eventually(lambda: guest.read("/sys/class/nvme/nvme0/state") == "live")
    (vf,) = guest.set_vfs(address, 1)
    guest.call(_command, "/dev/nvme0", 0x1C, 1 << 16 | 1 << 8 | 8, 1)
    guest.call(_command, "/dev/nvme0", 0x1C, 1 << 16 | 8, 2)
    guest.call(_command, "/dev/nvme0", 0x1C, 1 << 16 | 9, 0)
    own, given = wiping(guest, bind(vf, "nvme"), bind(vf, "vfio-pci"))
    assert (own["holds"], given["holds"]) == (True, True)
    machine = guest.hold(vf)
    (held,) = wiping(guest, bind(vf, "nvme"))
    machine.end()
    assert held["kind"] == "retry"
    back, formatted, sanitized = wiping(guest, bind(vf, "nvme"), scrub(vf), scrub(vf, "nvme-sanitize"))
    assert back["holds"]
    assert formatted["reason"] == f"{vf} is a VF, and its namespace 1 is not its own: others have it, too"
    assert "would wipe all of its drive" in sanitized["reason"]
    assert content(guest)


def _command(node: str, opcode: int, cdw10: int, cdw11: int) -> None:
    """Runs in the guest: sends an admin command without data to a controller."""
    import fcntl  # noqa: PLC0415 - there nothing of this module is imported
    import struct  # noqa: PLC0415

    fd = os.open(node, os.O_RDWR)
    status = fcntl.ioctl(fd, 0xC0484E41, struct.pack("=B39xII24x", opcode, cdw10, cdw11))
    os.close(fd)
    # Bytes come back where the controller has taken it, its status where not.
    if not isinstance(status, bytes):
        raise OSError(f"the controller answers {status:#x}")


def _fill(disk: str, secret: str) -> None:
    """Runs in the guest: writes the disk full, past the kernel's memory."""
    import mmap  # noqa: PLC0415 - there nothing of this module is imported

    with mmap.mmap(-1, 1 << 20) as page:
        page[:] = (secret.encode() * (1 << 16))[: 1 << 20]
        fd = os.open(disk, os.O_WRONLY | os.O_DIRECT)
        for _ in range(8):
            os.write(fd, page)
        os.close(fd)
