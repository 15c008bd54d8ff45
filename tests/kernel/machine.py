# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The virtual machine: what hardware it has, how QEMU is started, and the monitor that plugs and unplugs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .build import Lab

LAB_PORTS: Final = {node: tuple(f"0000:{bus}:{slot}.0" for slot in range(10, 14)) for node, bus in ((0, 40), (1, 80))}
"""By NUMA node, the root ports on whose empty bus lab_pci puts its devices."""
ACPI_PORT: Final = "hp0"
"""A port at which the firmware takes part in plugging; no NUMA node."""
NATIVE_PORT: Final = "hp1"
"""A port that the kernel's pciehp serves, on NUMA node 1."""

_KERNEL: Final = (
    "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off memmap=16M$0x3e000000 no_timer_check tsc=reliable "
    "random.trust_cpu=on net.ifnames=0 cryptomgr.notests audit=0"
)
_CONNECT_S: Final = 20
_WITH_US: Final = ("setpriv", "--pdeathsig", "KILL")
"""A test run that is killed leaves no guest behind."""

PLACEMENT: Final = "http://10.0.2.100:8778"
"""Where a guest whose kind has a Placement reaches it."""


@dataclass(frozen=True)
class Kind:
    """What distinguishes one guest from another.

    With `systemd` that is the first process, as on a real host. `placement` is the port on this machine to which the
    guest gets through, and to nothing else.
    """

    iommu: bool = True
    systemd: bool = False
    placement: int | None = None


class GuestFault(Exception):
    """QEMU or the guest died or hangs: says nothing about what is tested."""


def hardware(kind: Kind) -> list[str]:
    """Gives QEMU's options for the machine: two NUMA nodes with a root bus each, SR-IOV PFs, displays, empty ports."""
    numa = ["-smp", "2,sockets=2,cores=1,threads=1", "-m", "1024"]
    for node in (0, 1):
        numa += ["-object", f"memory-backend-ram,id=m{node},size=512M"]
        numa += ["-numa", f"node,nodeid={node},cpus={node},memdev=m{node}"]
    devices = [
        # The IOMMU first: it covers what comes after it.
        *(["intel-iommu,intremap=on,caching-mode=on"] if kind.iommu else []),
        "pxb-pcie,id=pxb0,bus=pcie.0,bus_nr=0x40,numa_node=0",
        "pxb-pcie,id=pxb1,bus=pcie.0,bus_nr=0x80,numa_node=1",
        "pcie-root-port,id=rp0,bus=pxb0,chassis=10,slot=10,bus-reserve=2",
        "pcie-root-port,id=rp1,bus=pxb0,chassis=11,slot=11,bus-reserve=2",
        "pcie-root-port,id=rp2,bus=pxb1,chassis=12,slot=12",
        f"pcie-root-port,id={ACPI_PORT},bus=pcie.0,chassis=20,slot=20",
        f"pcie-root-port,id={NATIVE_PORT},bus=pxb1,chassis=21,slot=21",
        *(
            f"pcie-root-port,id=lab{node}{nr},bus=pxb{node},addr={0x10 + nr:#x},chassis={30 + 10 * node + nr},"
            f"slot={30 + 10 * node + nr},hotplug=off"
            for node in (0, 1)
            for nr in range(4)
        ),
        "nvme-subsys,id=ss0",
        "nvme,serial=lab-nvme,subsys=ss0,bus=rp0,sriov_max_vfs=4,sriov_vq_flexible=8,sriov_vi_flexible=4,"
        "max_ioqpairs=10,msix_qsize=6",
        "nvme-ns,drive=nvme",
        "igb,bus=rp1,netdev=n0,mac=52:54:00:1a:b0:01,romfile=",
        "virtio-gpu-pci,bus=rp2,romfile=",
        "VGA,bus=pcie.0,addr=0x10,romfile=",
    ]
    # A process for each connection: QEMU's own forwarding to an address makes a single one, at its start.
    forward = f",guestfwd=tcp:10.0.2.100:8778-cmd:/bin/busybox nc 127.0.0.1 {kind.placement}" if kind.placement else ""
    return [
        *("-machine", "q35,sata=off,smbus=off,i8042=off,vmport=off", "-cpu", "qemu64", "-vga", "none", *numa),
        *(word for device in devices for word in ("-device", device)),
        *("-netdev", f"user,id=n0,restrict=on{forward}"),
    ]


def _filesystem(path: Path) -> Path:
    """Makes a small file system, for the NVMe controller's disk."""
    with path.open("wb") as file:
        file.truncate(8 << 20)
    command: list[str | Path] = ["mke2fs", "-q", "-t", "ext4", path]
    subprocess.run(command, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, check=True)
    return path


class Machine:
    """One QEMU, from its start to its end; everything that it writes lies in `folder`."""

    def __init__(self, lab: Lab, payload: Path, folder: Path, kind: Kind) -> None:
        self.console = folder / "console.log"
        # One thread for both CPUs: as fast, since the guest mostly sleeps, and without the races of many.
        command: list[str | Path] = [*_WITH_US, lab.qemu, "-accel", "tcg,thread=single,tb-size=256"]
        for firmware in lab.firmware:
            command += ["-L", firmware]
        command += hardware(kind)
        command += ["-kernel", lab.kernel, "-initrd", lab.initramfs]
        command += ["-append", _KERNEL + " intel_iommu=on" * kind.iommu + " lab.systemd" * kind.systemd]
        for nr, (disk, how) in enumerate(((lab.disk, "snapshot=on,cache=unsafe"), (payload, "readonly=on"))):
            command += ["-drive", f"file={disk},format=raw,if=none,id=d{nr},{how}"]
            command += ["-device", f"virtio-blk-pci,drive=d{nr},bus=pcie.0,addr={4 + nr}"]
        command += ["-drive", f"file={_filesystem(folder / 'nvme.ext4')},format=raw,if=none,id=nvme"]
        command += ["-display", "none", "-no-reboot", "-nodefaults", "-serial", f"file:{self.console}"]
        command += ["-chardev", f"socket,id=shell,path={folder}/shell,server=on,wait=off", "-serial", "chardev:shell"]
        command += ["-chardev", f"socket,id=agent,path={folder}/agent,server=on,wait=off"]
        command += [
            "-device",
            "virtio-serial-pci,bus=pcie.0,addr=6",
            "-device",
            "virtserialport,chardev=agent,name=lab",
        ]
        command += ["-qmp", f"unix:{folder}/qmp,server=on,wait=off"]
        environment = {**os.environ, "TMPDIR": str(folder), "QEMU_MODULE_DIR": str(lab.modules)}
        with (folder / "qemu.log").open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        try:
            self.agent = self._connect(folder / "agent")
            self._control = self._connect(folder / "qmp")
            self._monitor = self._control.makefile("rw")
        except BaseException:
            self.kill()
            raise
        self._lock = threading.Lock()
        self._monitor.readline()
        self.qmp("qmp_capabilities")

    def qmp(self, command: str, **arguments: Any) -> Any:
        """Sends one command to the monitor and gives what it returns."""
        with self._lock:
            self._monitor.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
            self._monitor.flush()
            for line in self._monitor:
                answer = json.loads(line)
                if "error" in answer:
                    raise RuntimeError(f"{command}: {answer['error']['desc']}")
                if "return" in answer:
                    return answer["return"]
        raise GuestFault(f"QEMU ended while it was to do {command}")

    @property
    def alive(self) -> bool:
        """Whether QEMU runs."""
        return self.process.poll() is None

    def kill(self) -> None:
        """Ends QEMU, whatever the guest does."""
        self.process.kill()
        self.process.wait()
        for name in ("_monitor", "_control"):
            with suppress(OSError, AttributeError):  # it may have ended before there was a monitor
                getattr(self, name).close()

    def _connect(self, path: Path) -> socket.socket:
        end = time.monotonic() + _CONNECT_S
        while time.monotonic() < end and self.alive:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(path))
            except OSError:
                connection.close()
                time.sleep(0.02)
            else:
                return connection
        said = (path.parent / "qemu.log").read_text(errors="replace").strip()
        raise GuestFault(f"QEMU does not come up: {said or 'it says nothing'}")
