# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What hangs of what was done for a consumer is known until the kernel comes back, and its end is noticed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devagent.model.plan import Step
from devagent.prepare.machine import StepStuck
from devagent.privileged import Privileged, process, start
from devagent.service.preparing.hanging import Hanging
from devagent.service.preparing.machine import PrivilegedMachine
from devagent.service.preparing.noting import NotingMachine

from ...privileged.pfs import PF, pf
from ...worlds import write

NUMVFS = f"sys/bus/pci/devices/{PF}/sriov_numvfs"
WANTED = Step("set_vf_count", PF, {"count": 4})


@pytest.fixture
def privileged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Privileged]:
    """Starts a privileged process on a host whose PF hangs and cannot be killed: a FIFO waits for its reader."""
    monkeypatch.setattr(process, "GRACE_S", 0.2)
    monkeypatch.setattr("devagent.privileged.child.Child.kill", lambda child: setattr(child, "killed", True))
    write(tmp_path, pf())
    (tmp_path / NUMVFS).unlink()
    os.mkfifo(tmp_path / NUMVFS)
    started = start({}, root=str(tmp_path))
    yield started
    started.stop()


def test_a_device_is_stuck_from_the_step_that_hangs_to_its_end(tmp_path: Path, privileged: Privileged) -> None:
    told: list[list[str]] = []
    hanging = Hanging(privileged, lambda addresses: told.append(list(addresses)))
    machine = NotingMachine(PrivilegedMachine(privileged, tmp_path), hanging.note)
    began = time.time()
    for _ in range(2):  # the second finds the first
        with pytest.raises(StepStuck):
            machine.do(WANTED, 0.1)
    assert told == [[PF]]
    assert list(hanging.stuck) == [PF]
    ((address, why, since),) = hanging.hung
    assert (address, "set_vf_count hangs in the kernel" in why) == (PF, True)
    assert began <= since <= time.time()
    hanging.forget_ended()
    assert list(hanging.stuck) == [PF]

    fd = os.open(tmp_path / NUMVFS, os.O_RDONLY | os.O_NONBLOCK)  # lets it go
    end = time.monotonic() + 30
    while hanging.stuck and time.monotonic() < end:
        hanging.forget_ended()
    os.close(fd)
    assert (hanging.stuck, hanging.hung, told) == ({}, (), [[PF], [PF]])
