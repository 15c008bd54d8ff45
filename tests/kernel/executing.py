# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest: does steps as the agent does, through a privileged process; says one JSON object for each.

executing.py steps '[{"verb": "bind", "target": "0000:c0:00.4", "arguments": {"driver": "vfio-pci"}}]'
executing.py hang 0000:c0:00.4 0000:c1:00.4
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

from devagent.model.plan import Step
from devagent.prepare.machine import StepFailed, StepStuck
from devagent.prepare.verbs import VERBS, inverse
from devagent.privileged import Privileged, capabilities, start
from devagent.service.preparing.machine import PrivilegedMachine

PCI = Path("/sys/bus/pci/devices")
SECONDS = 60.0
IMAGES = Path("/tmp/images")
HANGS_S = 3.0
GROUP_SET_CONTAINER, SET_IOMMU, GROUP_GET_DEVICE_FD, TYPE1V2_IOMMU = 0x3B68, 0x3B66, 0x3B6A, 3


def attempt(machine: PrivilegedMachine, step: Step, seconds: float = SECONDS) -> dict[str, Any]:
    """Does one step as the executor does, and says what came of it."""
    said: dict[str, Any] = {}
    begun = time.monotonic()
    try:
        comes_back = VERBS[step.verb].inverse is not None
        if comes_back and (step.verb != "program_fpga" or step.undo is not None):
            said["before"] = dict(machine.before(step, seconds))
        machine.do(step, seconds)
        said["holds"] = not comes_back or machine.check(step, seconds)
    except (StepFailed, StepStuck) as error:
        refusal = error.refusal
        holders = [[holder.pid, holder.command] for holder in refusal.holders]
        said |= {"error": type(error).__name__, "kind": refusal.kind, "reason": refusal.reason, "holders": holders}
    said["took"] = time.monotonic() - begun
    override = PCI / step.target / "driver_override"
    if step.verb == "bind" and "error" not in said:
        said["override"] = override.read_text().strip()
    return said


def steps(machine: PrivilegedMachine, raw: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Does steps one after the other; `undo` among them takes back what the one before it did.

    `back` of a step is its own `undo`, where the plan has to say what brings it back.
    """
    said: list[dict[str, Any]] = []
    step = Step("", "")
    for each in raw:
        if "undo" in each:
            back = inverse(Step(step.verb, step.target, step.arguments, said[-1]["before"]))
            assert back is not None
            machine.do(back, SECONDS)
            said.append({"holds": machine.check(back, SECONDS)})
        else:
            step = Step(each["verb"], each["target"], each["arguments"], each.get("back"))
            said.append(attempt(machine, step))
    return said


def hide(address: str) -> tuple[socket.socket, socket.socket]:
    """Opens a device on vfio-pci so that no process is seen to have it: its descriptors are on their way to one."""
    group_number = (PCI / address / "iommu_group").resolve().name
    container = os.open("/dev/vfio/vfio", os.O_RDWR)
    group = os.open(f"/dev/vfio/{group_number}", os.O_RDWR)
    fcntl.ioctl(group, GROUP_SET_CONTAINER, struct.pack("i", container))
    fcntl.ioctl(container, SET_IOMMU, TYPE1V2_IOMMU)
    opened = (container, group, fcntl.ioctl(group, GROUP_GET_DEVICE_FD, bytearray(address.encode() + b"\0")))
    ours, theirs = socket.socketpair()
    socket.send_fds(ours, [b"vfio"], opened)
    for fd in opened:
        os.close(fd)
    return ours, theirs


def hang(privileged: Privileged, machine: PrivilegedMachine, held: str, other: str) -> list[dict[str, Any]]:
    """Unbinds a device that is open though nobody is seen to have it, and once more when it is let go."""
    hidden = hide(held)
    unbind = Step("bind", held, {"driver": None})
    elsewhere = Step("bind", other, {"driver": None})
    said = [attempt(machine, unbind, HANGS_S), attempt(machine, unbind), attempt(machine, elsewhere)]
    for each in hidden:
        each.close()
    while privileged.call("stuck", SECONDS)["stuck"]:
        time.sleep(0.1)
    return [*said, attempt(machine, unbind)]


def main() -> None:
    """Does what the command line asks for, without a capability of its own."""
    privileged = start({}, images=lambda: IMAGES)
    machine = PrivilegedMachine(privileged)
    try:
        if sys.argv[1] == "hang":
            said = hang(privileged, machine, *sys.argv[2:])
        else:
            capabilities.drop()
            said = steps(machine, json.loads(sys.argv[2]))
    finally:
        privileged.stop()
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main()
