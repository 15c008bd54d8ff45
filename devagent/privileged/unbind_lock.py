# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Keeps everybody from opening an NVIDIA GPU while it is taken from its driver, which else waits for them for ever.

    # echo 1 > /proc/driver/nvidia/gpus/0000:3b:00.0/unbindLock
    # cat /proc/driver/nvidia/gpus/0000:3b:00.0/unbindLock
    1                                                   0: somebody has it open, and there is no lock

The lock is taken when the file is closed (nv-procfs.c), and goes with the GPU's entry when it is unbound.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from devagent.cause import system_words
from devagent.privileged.device import Device
from devagent.privileged.refused import RETRY, VerbRefused


@contextmanager
def locked(device: Device) -> Iterator[None]:
    """Holds the lock for the time of the `with`, which is to unbind it. Raises VerbRefused if it cannot be had."""
    path = device.root / "proc/driver/nvidia/gpus" / device.address / "unbindLock"
    if not path.exists():  # a driver without it
        yield
        return
    device.write(path, "1\n", " is gone from NVIDIA's driver", {})
    if _state(device, path) != "1":
        text = ": NVIDIA's driver does not let go of it: somebody has opened it just now; it is worth another try"
        raise device.refusal(RETRY, text)
    try:
        yield
    except VerbRefused:
        with suppress(VerbRefused):
            device.write(path, "0\n", "", {})
        raise


def _state(device: Device, path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise device.refusal(RETRY, f": unbindLock cannot be read: {system_words(error)}") from None
