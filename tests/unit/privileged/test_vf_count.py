# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""VFs are made and removed with one write, counted by their links, and refusals say what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devagent.errors import VerbFailed
from devagent.privileged.vf_count import set_vf_count

from ..worlds import Link, World, write
from .pfs import DEVICE, PF, Kernel, host


def refused(top: Path, count: int) -> str:
    with pytest.raises(VerbFailed) as caught:
        set_vf_count(top, PF, count)
    return str(caught.value)


def test_vfs_are_made_with_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(tmp_path).install(monkeypatch)
    assert set_vf_count(host(tmp_path), PF, 8) == {"before": 0, "after": 8}
    assert kernel.written == [b"8"]


def test_vfs_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(tmp_path).install(monkeypatch)
    assert set_vf_count(host(tmp_path, vfs=3), PF, 0) == {"before": 3, "after": 0}
    assert kernel.written == [b"0"]


@pytest.mark.parametrize("count", [0, 4])
def test_what_is_so_already_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    kernel = Kernel(tmp_path).install(monkeypatch)
    assert set_vf_count(host(tmp_path, vfs=count), PF, count) == {"before": count, "after": count}
    assert kernel.written == []


def test_a_failing_write_happens_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python file object would write again when it is closed."""
    kernel = Kernel(tmp_path, refuses=errno.EIO).install(monkeypatch)
    assert refused(host(tmp_path), 4) == f"{PF}: its driver mlx5_core answered: input/output error"
    assert kernel.written == [b"4"]


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOENT, "its driver mlx5_core cannot make VFs; bind one that can"),
        (errno.EBUSY, "its driver mlx5_core is busy"),
        (errno.ERANGE, "it cannot have 4 VFs"),
        (errno.EINVAL, "its driver mlx5_core cannot make just 4 VFs"),
        (errno.ENOMEM, "the firmware left no room for VFs"),
        (errno.EPERM, "while VFs are given away"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_the_kernels_answer_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    Kernel(tmp_path, refuses=number).install(monkeypatch)
    text = refused(host(tmp_path), 4)
    assert says in text
    assert text.startswith(PF)
    assert text.endswith(f"({os.strerror(number).lower()})")


def test_a_pf_without_driver_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Kernel(tmp_path).install(monkeypatch)
    assert "it has no driver, and VFs are made by the driver; bind one" in refused(host(tmp_path, driver=None), 4)


def test_another_number_needs_none_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(tmp_path).install(monkeypatch)
    why = f"{PF} has 2 VFs: they must be removed before there can be 4"
    assert refused(host(tmp_path, vfs=2), 4) == why
    assert kernel.written == []


def test_a_driver_that_makes_as_many_as_it_likes_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel calls such a write a success: QAT enables all VFs whatever was asked for."""
    Kernel(tmp_path, makes=lambda _: 8).install(monkeypatch)
    why = f"{PF} has 8 VFs, though 4 were asked for and its driver mlx5_core reported success"
    assert refused(host(tmp_path), 4) == why


def test_a_device_that_is_gone_and_one_that_is_no_pf(tmp_path: Path) -> None:
    top = write(tmp_path / "h", {"sys/bus/pci/devices/": ""})
    assert refused(top, 4) == f"{PF}: there is no such PCI device (any more)"
    assert refused(write(top, {f"{DEVICE}/vendor": "0x15b3\n"}), 4) == f"{PF} is no SR-IOV PF: it cannot have VFs"


def test_a_link_in_the_files_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("12345")
    top = host(tmp_path)
    (top / DEVICE / "sriov_numvfs").unlink()
    (top / DEVICE / "sriov_numvfs").symlink_to(tmp_path / "precious")
    assert "sriov_numvfs cannot be opened" in refused(top, 4)
    assert (tmp_path / "precious").read_text() == "12345"


def test_sriov_numvfs_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reader would wait for the device's lock, for ever where a removal hangs."""
    Kernel(tmp_path).install(monkeypatch)
    top, real, modes = host(tmp_path), os.open, []

    def opened(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if str(path).endswith("sriov_numvfs"):
            modes.append(flags & os.O_ACCMODE)
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", opened)
    set_vf_count(top, PF, 4)
    assert modes == [os.O_WRONLY]


@pytest.mark.parametrize("node", ["/dev/vfio/101", "/dev/vfio/noiommu-101", "/dev/vfio/devices/vfio7"])
def test_a_vf_that_a_process_has_open_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: str
) -> None:
    kernel = Kernel(tmp_path).install(monkeypatch)
    processes: World = {"proc/1/fd/0": Link("/dev/null"), "proc/4711/fd/38": Link(node), "proc/version": "Linux\n"}
    top = write(write(host(tmp_path, vfs=3), processes), {"sys/bus/pci/devices/0000:3b:01.1/vfio-dev/vfio7/": ""})
    assert refused(top, 0) == f"{PF}: VF 1 is in use: process 4711 has {node} open"
    assert kernel.written == []
    (top / "proc/4711/fd/38").unlink()
    assert set_vf_count(top, PF, 0)["after"] == 0


def test_where_users_may_not_be_seen_no_vf_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(tmp_path).install(monkeypatch)
    real = Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        if path.name == "fd":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert "needs CAP_SYS_PTRACE" in refused(write(host(tmp_path, vfs=3), {"proc/1/fd/": ""}), 0)
    assert kernel.written == []
