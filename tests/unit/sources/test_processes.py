# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Who has a device open is found by the links of /proc, and nothing else of a process is told or kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from devagent.errors import Unreadable
from devagent.model.user import User
from devagent.sources import processes
from devagent.sources.apart import look_apart
from devagent.sources.host import Directory, Tree

from ..worlds import Link, World, write

UUID = "5e1f0f7c-7b1c-4c3a-9b60-0a5d5a1f2c3d"
GPU, OTHER = "0000:3b:00.0", "0000:3c:00.0"
PATH = "../../../devices/pci0000:3a/0000:3a:01.0"
QEMU = ("/usr/bin/qemu-system-x86_64", "-name", "guest=instance-0000001a,debug-threads=on", "-S", "-uuid", UUID)


def process(pid: int, *nodes: str, command: str = "python3", arguments: tuple[str, ...] = ()) -> World:
    """Gives a process that has these nodes open, and a few other things."""
    opened = ("/dev/null", "socket:[123]", "/home/someone/secret", "anon_inode:kvm-vm", *nodes)
    return {
        **{f"proc/{pid}/fd/{number}": Link(target) for number, target in enumerate(opened)},
        f"proc/{pid}/comm": f"{command}\n",
        f"proc/{pid}/cmdline": "".join(f"{each}\0" for each in arguments).encode(),
    }


def group(number: int, *addresses: str) -> World:
    """Gives an IOMMU group with functions in it."""
    return {f"sys/kernel/iommu_groups/{number}/devices/{each}": Link(f"../../{PATH}/{each}") for each in addresses}


def answers(top: Path) -> dict[str, Any]:
    with Directory(top) as tree:
        outcome = look_apart(tree, [processes.look(tree, [])])
    found = outcome[processes.SOURCE] if outcome else None
    assert found is None or found.failures == {}
    return found.answers if found else {}


def users(top: Path) -> list[tuple[str, User]]:
    return [each for answer in answers(top).values() for each in answer]


def test_without_processes_nothing_is_used(tmp_path: Path) -> None:
    assert answers(tmp_path) == {}


def test_a_virtual_machine_uses_every_function_of_its_group(tmp_path: Path) -> None:
    write(
        tmp_path, {**process(4711, "/dev/vfio/12", command="qemu-system-x86", arguments=QEMU), **group(12, GPU, OTHER)}
    )
    user = User(4711, "qemu-system-x86", "/dev/vfio/12", UUID, "instance-0000001a")
    assert users(tmp_path) == [(GPU, user), (OTHER, user)]


@pytest.mark.parametrize(
    ("node", "world"),
    [
        ("/dev/vfio/12", group(12, GPU)),
        ("/dev/vfio/12 (deleted)", group(12, GPU)),
        ("/dev/vfio/noiommu-3", group(3, GPU)),
        ("/dev/vfio/12", {f"sys/kernel/iommu_groups/12/devices/{UUID}": Link(f"../../{PATH}/{GPU}/{UUID}")}),
        ("/dev/vfio/devices/vfio3", {"sys/class/vfio-dev/vfio3": Link(f"{PATH}/{GPU}/vfio-dev/vfio3")}),
        ("/dev/vfio/devices/vfio3", {"sys/class/vfio-dev/vfio3": Link(f"{PATH}/{GPU}/{UUID}/vfio-dev/vfio3")}),
        (
            "/dev/nvidia7",
            {
                f"proc/driver/nvidia/gpus/{OTHER}/information": "Model: \t\t A100\nDevice Minor: \t 0\n",
                f"proc/driver/nvidia/gpus/{GPU}/information": "Model: \t\t A100\nDevice Minor: \t 7\n",
            },
        ),
        ("/dev/dri/renderD129", {"sys/class/drm/renderD129": Link(f"{PATH}/{GPU}/drm/renderD129")}),
        ("/dev/dri/card1", {"sys/class/drm/card1": Link(f"{PATH}/{GPU}/drm/card1")}),
        ("/dev/accel/accel0", {"sys/class/accel/accel0": Link(f"{PATH}/{GPU}/accel/accel0")}),
        (
            "/dev/dfl-port.1",
            {"sys/bus/platform/devices/dfl-port.1": Link(f"{PATH}/{GPU}/fpga_region/region0/dfl-port.1")},
        ),
        (
            "/dev/dfl-fme.0",
            {"sys/bus/platform/devices/dfl-fme.0": Link(f"{PATH}/{GPU}/fpga_region/region0/dfl-fme.0")},
        ),
        ("/dev/nvme1", {"sys/class/nvme/nvme1": Link(f"{PATH}/{GPU}/nvme/nvme1")}),
        ("/dev/nvme1n1p2", {"sys/class/block/nvme1n1p2": Link(f"{PATH}/{GPU}/nvme/nvme1/nvme1n1/nvme1n1p2")}),
        (
            "/dev/infiniband/uverbs0",
            {"sys/class/infiniband_verbs/uverbs0": Link(f"{PATH}/{GPU}/infiniband_verbs/uverbs0")},
        ),
        (
            "/dev/vhost-vdpa-0",
            {
                "sys/bus/vdpa/devices/vdpa1/": "",
                f"sys/devices/pci0000:3a/0000:3a:01.0/{GPU}/vdpa0/vhost-vdpa-0/uevent": "",
                "sys/bus/vdpa/devices/vdpa0": Link(f"../../../devices/pci0000:3a/0000:3a:01.0/{GPU}/vdpa0"),
            },
        ),
        (
            "/dev/xclmgmt15104",
            {"sys/class/net/": "", "sys/class/xrt_mgmt/xclmgmt15104": Link(f"{PATH}/{GPU}/xrt_mgmt/xclmgmt15104")},
        ),
        ("/dev/davinci0", {"sys/class/devdrv-class/davinci0": Link(f"{PATH}/{GPU}/devdrv-class/davinci0")}),
    ],
)
def test_a_node_leads_to_its_function(tmp_path: Path, node: str, world: World) -> None:
    write(tmp_path, {**process(815, node), **world})
    assert users(tmp_path) == [(GPU, User(815, "python3", node))]


@pytest.mark.parametrize(
    ("node", "world"),
    [
        ("/dev/vfio/vfio", {}),
        ("/dev/vfio/12", {}),
        ("/dev/vfio/12", {"sys/kernel/iommu_groups/12/devices/odd": Link("nowhere")}),
        ("/dev/nvidiactl", {f"proc/driver/nvidia/gpus/{GPU}/information": "Device Minor: 0\n"}),
        ("/dev/nvidia0", {f"proc/driver/nvidia/gpus/{GPU}/information": "Model: A100\n"}),
        ("/dev/nvidia0", {f"proc/driver/nvidia/gpus/{GPU}/information": b"\xff"}),
        ("/dev/nvidia0", {}),
        ("/dev/dri/card0", {"sys/class/drm/card0": Link("../../devices/platform/vgem/drm/card0")}),
        ("/dev/nvme0n1", {"sys/class/block/nvme0n1": Link("../../devices/virtual/nvme-subsystem/s/nvme0n1")}),
        ("/dev/vhost-vdpa-0", {"sys/bus/vdpa/devices/vdpa0/": ""}),
        ("/dev/davinci0", {"sys/class/net/": ""}),
        ("/run/dev/vfio/12", group(12, GPU)),
        ("/dev/vfio/../vfio/12", group(12, GPU)),
    ],
)
def test_other_nodes_lead_nowhere(tmp_path: Path, node: str, world: World) -> None:
    assert users(write(tmp_path, {**process(815, node), **world})) == []


@pytest.mark.parametrize(
    ("arguments", "instance", "domain"),
    [
        (("-name", "instance-0000001a", "-uuid", UUID.upper()), UUID, "instance-0000001a"),
        (("-uuid", UUID, "-name", "debug-threads=on,guest=win,,11,process=x"), UUID, "win,11"),
        (("-name", "debug-threads=on"), None, None),
        (("-name", ""), None, None),
        (("-uuid", "../../etc"), None, None),
        (("-uuid",), None, None),
        ((), None, None),
    ],
)
def test_a_machine_is_named_as_its_command_line_says(
    tmp_path: Path, arguments: tuple[str, ...], instance: str | None, domain: str | None
) -> None:
    world = process(4711, "/dev/vfio/12", command="qemu-kvm", arguments=("/usr/libexec/qemu-kvm", *arguments))
    write(tmp_path, {**world, **group(12, GPU)})
    assert users(tmp_path) == [(GPU, User(4711, "qemu-kvm", "/dev/vfio/12", instance, domain))]


def test_only_qemu_names_a_machine(tmp_path: Path) -> None:
    world = process(815, "/dev/vfio/12", command="dpdk-testpmd", arguments=("x", "-uuid", UUID, "-name", "n"))
    assert users(write(tmp_path, {**world, **group(12, GPU)})) == [(GPU, User(815, "dpdk-testpmd", "/dev/vfio/12"))]


def test_processes_come_by_number_and_nothing_else_is_one(tmp_path: Path) -> None:
    world = {**process(100, "/dev/vfio/12"), **process(99, "/dev/vfio/12"), **group(12, GPU)}
    write(tmp_path, {**world, "proc/self": Link("99"), "proc/sys/kernel/x": "", "proc/7x/fd/0": Link("/dev/vfio/12")})
    assert [user.pid for _, user in users(tmp_path)] == [99, 100]


def test_a_process_without_open_files_or_that_is_gone(tmp_path: Path) -> None:
    assert answers(write(tmp_path, {"proc/2/fd/": "", "proc/3/": ""})) == {"2": [], "3": []}


class Recorded(Directory):
    """A directory of which all that is asked is noted, but for what it says is nobody's business."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked: set[str] = set()
        self.kept: dict[str, str] = {}
        self.plain = Directory(path)

    @property
    def unrecorded(self) -> Tree:
        """The same directory, unnoted."""
        return self.plain

    def keep(self, path: str, text: str) -> None:
        """Notes what is put into the capture."""
        self.kept[path] = text

    def link(self, path: str) -> str | None:
        """Notes and reads."""
        self.asked.add(path)
        return super().link(path)

    def _read(self, path: str, limit: int, *, whole: bool = False, offset: int = 0) -> bytes | None:
        self.asked.add(path)
        return super()._read(path, limit, whole=whole, offset=offset)


def test_a_capture_holds_nothing_else_of_a_process(tmp_path: Path) -> None:
    arguments = (*QEMU, "-object", "secret,id=s,data=hunter2")
    world = {**process(4711, "/dev/vfio/12", command="qemu-kvm", arguments=arguments), **process(815), **group(12, GPU)}
    with Recorded(write(tmp_path, world)) as tree, processes.look(tree, []).open(tree) as ask:
        ((_, user),) = ask("4711")
        assert ask("815") == []
    assert tree.asked == {"proc/4711/fd/4", "proc/4711/comm"}
    assert tree.kept == {"proc/4711/cmdline": f"-name\0guest=instance-0000001a\0-uuid\0{UUID}"}
    write(tmp_path / "again", {**world, "proc/4711/cmdline": tree.kept["proc/4711/cmdline"]})
    assert users(tmp_path / "again") == [(GPU, user)]


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (
            ("-uuid", UUID.replace("-", "").upper(), "-name", "process=customer,guest=win,,11"),
            f"win,,11\0-uuid\0{UUID}",
        ),
        (("-name", "win", "-uuid", "customer"), "win"),
    ],
)
def test_a_capture_holds_a_machine_s_name_and_uuid_alone(tmp_path: Path, arguments: tuple[str, ...], kept: str) -> None:
    world = {**process(4711, "/dev/vfio/12", command="qemu-kvm", arguments=("kvm", *arguments)), **group(12, GPU)}
    with Recorded(write(tmp_path, world)) as tree, processes.look(tree, []).open(tree) as ask:
        ((_, user),) = ask("4711")
    assert tree.kept == {"proc/4711/cmdline": f"-name\0guest={kept}"}
    write(tmp_path / "again", {**world, "proc/4711/cmdline": tree.kept["proc/4711/cmdline"]})
    assert users(tmp_path / "again") == [(GPU, user)]


def test_no_process_has_a_number_of_a_thousand_digits(tmp_path: Path) -> None:
    class Odd(Directory):
        """A directory with such a name, as only an archive can have."""

        def _list(self, path: str) -> list[str]:
            return ["7" * 5000, "12345678901", "\u0661", "4711"]

    with Odd(tmp_path) as tree:
        assert processes.look(tree, []).subjects == ("4711",)


class Denied(Directory):
    """A directory whose listing fails."""

    reason = "permission denied"

    def _list(self, path: str) -> list[str]:
        raise Unreadable(path, self.reason)


def test_what_may_not_be_looked_at_is_none_and_what_is_gone_nothing(tmp_path: Path) -> None:
    write(tmp_path, process(1))
    with Denied(tmp_path) as tree, processes.look(tree, []).open(tree) as ask:
        assert ask("1") is None
        tree.reason = "no such process"
        assert ask("1") == []
        tree.reason = "too many open files"
        with pytest.raises(Unreadable):
            ask("1")
        assert processes.look(tree, []).subjects == ()
