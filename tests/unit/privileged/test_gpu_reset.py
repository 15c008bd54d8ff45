# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's GPUs are reset by NVIDIA's tool, all others by the kernel without their driver; what is in use never is."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from devagent.model.preparation import Holder, RefusalKind
from devagent.privileged.refused import VerbRefused
from devagent.privileged.scrubbing import can_scrub, scrub

from ..worlds import Link, World, write

GPU = "0000:3b:00.0"
FOLDER = f"sys/bus/pci/devices/{GPU}"
TOOL = "usr/bin/nvidia-smi"
MINOR: World = {
    f"proc/driver/nvidia/gpus/{GPU}/information": "Model: 	 NVIDIA H200\nDevice Minor: 	 3\n",
    "proc/4711/fd/9": Link("/dev/nvidia3"),
    "proc/4711/comm": "dcgm\n",
}
ANSWERS = """#!/bin/sh
echo "$0 $*" >> {log}
env | sort >> {log}.env
case "$*" in
--gpu-reset*) {reset} ;;
--query-gpu*) {query} ;;
esac
"""
GOOD = f"echo 'GPU 0000{GPU.upper()} was successfully reset.'; echo 'All done.'"
THERE = f"echo 0000{GPU.upper()}"


def host(top: Path, driver: str | None, **more: str | Link) -> Path:
    world: dict[str, str | bytes | Link] = {"proc/": "", f"{FOLDER}/reset": "", f"{FOLDER}/driver_override": ""}
    world[f"{FOLDER}/class"] = "0x030200\n"
    for name in ("amdgpu", "vfio-pci"):
        world |= {f"sys/bus/pci/drivers/{name}/bind": "", f"sys/bus/pci/drivers/{name}/unbind": ""}
    if driver:
        world[f"{FOLDER}/driver"] = Link(f"../../drivers/{driver}")
    return write(top, {**world, **more})


def tool(top: Path, *, reset: str = GOOD, query: str = THERE, mode: int = 0o755) -> Path:
    """Puts in place what stands in for nvidia-smi, and gives where it notes how it was called."""
    log = top / "log"
    write(top, {TOOL: ANSWERS.format(log=log, reset=reset, query=query)})
    (top / TOOL).chmod(mode)
    return log


def wipe(top: Path, verb: Callable[..., dict[str, object]] = scrub) -> None:
    assert verb(top, GPU, "gpu-reset", time.monotonic() + 30) == {}


def refused(top: Path, verb: Callable[..., dict[str, object]] = scrub) -> VerbRefused:
    with pytest.raises(VerbRefused) as caught:
        wipe(top, verb)
    return caught.value


def test_nvidias_tool_is_called_for_this_gpu_in_a_clean_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("SECRET", "password")
    log = tool(host(tmp_path, "nvidia"))
    wipe(tmp_path)
    calls = [line.split(" ", 1)[1] for line in log.read_text().splitlines()]
    assert calls == [f"--gpu-reset -i {GPU}", f"--query-gpu=pci.bus_id --format=csv,noheader -i {GPU}"]
    environment = log.with_suffix(".env").read_text()
    assert "LC_ALL=C" in environment
    assert "SECRET" not in environment
    assert "LD_PRELOAD" not in environment


@pytest.mark.parametrize(
    ("said", "kind", "says"),
    [
        ("Unable to reset this GPU because it's being used by another process.", "retry", "being used by another"),
        ("Resetting GPU is not supported.", "permanent", "Resetting GPU is not supported."),
        ("Insufficient Permissions", "permanent", "it needs CAP_SYS_ADMIN (see devagent.service.d/wiping.conf)"),
    ],
)
def test_what_the_tool_says_of_its_failure_is_quoted(tmp_path: Path, said: str, kind: str, says: str) -> None:
    tool(host(tmp_path, "nvidia"), reset=f'echo "{said}"; exit 3')
    error = refused(tmp_path)
    assert (error.kind, says in str(error)) == (kind, True)


def test_who_is_in_the_way_of_nvidias_tool_is_named(tmp_path: Path) -> None:
    tool(host(tmp_path, "nvidia", **MINOR), reset="exit 19")  # type: ignore[arg-type]
    error = refused(tmp_path)
    assert error.holders == (Holder(pid=4711, command="dcgm"),)
    assert "process 4711 has /dev/nvidia3 open" in str(error)


@pytest.mark.parametrize(("said", "code"), [("No devices were found", 6), ("00000000:AF:00.0", 0)])
def test_a_gpu_that_does_not_answer_after_its_reset_is_not_reset(tmp_path: Path, said: str, code: int) -> None:
    tool(host(tmp_path, "nvidia"), query=f"echo '{said}'; exit {code}")
    error = refused(tmp_path)
    assert f"does not answer after its reset; nvidia-smi said: '{said}'" in str(error)
    assert error.kind is RefusalKind.RETRY


@pytest.mark.parametrize("verb", [scrub, can_scrub])
def test_a_tool_that_others_can_write_is_not_run(tmp_path: Path, verb: Callable[..., dict[str, object]]) -> None:
    log = tool(host(tmp_path, "nvidia"), mode=0o777)
    error = refused(tmp_path, verb)
    assert "there is no nvidia-smi that root alone can write" in str(error)
    assert error.kind is RefusalKind.PERMANENT
    assert not log.exists()


@pytest.mark.parametrize("verb", [scrub, can_scrub])
@pytest.mark.parametrize(("how", "kind"), [("gpu-reset", "GPU"), ("nvme-format", "NVMe drive")])
def test_what_a_policy_takes_for_something_else_is_refused_for_good(
    tmp_path: Path, verb: Callable[..., dict[str, object]], how: str, kind: str
) -> None:
    (host(tmp_path, "mlx5_core") / FOLDER / "class").write_text("0x020000\n")
    with pytest.raises(VerbRefused, match=rf"is no {kind} \(its class is 0x020000\)") as caught:
        verb(tmp_path, GPU, how, time.monotonic() + 30)
    assert caught.value.kind is RefusalKind.PERMANENT


class Kernel:
    """Does on a write what the kernel does, and notes what was written to which file."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.link, self.written = top / FOLDER / "driver", list[tuple[str, str, str | None]]()
        monkeypatch.setattr(os, "write", self._write)

    def _write(self, fd: int, data: bytes) -> int:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path.name == "unbind":
            self.link.unlink()
        elif path.name == "bind":
            self.link.symlink_to(f"../../drivers/{path.parent.name}")
        driver = self.link.readlink().name if self.link.is_symlink() else None
        self.written.append((path.name, data.decode().strip(), driver))
        return len(data)


def test_another_gpu_is_reset_by_the_kernel_while_no_driver_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(host(tmp_path, "amdgpu"), monkeypatch)
    wipe(tmp_path)
    done = [each for each in kernel.written if each[0] in ("reset", "bind", "unbind")]
    assert done == [("unbind", GPU, None), ("reset", "1", None), ("bind", GPU, "amdgpu")]


def test_a_gpu_that_does_not_come_back_from_its_reset_is_not_left_without_its_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(host(tmp_path, "amdgpu"), monkeypatch)
    write_as_kernel = os.write

    def late(fd: int, data: bytes) -> int:
        if Path(f"/proc/self/fd/{fd}").readlink().name == "reset":
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        return write_as_kernel(fd, data)

    monkeypatch.setattr(os, "write", late)
    assert "did not come back from its reset in time" in str(refused(tmp_path))
    assert kernel.link.readlink().name == "amdgpu"


def test_a_gpu_on_vfio_is_reset_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(host(tmp_path, "vfio-pci"), monkeypatch)
    wipe(tmp_path)
    assert kernel.written == [("reset", "1", "vfio-pci")]


def test_a_gpu_that_a_process_draws_on_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawing: World = {
        f"{FOLDER}/drm/renderD128/dev": "226:128\n",
        "proc/4711/fd/9": Link("/dev/dri/renderD128"),
        "proc/4711/comm": "Xorg\n",
    }
    kernel = Kernel(host(tmp_path, "amdgpu", **drawing), monkeypatch)  # type: ignore[arg-type]
    error = refused(tmp_path)
    assert (error.kind, error.holders) == (RefusalKind.RETRY, (Holder(pid=4711, command="Xorg"),))
    assert kernel.written == []


@pytest.mark.parametrize("verb", [scrub, can_scrub])
def test_a_gpu_that_the_kernel_cannot_reset_is_refused_for_good(
    tmp_path: Path, verb: Callable[..., dict[str, object]]
) -> None:
    (host(tmp_path, "amdgpu") / FOLDER / "reset").unlink()
    error = refused(tmp_path, verb)
    assert (str(error), error.kind) == (f"{GPU} cannot be reset: the kernel knows no way", RefusalKind.PERMANENT)
