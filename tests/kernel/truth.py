# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the guest's kernel shows of its devices, read in the plainest way: against this discovery is held."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .guest import Discovered, Guest


def truth(guest: Guest) -> dict[str, dict[str, Any]]:
    """Gives every PCI function by address."""
    functions: dict[str, dict[str, Any]] = guest.call(_functions)
    return functions


def agree(guest: Guest, found: Discovered) -> None:
    """Asserts that what was discovered with `--all` is every device there is, each as the kernel shows it."""
    functions = truth(guest)
    devices = {a for a, each in functions.items() if not each["class"].startswith("06") and each["physfn"] is None}
    assert found.devices.keys() == devices
    for address, device in found.devices.items():
        real = functions[address]
        for key in ("vendor_id", "device_id", "class", "driver", "numa_node", "iommu_group", "pcie_path"):
            assert device[key] == real[key], (address, key)
        vfs = (device["sriov"] or {"vfs": []})["vfs"]
        assert [[vf["index"], vf["address"]] for vf in vfs] == real["vfs"], address
        for vf in vfs:
            function = functions[vf["address"]]
            told = (address, vf["driver"], vf["iommu_group"])
            assert told == (function["physfn"], function["driver"], function["iommu_group"]), (address, vf)


def _functions() -> dict[str, object]:
    def link(path: Path) -> str | None:
        return path.readlink().name if path.is_symlink() else None

    functions: dict[str, object] = {}
    for here in Path("/sys/bus/pci/devices").iterdir():
        texts = {name: (here / name).read_text().strip() for name in ("vendor", "device", "class", "numa_node")}
        group = link(here / "iommu_group")
        functions[here.name] = {
            "vendor_id": texts["vendor"][2:],
            "device_id": texts["device"][2:],
            "class": texts["class"][2:],
            "driver": link(here / "driver"),
            "numa_node": None if texts["numa_node"] == "-1" else int(texts["numa_node"]),
            "iommu_group": int(group) if group else None,
            "physfn": link(here / "physfn"),
            "pcie_path": here.resolve().parts[4:-1],
            "vfs": sorted((int(path.name[len("virtfn") :]), link(path)) for path in here.glob("virtfn*")),
        }
    return functions
