# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A function is reset once, by the method that is asked for; never below a machine that has it or one of its VFs."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from devagent.privileged.refused import VerbRefused
from devagent.privileged.resetting import reset

from ..worlds import Link, World, write

PF = "0000:3b:00.0"
FOLDER = f"sys/bus/pci/devices/{PF}"


def host(top: Path, more: World | None = None) -> Path:
    group = {f"{FOLDER}/iommu_group": Link("../../../kernel/iommu_groups/12")}
    files = {f"{FOLDER}/reset": "", f"{FOLDER}/reset_method": "flr bus\n", "proc/": ""}
    return write(top / "host", {**files, **group, **(more or {})})


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes]]:
    noted = []

    def stored(fd: int, data: bytes) -> int:
        noted.append((Path(f"/proc/self/fd/{fd}").readlink().name, data))
        return len(data)

    monkeypatch.setattr(os, "write", stored)
    return noted


def refused(top: Path, method: str | None = None) -> VerbRefused:
    with pytest.raises(VerbRefused) as caught:
        reset(top, PF, method)
    return caught.value


def test_without_a_method_it_is_reset_as_the_kernel_prefers(tmp_path: Path, written: list[tuple[str, bytes]]) -> None:
    reset(host(tmp_path), PF, None)
    assert written == [("reset", b"1")]


def test_a_method_is_chosen_for_this_time_alone(tmp_path: Path, written: list[tuple[str, bytes]]) -> None:
    reset(host(tmp_path), PF, "bus")
    assert written == [("reset_method", b"bus"), ("reset", b"1"), ("reset_method", b"flr bus")]


def test_the_order_comes_back_also_if_the_reset_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = []

    def refusing(fd: int, data: bytes) -> int:
        name = Path(f"/proc/self/fd/{fd}").readlink().name
        noted.append((name, data))
        if name == "reset":
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        return len(data)

    monkeypatch.setattr(os, "write", refusing)
    error = refused(host(tmp_path), "flr")
    assert (error.kind, "no way in which" in str(error)) == ("permanent", True)
    assert noted[-1] == ("reset_method", b"flr bus")


def test_a_method_that_it_has_not_is_refused(tmp_path: Path, written: list[tuple[str, bytes]]) -> None:
    assert str(refused(host(tmp_path), "pm")) == f"{PF} cannot be reset by pm: it has flr bus"
    assert written == []


def test_one_that_cannot_be_reset_is_refused(tmp_path: Path) -> None:
    top = host(tmp_path)
    for name in ("reset", "reset_method"):
        (top / FOLDER / name).unlink()
    for method in (None, "flr"):
        error = refused(top, method)
        assert (str(error), error.kind) == (f"{PF} cannot be reset: the kernel knows no way", "permanent")


@pytest.mark.parametrize("group", ["12", "101"])
def test_it_or_a_vf_of_it_is_with_a_machine(tmp_path: Path, written: list[tuple[str, bytes]], group: str) -> None:
    vf: World = {
        "sys/bus/pci/devices/0000:3b:00.1/iommu_group": Link("../../../kernel/iommu_groups/101"),
        f"{FOLDER}/virtfn0": Link("../0000:3b:00.1"),
        "proc/4711/fd/9": Link(f"/dev/vfio/{group}"),
    }
    assert [each.pid for each in refused(host(tmp_path, vf)).holders] == [4711]
    assert written == []
