# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A driver is changed by the override, unbind and bind, once each; what has users or VFs is left alone."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from devagent.model.preparation import Holder, RefusalKind
from devagent.privileged.binding import bind, driver
from devagent.privileged.refused import VerbRefused

from ..worlds import Link, World, write

VF = "0000:3b:00.1"
FOLDER = f"sys/bus/pci/devices/{VF}"
DRIVERS = "sys/bus/pci/drivers"


def host(top: Path, bound: str | None = None, override: str | None = None, more: World | None = None) -> Path:
    """Writes a host with one function, and the drivers vfio-pci and iavf."""
    world: dict[str, Any] = {
        f"{FOLDER}/driver_override": f"{override or '(null)'}\n",
        f"{FOLDER}/iommu_group": Link("../groups/12"),
        "proc/": "",
    }
    for name in ("vfio-pci", "iavf"):
        world |= {f"{DRIVERS}/{name}/bind": "", f"{DRIVERS}/{name}/unbind": ""}
    if bound:
        world[f"{FOLDER}/driver"] = Link(f"../../drivers/{bound}")
    return write(top / "host", {**world, **(more or {})})


class Kernel:
    """Does on a write what the kernel does, and notes what was written; `refuses` has the errno for a file's name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **refuses: int) -> None:
        self.written: list[tuple[str, str]] = []
        self.refuses, self.lies = refuses, False
        monkeypatch.setattr(os, "write", self._write)

    def _write(self, fd: int, data: bytes) -> int:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        self.written.append((path.name, data.decode()))
        if path.name in self.refuses:
            raise OSError(self.refuses[path.name], os.strerror(self.refuses[path.name]))
        link = next(parent for parent in path.parents if parent.name == "host") / FOLDER / "driver"
        if path.name == "driver_override":
            path.write_text(data.decode() if data.strip() else "(null)\n")
        elif path.name == "unbind":
            link.unlink()
        elif path.name == "bind" and not self.lies:
            link.symlink_to(f"../../drivers/{path.parent.name}")
        return len(data)


def refused(top: Path, name: str | None) -> VerbRefused:
    with pytest.raises(VerbRefused) as caught:
        bind(top, VF, name, name)
    return caught.value


SET, CLEAR, LET_GO, TAKE = ("driver_override", "vfio-pci\n"), ("driver_override", "\n"), ("unbind", VF), ("bind", VF)


@pytest.mark.parametrize(
    ("before", "was", "after", "override", "written"),
    [
        (None, None, "vfio-pci", "vfio-pci", [SET, TAKE]),
        ("iavf", None, "vfio-pci", "vfio-pci", [SET, LET_GO, TAKE]),
        ("vfio-pci", "vfio-pci", "iavf", None, [("driver_override", "iavf\n"), LET_GO, TAKE, CLEAR]),
        ("vfio-pci", "vfio-pci", None, None, [LET_GO, CLEAR]),
        ("vfio-pci", "vfio-pci", "vfio-pci", "vfio-pci", []),
        ("iavf", "iavf", "iavf", None, [CLEAR]),
        ("vfio-pci", "vfio-pci", "iavf", "iavf", [("driver_override", "iavf\n"), LET_GO, TAKE]),
        ("iavf", None, None, "vfio-pci", [LET_GO, SET]),
    ],
)
def test_the_function_has_driver_and_override_as_asked_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: str | None,
    was: str | None,
    after: str | None,
    override: str | None,
    written: list[tuple[str, str]],
) -> None:
    kernel = Kernel(monkeypatch)
    top = host(tmp_path, before, was)
    assert bind(top, VF, after, override) == {"before": before, "after": after}
    assert kernel.written == written
    assert driver(top, VF) == {"driver": after, "override": override}


@pytest.mark.parametrize(
    ("number", "kind", "says"),
    [
        (errno.ENODEV, "permanent", "is not for this device"),
        (errno.EBUSY, "retry", "cannot have it now"),
        (errno.EINVAL, "permanent", "denylist"),
        (errno.EAGAIN, "retry", "waits for something else"),
        (errno.EIO, "retry", "the kernel answered: input/output error"),
    ],
)
def test_the_drivers_answer_is_explained_and_not_asked_for_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: str, says: str
) -> None:
    kernel = Kernel(monkeypatch, bind=number)
    error = refused(host(tmp_path), "vfio-pci")
    assert (error.kind, says in str(error)) == (kind, True)
    assert [name for name, _ in kernel.written].count("bind") == 1


def test_a_function_without_iommu_group_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Kernel(monkeypatch, bind=errno.EINVAL)
    top = host(tmp_path)
    (top / FOLDER / "iommu_group").unlink()
    assert "it is in no IOMMU group" in str(refused(top, "vfio-pci"))


def test_a_bind_that_binds_nothing_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Kernel(monkeypatch).lies = True
    why = f"{VF} is bound to no driver, though it was to be vfio-pci"
    assert str(refused(host(tmp_path), "vfio-pci")) == why


def test_nothing_is_touched_for_a_driver_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    error = refused(host(tmp_path, "iavf"), "mlx5_vfio_pci")
    assert "load its module (modprobe mlx5_vfio_pci)" in str(error)
    assert error.kind is RefusalKind.PERMANENT
    assert kernel.written == []


def test_nothing_is_touched_while_a_process_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    held: World = {"proc/4711/fd/38": Link("/dev/vfio/12 (deleted)"), "proc/4711/comm": "qemu-system-x86\n"}
    error = refused(host(tmp_path, "vfio-pci", more=held), None)
    assert (error.kind, error.holders) == (RefusalKind.RETRY, (Holder(pid=4711, command="qemu-system-x86"),))
    assert str(error) == f"{VF} is in use: process 4711 has /dev/vfio/12 open"
    assert kernel.written == []


def test_nothing_is_touched_that_has_vfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    error = refused(host(tmp_path, "iavf", more={f"{FOLDER}/virtfn0": Link("../x")}), "vfio-pci")
    assert "has 1 VFs, which would go with its driver iavf" in str(error)
    assert kernel.written == []


def test_a_device_that_is_gone_is_told_as_gone(tmp_path: Path) -> None:
    assert refused(write(tmp_path / "h", {"sys/bus/pci/devices/": ""}), None).gone


DISK = "sys/class/block/nvme1n1"


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("proc/1/mountinfo", "36 25 259:1 / /srv rw - ext4 /dev/nvme1n1p1 rw\n", "/dev/nvme1n1p1 is mounted on /srv"),
        ("proc/swaps", "Filename Type\n/dev/nvme1n1p1  partition 1 0 -2\n", "/dev/nvme1n1p1 is swapped on"),
        (f"{DISK}/holders/dm-3", Link("../dm-3"), "/dev/nvme1n1 holds dm-3"),
    ],
)
@pytest.mark.parametrize("name", ["nvme1n1", "nvme1c1n1"])
def test_a_drive_that_the_host_has_put_to_use_is_not_taken_from_its_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, path: str, text: str | Link, said: str
) -> None:
    """Whatever looked before: a file system that loses its disk loses what was not written yet."""
    disk: World = {
        f"{DRIVERS}/nvme/unbind": "",
        f"{FOLDER}/nvme/nvme1/{name}/nsid": "1\n",
        f"{DISK}/dev": "259:0\n",
        f"{DISK}/nvme1n1p1/partition": "1\n",
        f"{DISK}/nvme1n1p1/dev": "259:1\n",
    }
    kernel = Kernel(monkeypatch)
    root = host(tmp_path / "used", "nvme", more={**disk, path: text})
    with pytest.raises(VerbRefused, match=said) as error:
        bind(root, VF, "vfio-pci", "vfio-pci")
    assert (error.value.kind, kernel.written) == (RefusalKind.RETRY, [])
    assert bind(host(tmp_path / "idle", "nvme", more=disk), VF, "vfio-pci", "vfio-pci")["after"] == "vfio-pci"


@pytest.mark.parametrize("is_had", [True, False])
def test_nvidias_driver_is_unbound_only_under_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_had: bool
) -> None:
    """Else the kernel waits, in the middle of the unbind, for whoever has opened the GPU just now."""
    lock = f"proc/driver/nvidia/gpus/{VF}/unbindLock"
    kernel = Kernel(monkeypatch)
    top = host(tmp_path, "nvidia", more={lock: "1\n" if is_had else "0\n", f"{DRIVERS}/nvidia/unbind": ""})
    if is_had:
        assert bind(top, VF, "vfio-pci", "vfio-pci")["after"] == "vfio-pci"
        assert kernel.written == [SET, ("unbindLock", "1\n"), LET_GO, TAKE]
    else:
        error = refused(top, "vfio-pci")
        assert (error.kind, "has opened it just now" in str(error)) == (RefusalKind.RETRY, True)
        assert LET_GO not in kernel.written


def test_a_link_in_place_of_a_file_of_sysfs_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = host(tmp_path, "iavf")
    (top / "elsewhere").write_text("")
    (top / FOLDER / "driver_override").unlink()
    (top / FOLDER / "driver_override").symlink_to(top / "elsewhere")
    kernel = Kernel(monkeypatch)
    assert "driver_override cannot be opened" in str(refused(top, "vfio-pci"))
    assert (kernel.written, (top / "elsewhere").read_text()) == ([], "")
