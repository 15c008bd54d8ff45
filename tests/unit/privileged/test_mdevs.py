# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Mediated devices come and go by UUID; one of another type, or that a machine has, stays."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from devagent.privileged.mdevs import create_mdev, remove_mdev
from devagent.privileged.refused import VerbRefused

from ..worlds import Link, World, write

PARENT = "0000:3b:00.0"
FOLDER = f"sys/bus/pci/devices/{PARENT}"
TYPE, OTHER = "nvidia-558", "nvidia-559"
UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"
MADE: World = {
    f"{FOLDER}/{UUID}/mdev_type": Link(f"../mdev_supported_types/{TYPE}"),
    f"{FOLDER}/{UUID}/remove": "",
    f"{FOLDER}/{UUID}/iommu_group": Link("../../../kernel/iommu_groups/30"),
}


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes]]:
    """Does on a write what the kernel does, and notes what was written."""
    noted = []

    def stored(fd: int, data: bytes) -> int:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        noted.append((path.name, data))
        if path.name == "create":
            write(tmp_path / "host", MADE)
        else:
            shutil.rmtree(path.parent)
        return len(data)

    monkeypatch.setattr(os, "write", stored)
    return noted


def host(top: Path, *more: World) -> Path:
    world: dict[str, str] = {f"{FOLDER}/mdev_supported_types/{each}/create": "" for each in (TYPE, OTHER)}
    for each in ({**world, "proc/": ""}, *more):
        write(top / "host", each)
    return top / "host"


def test_one_comes_and_goes_by_one_write_each(tmp_path: Path, written: list[tuple[str, bytes]]) -> None:
    top = host(tmp_path)
    for _ in range(2):
        create_mdev(top, PARENT, TYPE, UUID)
    assert (top / FOLDER / UUID).is_dir()
    for _ in range(2):
        remove_mdev(top, PARENT, TYPE, UUID)
    assert written == [("create", UUID.encode()), ("remove", b"1")]


@pytest.mark.parametrize("do", [create_mdev, remove_mdev])
def test_one_of_another_type_is_not_touched(tmp_path: Path, written: list[tuple[str, bytes]], do: object) -> None:
    assert callable(do)
    with pytest.raises(VerbRefused, match=f"is of the type {TYPE}, not {OTHER}"):
        do(host(tmp_path, MADE), PARENT, OTHER, UUID)
    assert written == []


def test_one_that_a_machine_has_stays(tmp_path: Path, written: list[tuple[str, bytes]]) -> None:
    top = host(tmp_path, MADE, {"proc/4711/fd/9": Link("/dev/vfio/30"), "proc/4711/comm": "qemu\n"})
    with pytest.raises(VerbRefused, match="is in use: process 4711 has /dev/vfio/30 open") as caught:
        remove_mdev(top, PARENT, TYPE, UUID)
    assert [each.pid for each in caught.value.holders] == [4711]
    assert written == []


@pytest.mark.parametrize(
    ("number", "kind", "says"),
    [
        (errno.EEXIST, "permanent", "another device of this host"),
        (errno.EUSERS, "retry", "no room"),
        (errno.ENODEV, "retry", "taking its mediated devices away"),
        (errno.EIO, "retry", "answered: input/output error"),
    ],
)
def test_the_kernels_answer_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: str, says: str
) -> None:
    def refusing(fd: int, data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", refusing)
    with pytest.raises(VerbRefused) as caught:
        create_mdev(host(tmp_path), PARENT, TYPE, UUID)
    assert (caught.value.kind, says in str(caught.value)) == (kind, True)


def test_a_success_that_is_none_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", lambda _, data: len(data))
    with pytest.raises(VerbRefused, match="is not there"):
        create_mdev(host(tmp_path), PARENT, TYPE, UUID)
    with pytest.raises(VerbRefused, match="still there"):
        remove_mdev(host(tmp_path, MADE), PARENT, TYPE, UUID)
