# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's VFs, by a tool that behaves as NVIDIA's does, and by nothing while anybody would suffer from it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devagent.errors import VerbFailed
from devagent.model.preparation import Holder, RefusalKind
from devagent.privileged import Privileged
from devagent.privileged.binding import bind
from devagent.privileged.refused import VerbRefused

from .mig_gpu import GPU, ON, ONE, STATE, call, nvml, opens, privileged, refused, root
from .nvml.library import Nvml

__all__ = ["call", "nvml", "privileged", "root"]

TOTAL = 4
SCRIPT = f"""#!/bin/sh
top={{top}}
device=$top/sys/bus/pci/devices/$2
echo "$# $1 $2 [$HOME$FAKE_NVML_STATE] $LC_ALL" >> $top/ran
[ "$2" = {GPU} ] || exit 1
{{trouble}}
rm -f $device/virtfn*
case $1 in
-e) for index in $(seq 0 {TOTAL - 1}); do
        mkdir -p $top/sys/bus/pci/devices/0000:3b:00.$((index + 4))
        ln -s ../0000:3b:00.$((index + 4)) $device/virtfn$index
    done
    sed -i '/^instance/d' $top/../nvml.state;;
esac
"""


@pytest.fixture
def tool(root: Path) -> Callable[..., Path]:
    """Installs the tool, with some trouble that it has; gives the file that tells how it was called."""

    def install(trouble: str = "") -> Path:
        path = root / "usr/lib/nvidia/sriov-manage"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SCRIPT.format(top=root, trouble=trouble))
        path.chmod(0o755)
        (root / "sys/bus/pci/drivers/pci-pf-stub").mkdir(parents=True, exist_ok=True)
        (root / f"sys/bus/pci/devices/{GPU}/sriov_totalvfs").write_text(f"{TOTAL}\n")
        return root / "ran"

    return install


def vfs(root: Path) -> int:
    return len(list((root / f"sys/bus/pci/devices/{GPU}").glob("virtfn*")))


def test_all_vfs_are_made_and_removed(call: Callable[..., Any], tool: Callable[..., Path], root: Path) -> None:
    ran = tool()
    assert call("set_vf_count", count=TOTAL) == {"before": 0, "after": TOTAL}
    assert call("set_vf_count", count=TOTAL) == {"before": TOTAL, "after": TOTAL}
    assert call("set_vf_count", count=0) == {"before": TOTAL, "after": 0}
    assert vfs(root) == 0
    assert ran.read_text().splitlines() == [f"2 -e {GPU} [] C", f"2 -d {GPU} [] C"], "once each, in a clean environment"


def test_nvml_is_closed_while_the_tool_runs(call: Callable[..., Any], tool: Callable[..., Path], nvml: Nvml) -> None:
    tool(f"[ $(wc -l < {nvml.sessions}) = 1 ] || exit 9")
    call("set_vf_count", count=TOTAL)


@pytest.mark.parametrize("count", [1, TOTAL - 1, TOTAL + 1])
def test_it_makes_all_or_none(call: Callable[..., Any], tool: Callable[..., Path], count: int) -> None:
    ran = tool()
    error = refused(call, "set_vf_count", count=count)
    assert str(error) == f"{GPU} cannot have just {count} VFs: NVIDIA's sriov-manage makes all {TOTAL} or none"
    assert error.kind is RefusalKind.PERMANENT
    assert not ran.exists()


@pytest.mark.parametrize(
    ("pid", "command", "node", "words"),
    [
        (812, "nvidia-persistenced", "/dev/nvidia0", f"lets go of it after nvidia-smi -i {GPU} -pm 0"),
        (813, "nv-hostengine", "/dev/nvidia0", "it is DCGM: stop nvidia-dcgm"),
        (4711, "python3", "/dev/nvidia0", "process 4711 has /dev/nvidia0 open"),
    ],
)
def test_who_has_the_gpu_open_is_told(
    call: Callable[..., Any], tool: Callable[..., Path], root: Path, pid: int, command: str, node: str, words: str
) -> None:
    ran = tool()
    opens(root, pid, command, node)
    opens(root, 1, "another", "/dev/nvidia1")
    error = refused(call, "set_vf_count", count=TOTAL)
    assert words in str(error)
    assert (error.kind, error.holders) == (RefusalKind.RETRY, (Holder(pid=pid, command=command[:15]),))
    assert not ran.exists()


def test_mig_instances_are_not_destroyed_by_the_way(
    call: Callable[..., Any], tool: Callable[..., Path], nvml: Nvml
) -> None:
    ran = tool()
    nvml.says(STATE, ON, f"instance {GPU} {ONE} 6", f"instance {GPU} {ONE} 5")
    error = refused(call, "set_vf_count", count=TOTAL)
    assert "has MIG instances (1g.5gb, 1g.5gb), which would be destroyed" in str(error)
    assert error.kind is RefusalKind.RETRY
    assert not ran.exists()
    nvml.says(STATE, f"set {GPU} mig 0")
    call("set_vf_count", count=TOTAL)


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        ("nvidia/current_vgpu_type", "1155\n", "VF 2 carries a vGPU of type 1155: remove it first"),
        ("mdev_supported_types/nvidia-558/devices/4b20d080", "", "VF 2 carries the mediated device 4b20d080"),
    ],
)
def test_vgpus_keep_their_vfs(
    call: Callable[..., Any], tool: Callable[..., Path], root: Path, path: str, text: str, words: str
) -> None:
    tool()
    call("set_vf_count", count=TOTAL)
    file = root / f"sys/bus/pci/devices/0000:3b:00.6/{path}"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    error = refused(call, "set_vf_count", count=0)
    assert words in str(error)
    assert vfs(root) == TOTAL


@pytest.mark.parametrize(
    ("trouble", "kind", "words"),
    [
        (f"echo Cannot obtain unbindLock for {GPU} >&2; exit 1", RefusalKind.RETRY, "could not lock it"),
        ("echo no; echo This is not a VGA or 3D controller. >&2; exit 1", RefusalKind.RETRY, "This is not a VGA or 3D"),
        ("exit 0", RefusalKind.RETRY, "ended with 0 and left 0 VFs, not 4; it said: nothing"),
        ("printf '\\033[31mno\\nroom' >&2; exit 3", RefusalKind.RETRY, "it said: [31mno room"),
    ],
)
def test_what_the_tool_says_is_passed_on(
    call: Callable[..., Any], tool: Callable[..., Path], trouble: str, kind: RefusalKind, words: str
) -> None:
    tool(trouble)
    error = refused(call, "set_vf_count", count=TOTAL)
    assert words in str(error)
    assert error.kind is kind


def test_what_is_missing_is_named(call: Callable[..., Any], tool: Callable[..., Path], root: Path) -> None:
    tool()
    (root / "sys/bus/pci/drivers/pci-pf-stub").rmdir()
    assert "modprobe pci-pf-stub" in str(refused(call, "set_vf_count", count=TOTAL))
    (root / "usr/lib/nvidia/sriov-manage").unlink()
    error = refused(call, "set_vf_count", count=TOTAL)
    assert "/usr/lib/nvidia/sriov-manage is not installed" in str(error)
    assert error.kind is RefusalKind.PERMANENT


def test_a_tool_that_hangs_is_killed_with_all_that_it_started(
    privileged: Privileged, tool: Callable[..., Path], root: Path
) -> None:
    tool(f"sleep 600 & echo $! > {root}/pid; wait")
    with pytest.raises(VerbFailed, match="did not end within 3 s and was killed"):
        privileged.call("set_vf_count", 3.0, address=GPU, count=TOTAL)
    pid = (root / "pid").read_text().strip()
    assert not Path(f"/proc/{pid}").exists() or "State:\tZ" in Path(f"/proc/{pid}/status").read_text()


# --- taking a GPU from its driver ---


@pytest.fixture
def vfio(root: Path) -> Path:
    """Lets vfio-pci be there, of which binding is only a file here; gives the lock of the GPU's driver."""
    for file in ("sys/bus/pci/drivers/vfio-pci/bind", "sys/bus/pci/drivers/nvidia/unbind"):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    (root / f"sys/bus/pci/devices/{GPU}/driver_override").touch()
    lock = root / f"proc/driver/nvidia/gpus/{GPU}/unbindLock"
    lock.write_text("0\n")
    return lock


def test_a_gpu_is_locked_before_it_is_unbound(call: Callable[..., Any], vfio: Path, root: Path) -> None:
    refused(call, "bind", driver="vfio-pci", override="vfio-pci")  # nothing moves the link in a tree of files
    assert vfio.read_text() == "1\n"
    assert (root / "sys/bus/pci/drivers/nvidia/unbind").read_text() == GPU


def test_a_gpu_that_is_open_keeps_its_driver(call: Callable[..., Any], vfio: Path, root: Path) -> None:
    opens(root, 812, "nvidia-persistenced")
    assert "-pm 0" in str(refused(call, "bind", driver="vfio-pci", override="vfio-pci"))
    assert vfio.read_text() == "0\n"
    assert (root / "sys/bus/pci/drivers/nvidia/unbind").read_text() == ""


def test_a_lock_that_is_not_given_stops_the_unbinding(vfio: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def refusing(fd: int, data: bytes) -> int:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        return len(data) if path.name == "unbindLock" else write(fd, data)

    monkeypatch.setattr(os, "write", refusing)
    with pytest.raises(VerbRefused, match="NVIDIA's driver does not let go of it") as caught:
        bind(root, GPU, "vfio-pci", "vfio-pci")
    assert caught.value.kind is RefusalKind.RETRY
    assert (root / "sys/bus/pci/drivers/nvidia/unbind").read_text() == ""


def test_the_lock_goes_if_the_gpu_stays(vfio: Path, root: Path) -> None:
    (root / "sys/bus/pci/drivers/nvidia/unbind").unlink()
    with pytest.raises(VerbRefused):
        bind(root, GPU, "vfio-pci", "vfio-pci")
    assert vfio.read_text() == "0\n"
