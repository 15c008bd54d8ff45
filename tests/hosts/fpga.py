# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""FPGA cards: the DFL tree below a card's PF, and plain fpga_managers."""

from collections.abc import Sequence
from itertools import count

from .description import Dfl, FpgaManager, Port
from .topology import Function
from .tree import Tree

_FME_MAJOR, _PORT_MAJOR = 238, 237


def write_fpgas(tree: Tree, functions: Sequence[Function]) -> None:
    """Adds the FPGA devices of all functions that have some."""
    cards = _Cards(tree)
    for function in functions:
        if function.physfn is None and function.device.dfl:
            cards.write_card(function, function.device.dfl)
        if function.physfn is None and function.device.fpga_manager:
            cards.write_manager(function.path, function.device.fpga_manager, function)


class _Cards:
    """Numbers the devices of all cards together, as the kernel does."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._fmes, self._ports, self._regions = count(), count(), count()
        self._managers, self._bridges, self._platform = count(), count(), count(1)

    def write_card(self, function: Function, dfl: Dfl) -> None:
        # The base region has a compat_id too, but reading it fails with ENOENT and a file here could not.
        base = self._class_device(function.path, "fpga_region", f"region{next(self._regions)}", {})
        self._write_fme(base, function.node, dfl)
        for port in dfl.ports:
            self._write_port(base, function.node, port)

    def _write_fme(self, base: str, node: int, dfl: Dfl) -> None:
        number = next(self._fmes)
        path = self._node_device(base, "dfl-fme", number, _FME_MAJOR, node)
        self._tree.lines(
            path,
            {
                "ports_num": dfl.ports_num,
                "bitstream_id": dfl.bitstream_id,
                "bitstream_metadata": dfl.bitstream_metadata,
                "cache_size": 0,
                "fabric_version": 0,
                "socket_id": 0,
            },
        )
        errors = ("catfatal_errors", "first_error", "fme_errors", "next_error", "nonfatal_errors", "pcie0_errors")
        self._tree.lines(f"{path}/errors", dict.fromkeys(errors, "0x0"))
        manager = FpgaManager("DFL FME FPGA Manager", "unknown", "")
        self.write_manager(self._platform_device(path, "dfl-fme-mgr", f".{number}", node), manager)
        auto = next(self._platform)
        bridge = self._platform_device(path, "dfl-fme-bridge", f".{auto}.auto", node)
        bridge_state = {"name": "DFL FPGA FME Bridge\n", "state": "enabled\n"}
        self._class_device(bridge, "fpga_bridge", f"br{next(self._bridges)}", bridge_state)
        region = self._platform_device(path, "dfl-fme-region", f".{auto}", node)
        self._class_device(region, "fpga_region", f"region{next(self._regions)}", {"compat_id": f"{dfl.compat_id}\n"})

    def _write_port(self, base: str, node: int, port: Port) -> None:
        path = self._node_device(base, "dfl-port", next(self._ports), _PORT_MAJOR, node)
        self._tree.lines(
            path,
            {
                "id": port.number,
                "power_state": "0x0",
                "ap1_event": 0,
                "ap2_event": 0,
                "ltr": 1,
            },
        )
        self._tree.lines(f"{path}/errors", {"errors": "0x0", "first_error": "0x0", "first_malformed_req": "0x0"})
        if port.afu_id:
            self._tree.lines(path, {"afu_id": port.afu_id})

    def write_manager(self, parent: str, manager: FpgaManager, function: Function | None = None) -> None:
        name = function.named(manager.name) if function else manager.name
        status = f"{manager.status}\n" if manager.status else ""
        contents = {"name": f"{name}\n", "state": f"{manager.state}\n", "status": status}
        self._class_device(parent, "fpga_manager", f"fpga{next(self._managers)}", contents)

    def _class_device(self, parent: str, kind: str, name: str, contents: dict[str, str]) -> str:
        path = f"{parent}/{kind}/{name}"
        self._tree.files(path, contents | {"uevent": ""})
        self._tree.link(f"{path}/device", parent)
        self._tree.link(f"{path}/subsystem", f"sys/class/{kind}")
        self._tree.link(f"sys/class/{kind}/{name}", path)
        return path

    def _node_device(self, parent: str, driver: str, number: int, major: int, node: int) -> str:
        """Adds a platform device with a node in /dev and returns its path."""
        path = self._platform_device(parent, driver, f".{number}", node)
        uevent = (
            f"MAJOR={major}\nMINOR={number}\nDEVNAME={driver}.{number}\nDRIVER={driver}\nMODALIAS=platform:{driver}\n"
        )
        self._tree.files(path, {"dev": f"{major}:{number}\n", "uevent": uevent})
        return path

    def _platform_device(self, parent: str, driver: str, suffix: str, node: int) -> str:
        path = f"{parent}/{driver}{suffix}"
        alias = f"platform:{driver}"
        self._tree.files(path, {"uevent": f"DRIVER={driver}\nMODALIAS={alias}\n"})
        self._tree.lines(path, {"modalias": alias, "numa_node": node, "driver_override": "(null)"})
        return path
