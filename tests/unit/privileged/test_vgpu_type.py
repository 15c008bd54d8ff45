# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A VF carries one vGPU at a time, of a type that fits now, and keeps it while a process has it open."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from devagent.model.preparation import RefusalKind
from devagent.privileged.refused import VerbRefused
from devagent.privileged.vgpu_type import set_vgpu_type, vgpu_type

from ..worlds import Link, World, write

VF = "0000:3b:00.4"
FOLDER = f"sys/bus/pci/devices/{VF}"
TYPES = "ID    : vGPU Name\n1155  : NVIDIA L40S-1B\n 1157 : NVIDIA L40S-8Q\n"


def host(top: Path, current: str = "0\n", types: str = TYPES, more: World | None = None) -> Path:
    files = {f"{FOLDER}/nvidia/current_vgpu_type": current, f"{FOLDER}/nvidia/creatable_vgpu_types": types}
    group: World = {f"{FOLDER}/iommu_group": Link("../../../kernel/iommu_groups/77"), "proc/": ""}
    return write(top / "host", {**files, **group, **(more or {})})


def refused(top: Path, number: int) -> VerbRefused:
    with pytest.raises(VerbRefused) as caught:
        set_vgpu_type(top, VF, number)
    return caught.value


@pytest.mark.parametrize(("now", "wanted"), [(0, 1157), (1157, 0)])
def test_a_vgpu_is_made_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: int, wanted: int) -> None:
    top, written = host(tmp_path, f"{now}\n"), []

    def stored(_: int, data: bytes) -> int:
        written.append(data)
        return (top / FOLDER / "nvidia/current_vgpu_type").write_bytes(data + b"\n")

    monkeypatch.setattr(os, "write", stored)
    assert set_vgpu_type(top, VF, wanted) == {"before": now, "after": wanted}
    assert vgpu_type(top, VF) == {"type": wanted}
    assert written == [b"%d" % wanted]


def test_what_is_so_already_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", lambda *_: pytest.fail("written"))
    assert set_vgpu_type(host(tmp_path, "1155\n"), VF, 1155) == {"before": 1155, "after": 1155}


def test_another_vgpu_is_not_replaced(tmp_path: Path) -> None:
    error = refused(host(tmp_path, "1155\n"), 1157)
    assert "carries a vGPU of type 1155" in str(error)
    assert error.kind is RefusalKind.RETRY


def test_a_type_without_room_is_refused_for_now(tmp_path: Path) -> None:
    error = refused(host(tmp_path, types=TYPES.replace("1157", "1158")), 1157)
    assert (str(error), error.kind) == (f"{VF} has no room for a vGPU of type 1157 now", RefusalKind.RETRY)


def test_a_vgpu_that_a_machine_has_stays(tmp_path: Path) -> None:
    more: World = {"proc/4711/fd/38": Link("/dev/vfio/77"), "proc/4711/comm": "qemu\n"}
    error = refused(host(tmp_path, "1155\n", more=more), 0)
    assert [each.pid for each in error.holders] == [4711]
    assert vgpu_type(tmp_path / "host", VF) == {"type": 1155}


def test_the_drivers_refusal_is_told_as_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(fd: int, data: bytes) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "write", refusing)
    assert "NVIDIA's driver refused" in str(refused(host(tmp_path), 1157))


def test_a_success_that_is_none_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", lambda _, data: len(data))
    assert "carries a vGPU of type 0, though 1157 was reported done" in str(refused(host(tmp_path), 1157))


def test_a_function_that_is_none_is_refused_and_one_that_is_gone_told_as_gone(tmp_path: Path) -> None:
    error = refused(write(tmp_path / "a", {f"{FOLDER}/vendor": "0x10de\n"}), 1157)
    assert (error.kind, error.gone) == (RefusalKind.PERMANENT, False)
    assert refused(write(tmp_path / "b", {"sys/bus/pci/devices/": ""}), 1157).gone
