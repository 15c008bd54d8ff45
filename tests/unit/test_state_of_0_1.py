# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What devagent 0.1 left in its state_path is understood by whatever comes after it (docs/upgrade.md).

The files of state-0.1/ were written before its release, when the journal had version 1; the journal's as SQL (`sqlite3
preparations.db .dump`, and user_version). They never change: a later format gets files of its own beside them.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from devagent.model.gpu import GpuFacts
from devagent.model.handle import MdevHandle, PciHandle
from devagent.model.health import End
from devagent.model.health import State as Condition
from devagent.model.identity import Identity
from devagent.model.preparation import State
from devagent.model.snapshot import Problem
from devagent.placement.state import StateFile
from devagent.prepare.journal import Journal
from devagent.sources import condition_file, known
from devagent.sources.host import Directory

LEFT = Path(__file__).parent / "state-0.1"
GPU = "GPU-1b4e28ba-2fa1-11d2-883f-0016d3cca427"
PF = "4a1e7c52-0d0b-5f5e-9d8e-3c1f0b2a6d11"
READY, LEAVING, FAILED, BEGUN, GONE = (f"{number}e1f0f6a-27d4-4a3c-9a3e-0c1d2e3f4a5b" for number in range(1, 6))


@pytest.fixture
def state_path(tmp_path: Path) -> Path:
    """Gives a state_path as 0.1 has left it."""
    path = tmp_path / "var/lib/devagent"
    path.mkdir(parents=True)
    for name in ("identities.json", "health.json", "placement.state"):
        shutil.copy(LEFT / name, path)
    with closing(sqlite3.connect(path / "preparations.db")) as database:
        database.executescript((LEFT / "preparations.sql").read_text())
    return path


def test_devices_are_the_same(state_path: Path) -> None:
    problems: list[Problem] = []
    with Directory(state_path.parents[2]) as tree:
        gpu, nic = known.load(tree, "/var/lib/devagent", problems)
    assert problems == []
    assert (gpu.identity, gpu.gpu) == (Identity("nvml", GPU), GpuFacts(GPU, "1652000000001", 40960))
    assert (nic.identity, nic.topology) == (Identity("mac", "b8:59:9f:00:11:22"), "pci0000:3a/02.0/00.0")


def test_what_was_closed_stays_closed(state_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = condition_file.load(str(state_path))
    assert caplog.text == ""
    condition = kept.book[f"10de:20f1:nvml:{GPU}"]
    assert (condition.health.state, condition.troubles[0].end) == (Condition.UNHEALTHY, End.RESET)
    assert condition.override is not None
    assert (condition.override.state, condition.override.reason) == (Condition.UNHEALTHY, "fan is loud, ticket 4711")


def test_placement_is_not_read_anew(state_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    memory = StateFile(state_path).load()
    assert caplog.text == ""
    assert memory is not None
    assert (memory.microversion, memory.providers[PF].generation) == ((1, 39), 7)
    assert memory.providers[PF].inventories["SRIOV_NET_VF"].total == 8


def test_who_has_a_device_still_has_it(state_path: Path) -> None:
    with closing(Journal(state_path / "preparations.db", "another boot")) as journal:
        assert journal.trusted
        states = {entry.preparation.consumer: entry.preparation.state for entry in journal.entries()}
        assert states == {
            READY: State.PREPARED,
            LEAVING: State.RELEASING,
            FAILED: State.FAILED,
            BEGUN: State.PREPARING,
        }
        assert journal.holdings().consumers == {
            "0000:3c:00.2": READY,
            "0000:3c:00.3": LEAVING,
            "0000:3c:00.4": FAILED,
            "4b20d080-1b54-5048-85b3-a6a62d165c01": BEGUN,
        }
        # An hour of the clock, then: the few minutes that are left of it end with the upgrade.
        assert journal.tombstone(GONE) is None


def test_what_was_half_done_can_be_finished_or_undone(state_path: Path) -> None:
    with closing(Journal(state_path / "preparations.db", "another boot")) as journal:
        ready, leaving, failed, begun = (journal.get(consumer) for consumer in (READY, LEAVING, FAILED, BEGUN))
        assert ready and leaving and failed and begun
        assert ready.preparation.handles == (PciHandle(PF, "SRIOV_NET_VF", "0000:3c:00.2"),)
        assert leaving.release is not None
        assert [step.verb for step in leaving.release.steps] == ["reset", "bind"]
        assert leaving.released == {0}
        assert failed.preparation.found == {0: {"driver": "mlx5_core", "override": None}}
        assert failed.preparation.error is not None
        assert failed.preparation.error.holders[0].pid == 4711
        (handle,) = begun.preparation.plan.handles
        assert isinstance(handle, MdevHandle)
        assert (handle.parent, handle.mdev_type) == ("0000:5e:00.0", "nvidia-230")
        journal.forget(READY, now=1763712300.0, tombstone=0)
        assert READY not in journal.holdings().consumers.values()
