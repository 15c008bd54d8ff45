# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Block devices under their PCI functions, and the mounts on them."""

from collections.abc import Sequence

from .description import Disk, Host
from .node import DescriptionError
from .topology import Function
from .tree import Tree

_NVME_MAJOR, _VIRTIO_MAJOR = 259, 254
_VIRTIO_MINORS = 16

# The mounts that every host has, as /proc/self/mountinfo shows them.
_KERNEL_MOUNTS = """\
22 27 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:13 - proc proc rw
23 27 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
24 27 0:6 / /dev rw,nosuid,relatime shared:2 - devtmpfs udev rw,mode=755
"""


def write_storage(tree: Tree, host: Host, functions: Sequence[Function], virtio: dict[str, str]) -> None:
    """Adds all disks; virtio holds the child devices of virtio functions."""
    numbers: dict[str, str] = {}
    nvme_minor = 0
    virtio_minor = 0
    for function in functions:
        disk = function.device.disk
        if disk is None or function.physfn is not None:
            continue
        if disk.name.startswith("nvme"):
            path = f"{_write_controller(tree, function, disk)}/{disk.name}"
            numbers |= _write_disk(tree, path, disk, f"{disk.name}p", _NVME_MAJOR, nvme_minor)
            nvme_minor += 1 + disk.partitions
        elif function.path not in virtio:
            raise DescriptionError(host.name, f"{disk.name} is on {function.address}, which is not virtio")
        else:
            path = f"{virtio[function.path]}/block/{disk.name}"
            numbers |= _write_disk(tree, path, disk, disk.name, _VIRTIO_MAJOR, virtio_minor)
            virtio_minor += _VIRTIO_MINORS
    tree.files("proc/self", {"mountinfo": _KERNEL_MOUNTS + _root_mount(host, numbers)})


def _write_controller(tree: Tree, function: Function, disk: Disk) -> str:
    name = disk.name.rpartition("n")[0]
    path = f"{function.path}/nvme/{name}"
    tree.lines(path, {"state": "live", "transport": "pcie"})
    tree.link(f"{path}/device", function.path)
    tree.link(f"{path}/subsystem", "sys/class/nvme")
    tree.link(f"sys/class/nvme/{name}", path)
    return path


def _write_disk(tree: Tree, path: str, disk: Disk, prefix: str, major: int, minor: int) -> dict[str, str]:
    """Returns the device number of the disk and of each partition by name."""
    numbers = {disk.name: f"{major}:{minor}"}
    _write_block(tree, path, numbers[disk.name])
    tree.lines(path, {"ro": 0, "removable": 0})
    tree.link(f"{path}/device", path.rpartition("/")[0].removesuffix("/block"))
    tree.link(f"sys/block/{disk.name}", path)
    for index in range(1, disk.partitions + 1):
        name = f"{prefix}{index}"
        numbers[name] = f"{major}:{minor + index}"
        _write_block(tree, f"{path}/{name}", numbers[name])
        tree.lines(f"{path}/{name}", {"partition": index})
    return numbers


def _write_block(tree: Tree, path: str, number: str) -> None:
    tree.lines(path, {"dev": number, "size": 1875385008})
    tree.folder(f"{path}/holders")
    tree.link(f"{path}/subsystem", "sys/class/block")
    tree.link(f"sys/class/block/{path.rpartition('/')[2]}", path)
    tree.link(f"sys/dev/block/{number}", path)


def _root_mount(host: Host, numbers: dict[str, str]) -> str:
    if host.root is None:
        return ""
    if host.root not in numbers:
        raise DescriptionError(host.name, f"the root file system has no block device {host.root}")
    return f"27 1 {numbers[host.root]} / / rw,relatime shared:1 - ext4 /dev/{host.root} rw,errors=remount-ro\n"
