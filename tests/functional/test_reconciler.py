# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The reconciler on a described host and a real Placement: what it costs, and what it finds there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from devagent.cli.look import look
from devagent.inventory.build import build
from devagent.inventory.default_policy import DEFAULT
from devagent.inventory.reconcile import Kind, Scene
from devagent.model.device import Device
from devagent.model.user import User
from devagent.placement.client import PlacementClient
from devagent.placement.holders import Holders
from devagent.placement.patience import Patience
from devagent.service.reconciler import Reconciler

from .cloud import Cloud, reporter
from .conftest import Describe
from .descriptions import small

GPU, NIC = "0000:3b:00.0", "0000:3c:00.0"


class Compute:
    """A compute node whose devices are reported, and the reconciler that watches it."""

    def __init__(self, cloud: Cloud, host: Path) -> None:
        self.cloud, self.users = cloud, dict[str, User]()
        self.devices = look(host, DEFAULT).found.devices
        self.wire = cloud.wire()
        client = PlacementClient(self.wire)
        client.version = (1, 39)
        self.held: frozenset[str] = frozenset()
        self.reconciler = Reconciler(self.scene, Holders(client.holding, Patience(lambda _: None)), self.tell)
        self.report()

    def report(self) -> None:
        self.cloud.report(build(self.devices, self.cloud.root, self.cloud.name))

    def uuid(self, address: str) -> str:
        devices = build(self.devices, self.cloud.root, self.cloud.name).devices
        return next(uid for uid, addresses in devices.items() if addresses[0] == address)

    def tell(self, held: frozenset[str], unexplained: tuple[tuple[str, str], ...]) -> None:
        self.held = held

    def cycle(self) -> int:
        """Gives how many requests a cycle takes beyond the listing, which the reporter makes anyway."""
        before = len(self.wire.sent)
        assert self.reconciler.cycle()
        return len(self.wire.sent) - before

    def found(self) -> list[tuple[str, Kind]]:
        return [(one.finding.address, one.finding.kind) for one in self.reconciler.told]

    def scene(self) -> Scene:
        devices = tuple(_opened(device, self.users) for device in self.devices)
        survey = reporter(self.cloud.wire()).survey(self.cloud.root, self.cloud.name)
        return Scene(devices, build(devices, self.cloud.root, self.cloud.name), survey.listed, DEFAULT)


def _opened(device: Device, users: Mapping[str, User]) -> Device:
    mine = tuple(user for address, user in users.items() if address == device.address)
    vfs = tuple((vf.index, (users[vf.address],)) for vf in device.vfs if vf.address in users)
    return replace(device, users=mine, vf_users=vfs)


@pytest.fixture
def compute(cloud: Cloud, describe: Describe) -> Compute:
    return Compute(cloud, describe(small()))


def qemu(pid: int, instance: str | None) -> User:
    return User(pid, "qemu-system-x86", "/dev/vfio/7", instance)


def test_a_host_at_rest_costs_one_request_per_device_and_then_none(cloud: Cloud, hosts: dict[str, Path]) -> None:
    compute = Compute(cloud, hosts["gpu8"])
    given = sum(device.decision.managed for device in compute.devices)
    assert [compute.cycle() for _ in range(4)] == [given, 0, 0, 0]
    assert compute.found() == []


def test_a_server_that_starts_and_ends_is_no_finding_and_costs_one_request(compute: Compute) -> None:
    compute.cycle()
    server = compute.cloud.allocate(compute.uuid(GPU), PGPU=1)
    compute.users[GPU] = qemu(4711, server)
    assert [compute.cycle(), compute.cycle()] == [1, 0]
    assert compute.held == {GPU}
    compute.users.clear()
    compute.cloud.call("DELETE", f"/allocations/{server}")
    assert [compute.cycle() for _ in range(3)] == [0, 0, 0]
    assert compute.found() == []


def test_our_own_writes_cost_one_request_each(compute: Compute) -> None:
    compute.cycle()
    compute.devices = tuple(device for device in compute.devices if device.address != GPU)
    compute.report()
    assert [compute.cycle(), compute.cycle()] == [1, 0]


def test_a_server_that_nobody_has_allocated_anything_is_told_at_the_cost_of_one_request(compute: Compute) -> None:
    compute.cycle()
    compute.users[compute.devices[-1].vfs[2].address] = qemu(4711, "5e1f0000-0000-4000-8000-000000000001")
    assert [compute.cycle(), compute.cycle(), compute.cycle()] == [1, 1, 1]
    assert compute.found() == [(compute.devices[-1].vfs[2].address, Kind.UNALLOCATED)]
    compute.cloud.allocate(compute.uuid(NIC), SRIOV_NET_VF=1)
    compute.cycle()
    assert compute.found() == []


def test_an_unplugged_device_that_a_server_has_is_told_until_the_server_is_deleted(compute: Compute) -> None:
    server = compute.cloud.allocate(compute.uuid(GPU), PGPU=1)
    compute.devices = tuple(device for device in compute.devices if device.address != GPU)
    compute.report()
    compute.cycle()
    compute.cycle()
    assert compute.found() == [(GPU, Kind.GONE)]
    compute.cloud.call("DELETE", f"/allocations/{server}")
    compute.cycle()
    assert compute.found() == []


def test_fewer_vfs_than_are_allocated_are_told(describe: Describe, compute: Compute) -> None:
    compute.cloud.allocate(compute.uuid(NIC), SRIOV_NET_VF=3)
    compute.devices = look(describe(small(vfs=2)), DEFAULT).found.devices
    compute.report()
    compute.cycle()
    compute.cycle()
    assert compute.found() == [(NIC, Kind.SHORT)]
