# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A running guest, as a test sees it: files, commands, cards to plug, and devagent itself."""

from __future__ import annotations

import base64
import inspect
import json
import re
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .build import Lab
from .cards import DRIVERS, Card
from .channel import PATIENCE_S, Channel
from .machine import LAB_PORTS, GuestFault, Kind, Machine
from .timeline import Timeline

PCI: Final = "/sys/bus/pci/devices"
CONTROL: Final = "/sys/devices/platform/lab_pci"
KNOBS: Final = ("fail_sriov", "fail_probe", "delay_ms")
NOBODY: Final = 65534
_OWN_BUSES: Final = range(0xC0, 0xE0)
_BOOT_S: Final = 300
_PAUSE_S: Final = 0.3
_LONGEST_PAUSE_S: Final = 3.0
_MODULES: Final = "vfio-pci lab_fpga dfl-pci dfl-fme dfl-afu dfl-fme-mgr dfl-fme-br dfl-fme-region"
_OOPS: Final = re.compile(r"\b(?:BUG: |Oops|general protection fault|Kernel panic|KASAN)")


@dataclass(frozen=True)
class Ran:
    """What one run of a command gave."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Discovered:
    """What `devagent discover -o json` said; `devices` by address."""

    ran: Ran
    devices: dict[str, dict[str, Any]]
    problems: list[dict[str, Any]]
    notes: list[str]
    host: dict[str, Any]


class Process:
    """A command that runs on in the guest."""

    def __init__(self, guest: Guest, pid: int) -> None:
        self.guest, self.pid = guest, pid

    def wait(self, timeout: float = PATIENCE_S) -> Ran:
        """Waits for its end."""
        return Ran(**self.guest.channel.ask("wait", pid=self.pid, timeout=timeout, patience=timeout + 5))

    def end(self) -> None:
        """Ends it, and waits until it has given back what it held."""
        self.guest.run("kill", str(self.pid))
        self.wait()


class Guest:
    """One guest from boot to power-off. Raises GuestFault wherever the guest or QEMU fails as such."""

    def __init__(self, lab: Lab, payload: Path, folder: Path, kind: Kind) -> None:
        self.kind = kind
        self.timeline = Timeline()
        self.machine = Machine(lab, payload, folder, kind)
        try:
            self.channel = Channel(self.machine, self.timeline)
            self.channel.hello(_BOOT_S)
            self.run("modprobe", "-a", *_MODULES.split())
            self.run("modprobe", "lab_pci", f"drivers={','.join(DRIVERS)}", "bar_base=0x3e000000")
            self.run("udevadm", "settle")
            self._baseline = self.names(PCI)
        except BaseException:
            self.machine.kill()
            raise
        self.booted = self.timeline.now
        self._plugged: dict[str, Card] = {}
        self._hot: set[str] = set()

    # What any program could do.

    def run(
        self,
        *command: str,
        user: int | None = None,
        text: str | None = None,
        check: bool = True,
        timeout: float = PATIENCE_S,
    ) -> Ran:
        """Runs a command to its end, with `text` as its input; with `check` it must succeed."""
        request = {"argv": command, "user": user, "timeout": timeout}
        ran = Ran(**self.channel.ask("run", patience=timeout + 5, input=text, **request))
        assert not check or ran.code == 0, f"{' '.join(command)} ended with {ran.code}: {ran.err or ran.out}"
        return ran

    def start(self, *command: str) -> Process:
        """Starts a command and goes on."""
        return Process(self, self.channel.ask("start", argv=command))

    def call(self, function: Callable[..., Any], *arguments: Any, patience: float = PATIENCE_S) -> Any:
        """Runs a function of the test in the guest.

        There it has os, time and Path and nothing else of its module; its arguments and what it returns go as JSON.
        """
        return self.channel.ask("call", patience=patience, **_source(function, arguments))

    def begin(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Begins as `call` does and goes on; `result` waits."""
        return self.channel.send("call", **_source(function, arguments))

    def result(self, future: Future[Any], patience: float = PATIENCE_S) -> Any:
        """Waits for what `begin` or `begin_write` has begun."""
        return self.channel.result(future, "what was begun", patience)

    def write(self, path: str, text: str) -> None:
        """Writes a file by a single call. Raises the guest's OSError."""
        self.channel.ask("write", path=path, text=text)

    def begin_write(self, path: str, text: str) -> Future[Any]:
        """Begins to write and goes on."""
        return self.channel.send("write", path=path, text=text)

    def put(self, path: str, text: str) -> str:
        """Makes a file that all may read, and gives its path."""
        self.run("sh", "-c", 'cat > "$0" && chmod 644 "$0"', path, text=text)
        return path

    def data(self, path: str) -> bytes:
        """Reads a file."""
        return base64.b64decode(self.channel.ask("data", path=path))

    def read(self, path: str) -> str:
        """Reads a text file, stripped."""
        text: str = self.channel.ask("read", path=path)
        return text.strip()

    def names(self, path: str) -> list[str]:
        """Gives the sorted names in a directory."""
        found: list[str] = self.channel.ask("names", path=path)
        return found

    def link(self, path: str) -> str | None:
        """Gives the last name in a link's target; None if there is no link."""
        target = self.channel.ask("link", path=path)
        return target.rpartition("/")[2] if target is not None else None

    # Hardware.

    def plug(self, card: Card) -> str:
        """Puts a card in and gives its address, when udev has done with it."""
        address = self._slot(card)
        domain, bus = address.split(":")[:2]
        ids = (card.vendor, card.device, card.class_code, card.subsystem, card.driver)
        numa = -1 if card.numa is None else card.numa
        rest = (numa, card.vfs, card.vf_device, card.kind, f"{card.serial:x}")
        self.write(f"{CONTROL}/add", " ".join(map(str, (f"{domain}:{bus}", *ids, *rest))))
        self._plugged[address] = card
        self.run("udevadm", "settle")
        return address

    def unplug(self, address: str) -> None:
        """Pulls a card out, in use or not, its VFs with it."""
        del self._plugged[address]
        self.write(f"{CONTROL}/remove", address.rpartition(":")[0])

    def hotplug(self, driver: str, port: str, **properties: str) -> str:
        """Has QEMU plug a device of its own into a port; gives its address when udev has done with it."""
        before, seen = set(self.names(PCI)), len(self.channel.uevents)
        self.timeline.add("test", f"device_add {driver} in {port}")
        self.machine.qmp("device_add", driver=driver, bus=port, id=f"hot-{port}", **properties)
        self._hot.add(port)
        event = self.channel.wait_for(
            lambda event: event["ACTION"] == "add" and event.get("PCI_SLOT_NAME", "") not in {"", *before}, seen, 30
        )
        self.run("udevadm", "settle")
        return event["PCI_SLOT_NAME"]

    def hot_unplug(self, port: str) -> None:
        """Has QEMU ask for the device in a port, as the button beside a slot does, and waits until it is gone."""
        seen = len(self.channel.uevents)
        self.timeline.add("test", f"device_del in {port}")
        self.machine.qmp("device_del", id=f"hot-{port}")
        self.channel.wait_for(lambda event: event["ACTION"] == "remove" and "PCI_SLOT_NAME" in event, seen, 60)
        self._hot.discard(port)

    def set_vfs(self, pf: str, count: int, *, probe: bool = False) -> list[str]:
        """Makes `count` VFs and gives their addresses by index; drivers get them only if `probe`."""
        self.write(f"{PCI}/{pf}/sriov_drivers_autoprobe", str(int(probe)))
        self.write(f"{PCI}/{pf}/sriov_numvfs", str(count))
        return [self.link(f"{PCI}/{pf}/virtfn{index}") or "" for index in range(count)]

    def bind(self, address: str, driver: str) -> None:
        """Gives a device to a driver by driver_override."""
        self.write(f"{PCI}/{address}/driver_override", driver)
        if self.link(f"{PCI}/{address}/driver"):
            self.write(f"{PCI}/{address}/driver/unbind", address)
        self.write("/sys/bus/pci/drivers_probe", address)
        assert self.link(f"{PCI}/{address}/driver") == driver

    def hold(self, address: str) -> Process:
        """Has a process hold a device on vfio-pci open, as a virtual machine does."""
        process = self.start("python3", "-I", "-S", "/opt/devagent/hold.py", address)
        eventually(lambda: self.run("test", "-e", f"/tmp/held-{process.pid}", check=False).code == 0)
        return process

    # What is tested.

    def devagent(self, *arguments: str, user: int | None = None, timeout: float = PATIENCE_S) -> Ran:
        """Runs the command devagent, in a fork of a process that has imported it; a traceback fails the test."""
        request = {"argv": arguments, "user": user, "timeout": timeout}
        ran = Ran(**self.channel.ask("devagent", patience=timeout + 5, **request))
        assert "Traceback" not in ran.err, ran.err
        return ran

    def discover(self, *options: str, user: int | None = None, timeout: float = PATIENCE_S) -> Discovered:
        """Runs `devagent discover -o json` and gives what it says."""
        ran = self.devagent("discover", "-o", "json", *options, user=user, timeout=timeout)
        assert ran.code in (0, 4), f"devagent ended with {ran.code}: {ran.err}"
        document = json.loads(ran.out)
        devices = {device["address"]: device for device in document["devices"]}
        return Discovered(ran, devices, document["problems"], document["notes"], document["host"])

    # Between scenarios.

    def tidy(self) -> None:
        """Takes back what a scenario left; raises GuestFault if the guest cannot be made as it was."""
        try:
            for knob in KNOBS:
                self.write(f"{CONTROL}/{knob}", "0")
            for address in tuple(self._plugged):
                self.unplug(address)
            for port in tuple(self._hot):
                self.hot_unplug(port)
            self.call(_reset, PCI)
            self.run("udevadm", "settle")
            left = self.names(PCI)
        except (OSError, AssertionError) as error:
            raise GuestFault(f"cannot be tidied: {error}") from error
        if left != self._baseline:
            raise GuestFault(f"has {left}, had {self._baseline}")

    def oopses(self) -> list[str]:
        """Gives the lines in which the kernel says that it is broken."""
        console = self.machine.console.read_text(errors="replace")
        return [line for line in console.splitlines() if _OOPS.search(line)]

    def close(self) -> None:
        """Switches the guest off."""
        if self.machine.alive:
            try:
                self.channel.send("poweroff")
                self.machine.process.wait(15)
            except Exception:
                self.machine.kill()

    def _slot(self, card: Card) -> str:
        """Finds a place: an empty root port on the card's node, or a bus number that nobody has."""
        if card.numa is not None and not card.domain:
            for port in LAB_PORTS[card.numa]:
                address = f"0000:{int(self.read(f'{PCI}/{port}/secondary_bus_number')):02x}:00.0"
                if address not in self._plugged:
                    return address
        for bus in _OWN_BUSES:
            address = f"{card.domain:04x}:{bus:02x}:00.0"
            if address not in self._plugged:
                return address
        raise AssertionError("no place left for a card")


def _source(function: Callable[..., Any], arguments: tuple[Any, ...]) -> dict[str, Any]:
    source = "from __future__ import annotations\n" + textwrap.dedent(inspect.getsource(function))
    return {"name": function.__name__, "source": source, "arguments": arguments}


def _reset(pci: str) -> None:
    """Runs in the guest: no VFs, no override, every device with the driver it has by itself."""
    for device in Path(pci).iterdir():
        numvfs = device / "sriov_numvfs"
        if numvfs.exists() and any(device.glob("virtfn*")):
            numvfs.write_text("0")
        override = device / "driver_override"
        if override.exists() and override.read_text().strip() != "(null)":
            override.write_text("\n")
            (device / "driver/unbind").write_text(device.name)
            Path("/sys/bus/pci/drivers_probe").write_text(device.name)


def eventually(condition: Callable[[], bool], timeout: float = 30) -> None:
    """Waits until something is so; asks the more seldom the longer the question itself keeps the guest's CPU busy."""
    end = time.monotonic() + timeout
    while True:
        asked = time.monotonic()
        if condition():
            return
        answered = time.monotonic()
        assert answered < end, f"not so within {timeout:g} s"
        time.sleep(min(max(_PAUSE_S, 2 * (answered - asked)), _LONGEST_PAUSE_S))
