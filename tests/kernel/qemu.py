# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A QEMU inside the guest: the program that has a device open when a real virtual machine has it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from .build import Lab
from .guest import PCI, Guest, Process, eventually

NAME: Final = "qemu-system-x86"
"""Its command, as /proc/PID/comm has it: 15 characters."""
THERE: Final = "/opt/devagent/qemu"
_OF_THE_GUEST: Final = ("ld-linux-", "libc.so.", "libm.so.", "linux-vdso.")
_FIRMWARE: Final = ("bios-256k.bin", "kvmvapic.bin", "linuxboot_dma.bin")
_START_S: Final = 300


def stage(lab: Lab, place: Path) -> None:
    """Copies the lab's QEMU, with the libraries that it is linked to here, for the guest's second disk."""
    (place / "lib").mkdir(parents=True)
    (place / "share").mkdir()
    shutil.copy(lab.qemu, place)
    ran = subprocess.run(["ldd", lab.qemu], capture_output=True, text=True, check=True)
    for line in ran.stdout.splitlines():
        # libfdt.so.1 => /lib/x86_64-linux-gnu/libfdt.so.1 (0x00007fa1c2662000)
        name, _, found = line.strip().partition(" => ")
        if found and not name.startswith(_OF_THE_GUEST):
            shutil.copy(found.split()[0], place / "lib" / name)
    for name in _FIRMWARE:
        for folder in lab.firmware:
            if (folder / name).exists():
                shutil.copy(folder / name, place / "share")


class Emulator:
    """A virtual machine that has a function on a VFIO driver; its own processor does not run, its devices are there."""

    def __init__(self, guest: Guest, address: str) -> None:
        self.guest = guest
        command = f"exec {THERE}/qemu-system-x86_64 -L {THERE}/share -machine q35 -accel tcg -m 32 -S -nodefaults"
        command += f" -display none -device vfio-pci,host={address}"
        self.process: Process = guest.start("env", f"LD_LIBRARY_PATH={THERE}/lib", "sh", "-c", command)
        self._group = guest.link(f"{PCI}/{address}/iommu_group")
        try:
            eventually(self._has_it, _START_S)
        except AssertionError:
            guest.run("kill", "-KILL", str(self.process.pid), check=False)
            raise AssertionError(f"QEMU in the guest has no {address}: {self.process.wait()}") from None

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    def end(self) -> None:
        """Ends it as a virtual machine that is switched off."""
        if self.guest.run("test", "-d", f"/proc/{self.pid}", check=False).code == 0:
            self.guest.run("kill", str(self.pid), check=False)
            self.process.wait()

    def _has_it(self) -> bool:
        return bool(self.guest.call(has_open, self.pid, self._group))


def has_open(pid: int, group: str) -> bool:
    """Runs in the guest: tells whether a process has the group, and the device itself, open."""
    try:
        opened = [str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return False
    return f"/dev/vfio/{group}" in opened and "anon_inode:[vfio-device]" in opened
