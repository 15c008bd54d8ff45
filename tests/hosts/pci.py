# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The files and links sysfs has for PCI functions, drivers and IOMMU groups."""

from collections.abc import Sequence

from .description import Host
from .topology import Function
from .tree import Tree

_DEVICES = "sys/bus/pci/devices"
_DRIVERS = "sys/bus/pci/drivers"
_GROUPS = "sys/kernel/iommu_groups"


def write_bus(tree: Tree, host: Host, functions: Sequence[Function]) -> None:
    """Adds the PCI bus with all its functions."""
    tree.folder(_DEVICES)
    tree.files("sys/bus/pci", {"drivers_autoprobe": "1\n", "drivers_probe": "", "rescan": ""})
    tree.folder(_GROUPS)
    for name in (*host.drivers, *(function.driver for function in functions if function.driver)):
        tree.files(f"{_DRIVERS}/{name}", {"bind": "", "unbind": "", "new_id": "", "remove_id": "", "uevent": ""})
    paths = {function.address: function.path for function in functions}
    for function in functions:
        _write_function(tree, host, function)
        for index, address in enumerate(function.virtfns):
            tree.link(f"{function.path}/virtfn{index}", paths[address])
        if function.physfn:
            tree.link(f"{function.path}/physfn", paths[function.physfn])


def _write_function(tree: Tree, host: Host, function: Function) -> None:
    path, address = function.path, str(function.address)
    tree.files(path, {"uevent": _uevent(function)})
    tree.lines(path, _identity(function) | _state(host, function))
    tree.lines(path, _link_state(function))
    tree.files(path, _write_only(function))
    tree.lines(path, _sriov(function) if function.physfn is None else {})
    tree.link(f"{path}/subsystem", "sys/bus/pci")
    tree.link(f"{_DEVICES}/{address}", path)
    if function.driver:
        tree.link(f"{path}/driver", f"{_DRIVERS}/{function.driver}")
        tree.link(f"{_DRIVERS}/{function.driver}/{address}", path)
    if function.group is not None:
        group = f"{_GROUPS}/{function.group}"
        tree.files(group, {"type": "DMA-FQ\n"})
        tree.link(f"{path}/iommu_group", group)
        tree.link(f"{group}/devices/{address}", path)
    _write_attributes(tree, function)


def _write_attributes(tree: Tree, function: Function) -> None:
    vfs = function.device.vfs
    attributes = vfs.attributes if vfs and function.physfn else function.device.attributes
    for name, value in attributes.items():
        folder, _, file = f"{function.path}/{name}".rpartition("/")
        tree.lines(folder, {file: function.named(value)})


def _device_id(function: Function) -> int:
    vfs = function.device.vfs
    return vfs.device if vfs and function.physfn else function.device.device


def _uevent(function: Function) -> str:
    # DRIVER=i40e
    # PCI_CLASS=20000
    # PCI_ID=8086:37D2
    # PCI_SUBSYS_ID=15D9:37D2
    # PCI_SLOT_NAME=0000:60:00.0
    # MODALIAS=pci:v00008086d000037D2sv000015D9sd000037D2bc02sc00i00
    device = function.device
    return (
        (f"DRIVER={function.driver}\n" if function.driver else "")
        + f"PCI_CLASS={device.class_code:04X}\n"
        + f"PCI_ID={device.vendor:04X}:{_device_id(function):04X}\n"
        + f"PCI_SUBSYS_ID={device.subsystem_vendor:04X}:{device.subsystem_device:04X}\n"
        + f"PCI_SLOT_NAME={function.address}\n"
        + f"MODALIAS={_modalias(function)}\n"
    )


def _modalias(function: Function) -> str:
    device, code = function.device, function.device.class_code
    return (
        f"pci:v{device.vendor:08X}d{_device_id(function):08X}"
        f"sv{device.subsystem_vendor:08X}sd{device.subsystem_device:08X}"
        f"bc{code >> 16:02X}sc{code >> 8 & 0xFF:02X}i{code & 0xFF:02X}"
    )


def _identity(function: Function) -> dict[str, object]:
    device = function.device
    return {
        "class": f"0x{device.class_code:06x}",
        "vendor": f"0x{device.vendor:04x}",
        "device": f"0x{_device_id(function):04x}",
        "subsystem_vendor": f"0x{device.subsystem_vendor:04x}",
        "subsystem_device": f"0x{device.subsystem_device:04x}",
        "revision": f"0x{device.revision:02x}",
        "modalias": _modalias(function),
    }


def _state(host: Host, function: Function) -> dict[str, object]:
    # An idle VFIO device is disabled, and bound because of its override: vfio-pci matches no other way.
    driver = function.driver or ""
    on_vfio = "vfio" in driver
    override = (function.device.driver_override if function.physfn is None else None) or (driver if on_vfio else None)
    state: dict[str, object] = {
        "numa_node": function.node,
        "local_cpulist": host.nodes[function.node] if function.node >= 0 else ",".join(host.nodes),
        "driver_override": override or "(null)",
        "enable": int(bool(driver) and not on_vfio),
        "power_state": _power(function, on_vfio),
    }
    if function.device.is_display:
        state["boot_vga"] = int(function.device.boot_vga)
    if function.secondary is not None:
        state["secondary_bus_number"] = function.secondary
        state["subordinate_bus_number"] = function.subordinate
    return state


def _power(function: Function, on_vfio: bool) -> str:
    # VFIO puts an idle device to sleep, but few VFs can; nobody has yet asked an unbound VF for its state.
    if function.physfn:
        return "D0" if function.driver else "unknown"
    return "D3hot" if on_vfio else "D0"


def _link_state(function: Function) -> dict[str, object]:
    device = function.device
    if not device.link_speed:
        return {}
    speed, width = (device.link_speed, device.link_width) if function.physfn is None else ("Unknown", 0)
    return {
        "max_link_speed": device.link_speed,
        "max_link_width": device.link_width,
        "current_link_speed": speed,
        "current_link_width": width,
    }


def _write_only(function: Function) -> dict[str, str]:
    if function.physfn:
        return {"reset": "", "reset_method": "flr\n"} if function.device.reset else {}
    methods = function.device.reset
    found = {"remove": "", "rescan": ""}
    return found | ({"reset": "", "reset_method": " ".join(methods) + "\n"} if methods else {})


def _sriov(function: Function) -> dict[str, object]:
    vfs = function.device.vfs
    if vfs is None:
        return {}
    return {
        "sriov_totalvfs": vfs.total,
        "sriov_numvfs": vfs.count,
        "sriov_offset": function.vf_offset,
        "sriov_stride": vfs.stride,
        "sriov_vf_device": f"{vfs.device:x}",
        "sriov_drivers_autoprobe": 1,
        "sriov_vf_total_msix": 0,
    }
