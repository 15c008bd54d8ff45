# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Parents of mediated devices, their types, and the devices that exist."""

from collections.abc import Sequence

from .description import Mdev
from .node import DescriptionError
from .topology import Function
from .tree import Tree


def write_mdevs(tree: Tree, functions: Sequence[Function]) -> None:
    """Adds what the functions, or each of their VFs, can make, and has made."""
    by_address = {function.address: function for function in functions}
    for function in functions:
        mdev = function.device.mdev
        if mdev is None or function.physfn is not None:
            continue
        parents = [by_address[address] for address in function.virtfns] if mdev.vfs else [function]
        if mdev.vfs and len(mdev.devices) > len(parents):
            raise DescriptionError(str(function.address), f"{len(mdev.devices)} devices on {len(parents)} VFs")
        tree.files("sys/bus/mdev", {"drivers_autoprobe": "1\n"})
        for index, parent in enumerate(parents):
            devices = list(mdev.devices.items())
            _write_parent(tree, parent, mdev, dict(devices[index : index + 1] if mdev.vfs else devices))


def _write_parent(tree: Tree, parent: Function, mdev: Mdev, devices: dict[str, str]) -> None:
    tree.link(f"sys/class/mdev_bus/{parent.address}", parent.path)
    for name, files in mdev.types.items():
        folder = f"{parent.path}/mdev_supported_types/{name}"
        # The only device that a VF carries leaves no room for another.
        taken = {"available_instances": "0"} if mdev.vfs and devices else {}
        tree.lines(folder, {"device_api": "vfio-pci", **files, **taken})
        tree.files(folder, {"create": ""})
        tree.folder(f"{folder}/devices")
    for uuid, name in devices.items():
        path = f"{parent.path}/{uuid}"
        tree.files(path, {"uevent": "DRIVER=vfio_mdev\n", "remove": ""})
        tree.link(f"{path}/mdev_type", f"{parent.path}/mdev_supported_types/{name}")
        tree.link(f"{path}/subsystem", "sys/bus/mdev")
        tree.link(f"{parent.path}/mdev_supported_types/{name}/devices/{uuid}", path)
        tree.link(f"sys/bus/mdev/devices/{uuid}", path)
