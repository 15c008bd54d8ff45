# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Consumers of the daemon's devices: what Placement gave them, what they ask for, and what the kernel shows of it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from .daemon import START_S, UNIT, Daemon
from .guest import PCI
from .qemu import Emulator

NICS: Final = """
- name: nics
  match: {kind: nic, driver: igb}
  mode: vf
  vf_count: 4
"""
WHOLE: Final = """
- name: whole
  match: {device: "20f1"}
  mode: whole
"""
SHARES: Final = """
- name: shares
  match: {device: "56c0"}
  mode: vf
  vf_count: 4
  resource_class: CUSTOM_GPU_VF
"""
MEDIATED: Final = """
- name: mediated
  match: {device: "5917"}
  mode: mdev
  types: {CUSTOM_GVT_SMALL: i915-222}
"""
NIC_VF: Final = "SRIOV_NET_VF"
GPU: Final = "PGPU"
GPU_VF: Final = "CUSTOM_GPU_VF"
VGPU: Final = "CUSTOM_GVT_SMALL"
MDEVS: Final = "/sys/bus/mdev/devices"
LONG_S: Final = 240


@dataclass(frozen=True)
class Consumer:
    """Somebody with allocations in Placement, who asks the daemon for what it was allocated."""

    daemon: Daemon
    uuid: str
    groups: tuple[dict[str, Any], ...]

    @property
    def path(self) -> str:
        """Where the daemon has it."""
        return f"/v1/preparations/{self.uuid}"

    def put(self, wait: float = LONG_S) -> tuple[int, Any]:
        """Asks for its devices."""
        return self.daemon.answer(self.path, "PUT", {"groups": self.groups}, wait)

    def begin(self) -> Future[Any]:
        """Asks for its devices, and goes on."""
        return self.daemon.begin(self.path, "PUT", {"groups": self.groups}, LONG_S)

    def prepared(self) -> list[dict[str, Any]]:
        """Asks for its devices, which must be given; gives the handles."""
        status, found = self.put()
        assert status == 200, f"{status}: {found}\n{self.daemon.journal()}"
        handles: list[dict[str, Any]] = found["handles"]
        return handles

    def address(self) -> str:
        """Asks for its one function, which must be given."""
        (handle,) = self.prepared()
        return str(handle["address"])

    def seen(self) -> dict[str, Any] | None:
        """Gives what the daemon says of it, None for nothing."""
        status, found = self.daemon.answer(self.path)
        assert status in (200, 404), f"{status}: {found}"
        return found if status == 200 else None

    def delete(self, wait: float = LONG_S) -> tuple[int, Any]:
        """Gives everything back, or has that begun."""
        return self.daemon.answer(self.path, "DELETE", wait=wait)

    def released(self) -> None:
        """Gives everything back; that must work."""
        status, found = self.delete()
        assert status == 204, f"{status}: {found}\n{self.daemon.journal()}"


def consumer(daemon: Daemon, wanted: dict[str, dict[str, int]], **properties: str) -> Consumer:
    """Makes a consumer that has in Placement what it wants, by address of the device."""
    resources = {daemon.provider(card)["uuid"]: dict(some) for card, some in wanted.items()}
    groups = [{"provider": uid, "resources": some} for uid, some in resources.items()]
    for group in groups:
        group.update({"properties": properties} if properties else {})
    return Consumer(daemon, daemon.cloud.allocate_all(resources), tuple(groups))


def stranger(daemon: Daemon, like: Consumer) -> Consumer:
    """Gives a consumer that wants the same and holds nothing."""
    return Consumer(daemon, str(uuid.uuid4()), like.groups)


def driver(daemon: Daemon, address: str) -> str | None:
    """Gives the driver that the kernel has bound a function to."""
    return daemon.guest.link(f"{PCI}/{address}/driver")


def override(daemon: Daemon, address: str) -> str:
    """Gives which driver a function is reserved for: (null) if for none."""
    return daemon.guest.read(f"{PCI}/{address}/driver_override")


def vfs(daemon: Daemon, pf: str) -> list[str]:
    """Gives the addresses of a PF's VFs, by index."""
    names = [name for name in daemon.guest.names(f"{PCI}/{pf}") if name.startswith("virtfn")]
    return [daemon.guest.link(f"{PCI}/{pf}/{name}") or "" for name in sorted(names)]


def nic(daemon: Daemon) -> str:
    """Gives the address of the guest's NIC."""
    return daemon.guest.names("/sys/bus/pci/drivers/igb")[0]


def shown(daemon: Daemon, pf: str) -> list[dict[str, Any]]:
    """Gives what ip says of a NIC's VFs, by index."""
    (name,) = daemon.guest.names(f"{PCI}/{pf}/net")
    found: list[dict[str, Any]] = json.loads(daemon.guest.run("ip", "-json", "link", "show", name).out)
    return list(found[0]["vfinfo_list"])


def restarted(daemon: Daemon, before: str) -> None:
    """Waits until systemd has started the daemon anew, after the process `before`."""

    def ready() -> bool:
        shown = daemon.guest.run("systemctl", "show", "-p", "MainPID,ActiveState", UNIT).out.splitlines()
        return "ActiveState=active" in shown and f"MainPID={before}" not in shown

    daemon.until(ready, "another process is ready", START_S)


@contextmanager
def machine(daemon: Daemon, address: str) -> Iterator[Emulator]:
    """Runs a virtual machine with a function, as libvirt starts one for Nova."""
    emulator = Emulator(daemon.guest, address)
    try:
        yield emulator
    finally:
        emulator.end()


def kill(daemon: Daemon, who: str) -> str:
    """Kills a process of the daemon, or with `unit` all; gives which one was the main process."""
    main = daemon.show("MainPID")
    if who == "unit":
        daemon.systemctl("kill", "--signal=SIGKILL", UNIT)
    else:
        processes = {each["name"]: each["pid"] for each in daemon.status()["processes"]}
        daemon.guest.run("kill", "-KILL", str(processes[who]))
    return main
