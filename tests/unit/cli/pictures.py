# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Hosts to be shown: a plain one of values, and one on which everything is out of the ordinary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from devagent.discovery import Discovery
from devagent.inventory.build import Nest
from devagent.model.claim import Kind, Mode, NetFacts, NetInterface
from devagent.model.device import Device
from devagent.model.gpu import GpuFacts, MigFacts, MigInstance, VgpuFacts
from devagent.model.health import Health, State
from devagent.model.snapshot import HostFacts, Problem
from devagent.model.user import User
from devagent.view import Look

from ..worlds import claim, decide, function, pf, rule, snapshot

# What a terminal or an XML parser must never see, in a name that a device could tell.
HOSTILE = "evil\x1b[2J\x00\x07\u202e\"'<script>&amp;]]>\ud800\ufffe\u2028\n中文 " + "x" * 300


def look(*devices: Device, problems: Sequence[Problem] = (), notes: Sequence[str] = (), **host: Any) -> Look:
    """Gives a look at a host with these devices."""
    defaults: dict[str, Any] = {"hostname": "h.example.org", "kernel": "6.12", "iommu": True, "numa_nodes": (0, 1)}
    facts = HostFacts(**defaults | host)
    return Look(Discovery(facts, devices, tuple(problems), notes=tuple(notes)), facts.hostname or "h", Nest.NUMA)


def gpu(address: str = "0000:3b:00.0", facts: GpuFacts | None = None, **more: Any) -> Device:
    """Gives a GPU that is given whole; keywords that a Device has are its own."""
    own = {key: more.pop(key) for key in list(more) if key in Device.__dataclass_fields__}
    one = function(address, **more)
    said = claim(one, gpu=facts or GpuFacts(), vendor="NVIDIA", model="A100")
    return replace(decide(snapshot(one), rule(), claims=[said])[address], **own)


def nic(count: int = 4, total: int = 8, **more: Any) -> Device:
    """Gives a NIC whose VFs are given."""
    functions = pf(count, total, **more)
    net = NetFacts((NetInterface("ens1", "02:00:00:00:00:01", True, 100_000),), "switchdev", count)
    said = claim(functions[0], Kind.NIC, net=net, vendor="Mellanox", model="ConnectX")
    return decide(snapshot(*functions), rule(Mode.VF), claims=[said])["0000:3b:00.0"]


USER = User(4711, "qemu-system-x86", "/dev/vfio/12", "5e1fd3c1-1f6f-4ab0-9c21-9a2f0b1e8c77", "instance-0000001a")


def troubled() -> Look:
    """Gives a host where each device has another story, and hostile names."""
    mig = MigFacts(True, True, (), (MigInstance(1, "1g.5gb", 0, 1), MigInstance(2, "3g.20gb", 4, 4)))
    plain = gpu("0000:41:00.0", GpuFacts(memory_mib=40960, mig=mig), health=Health(State.HEALTHY))
    sick = gpu("0000:42:00.0", GpuFacts(vgpu=VgpuFacts(active=3)), health=Health(State.SUSPECT, ("8 of 16 lanes",)))
    dead = gpu("0000:43:00.0", health=Health(State.LOST, ("fell off the bus",)), users=(USER,), numa_node=1)
    odd = gpu("0000:44:00.0", numa_node=None, root_bus=None, pcie_path=(), driver=HOSTILE)
    odd = replace(odd, claim=replace(odd.claim, vendor=HOSTILE, model=HOSTILE, facts=((HOSTILE, HOSTILE),)))
    odd = replace(odd, health=Health(State.UNHEALTHY, (HOSTILE,)), in_use_by=HOSTILE)
    vfs = replace(nic(), vf_use=((3, "default route (ens1)"),), vf_users=((0, (USER,)), (1, (USER,))))
    refused = replace(gpu("0000:45:00.0"), decision=replace(odd.decision, managed=False, reason=HOSTILE))
    problems = [Problem("nvml", "0000:43:00.0", HOSTILE), Problem("pci", None, "the host is odd")]
    return look(vfs, plain, sick, dead, odd, refused, problems=problems, notes=[HOSTILE, "only root may see users"])
