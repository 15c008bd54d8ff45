# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A capture of the guest says elsewhere what the guest says itself; one is kept as tests/hosts/guest.tar.xz.

To take it anew, after changes to what discovery reads, and its golden files with it:

    DEVAGENT_GOLDEN=1 python -m pytest tests/kernel/test_capture.py
    DEVAGENT_GOLDEN=1 python -m pytest tests/functional/test_captured_guest.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .cards import altera, dfl, gpu, qat, vgpu
from .guest import PCI, Guest
from .payload import REPOSITORY

KEPT = REPOSITORY / "tests/hosts/guest.tar.xz"
CAPTURE = "/tmp/guest.tar.xz"


def furnish(guest: Guest) -> None:
    """Plugs one of everything in."""
    guest.set_vfs(guest.plug(gpu(numa=0, vfs=4)), 4)
    guest.plug(altera(numa=0))
    guest.plug(dfl(numa=0))
    held = guest.set_vfs(guest.plug(gpu(numa=1, vfs=16, serial=0x48B02D0000C0FFEE)), 3)
    guest.bind(held[1], "vfio-pci")
    guest.set_vfs(guest.plug(qat(numa=1)), 2)
    virtual = guest.plug(vgpu(numa=1))
    guest.write(f"{PCI}/{virtual}/mdev_supported_types/nvidia-223/create", "4b20d080-1b54-4048-85b3-a6a62d165c01")
    guest.plug(gpu(domain=0x10000))


def test_capture_says_what_the_guest_says(guest: Guest, tmp_path: Path) -> None:
    furnish(guest)
    here = guest.discover("--all", "--capture", CAPTURE)
    archive = tmp_path / "guest.tar.xz"
    archive.write_bytes(guest.data(CAPTURE))
    command: list[str | Path] = [sys.executable, "-m", "devagent", "discover", "--all", "-o", "json", "--root", archive]
    there = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert (there.returncode, there.stderr) == (here.ran.code, "")
    assert there.stdout == here.ran.out
    if os.environ.get("DEVAGENT_GOLDEN"):
        KEPT.write_bytes(archive.read_bytes())
