# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Those who report the same devices in bench.placement: devagent's reporter, Nova's client, Cyborg's conductor."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from bench.beside import Peer
from devagent.inventory.build import NUMA_ROOT, OURS
from devagent.model.provider import PREFIX, Inventory, Provider, ProviderTree
from devagent.placement import client
from devagent.placement.reporter import Reporter
from devagent.placement.state import StateFile

HOST: Final = "bench.example.org"
NODES: Final = 2
FIRST: Final = "first report"
AGAIN: Final = "no change"
OLD: Final = "no change, 301 s later"
RESTART: Final = "restart, no change"
CHANGE: Final = "one device changes"
STEPS: Final = (FIRST, AGAIN, OLD, RESTART, CHANGE)

_TRAITS: Final = (
    "CUSTOM_PRODUCT_15B3_101D",
    "CUSTOM_RESET_BUS",
    "CUSTOM_RESET_FLR",
    "CUSTOM_VENDOR_MELLANOX",
    "HW_NIC_SRIOV",
)


@dataclass(frozen=True, slots=True)
class Devices:
    """So many PFs with so many VFs each."""

    pfs: int
    vfs: int

    @classmethod
    def parse(cls, text: str) -> Devices:
        """Reads `8x64`."""
        pfs, vfs = text.split("x")
        return cls(int(pfs), int(vfs))

    def changed(self, position: int, vfs: int) -> int:
        """Gives the VFs of a PF where the first one's are now `vfs`."""
        return self.vfs if position else vfs


@dataclass(frozen=True, slots=True)
class Cost:
    """What one step took."""

    requests: int
    seconds: float


class Contestant(Protocol):
    """Somebody who reports; every step of a round is on the same Placement."""

    name: str

    @property
    def providers(self) -> int:
        """Gives how many providers there are."""

    def begin(self, url: str, root: str) -> None:
        """Starts a round: nothing is known, nothing is reported."""

    def step(self, step: str, vfs: int) -> Cost | None:
        """Reports the devices, the first PF with `vfs` VFs; None where there is no such step for it."""


@dataclass
class Devagent:
    """devagent's model: NUMA nodes, a provider per PF below them, VFs as its inventory; with its state file."""

    devices: Devices
    folder: Path
    name: str = "devagent"

    @property
    def providers(self) -> int:
        """Gives how many providers there are."""
        return NODES + self.devices.pfs

    def begin(self, url: str, root: str) -> None:
        """Starts a round."""
        self._url, self._root = url, root
        self._state = StateFile(self.folder)
        self._state.path.unlink(missing_ok=True)

    def step(self, step: str, vfs: int) -> Cost:
        """Reports, by the steps of `devagent report`; the file is written where something changed."""
        desired = self._tree(vfs)
        begun = time.perf_counter()
        if step in (FIRST, RESTART):
            self._client = client.from_token(self._url, "devagent", roles="admin,service")
            self._reporter = Reporter(self._client, self._state.load())
        before = self._client.requests
        report = self._reporter.report(desired, self._reporter.survey(self._root, HOST))
        if report.changes:
            self._state.save(self._reporter.memory)
        cost = Cost(self._client.requests - before, time.perf_counter() - begun)
        assert not report.failures, report.failures
        return cost

    def _tree(self, vfs: int) -> ProviderTree:
        space = uuid.UUID(self._root)
        nodes = [
            Provider(str(uuid.uuid5(space, f"{node}")), f"{PREFIX}{HOST}:numa{node}", self._root)
            for node in range(NODES)
        ]
        nodes = [replace(node, traits=frozenset({OURS, NUMA_ROOT})) for node in nodes]
        devices = [self._pf(space, nodes, position, vfs) for position in range(self.devices.pfs)]
        return ProviderTree(self._root, (*nodes, *devices), {one.uuid: (one.name[-12:],) for one in devices})

    def _pf(self, space: uuid.UUID, nodes: list[Provider], position: int, vfs: int) -> Provider:
        address, number = _address(position), self.devices.changed(position, vfs)
        return Provider(
            str(uuid.uuid5(space, address)),
            f"{PREFIX}{HOST}:{address}",
            nodes[position % NODES].uuid,
            {"SRIOV_NET_VF": Inventory(number, max_unit=number)},
            frozenset({OURS, *_TRAITS}),
        )


@dataclass
class ByNova:
    """Nova's client with Nova's model of PCI in Placement: a provider per PF directly below the compute node.

    With `per_device` it is Cyborg's model: a provider per VF.
    """

    devices: Devices
    nova: Peer
    per_device: bool = False
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = f"Nova's client, {self.providers} providers"

    @property
    def providers(self) -> int:
        """Gives how many providers there are."""
        return self.devices.pfs * (self.devices.vfs if self.per_device else 1)

    def begin(self, url: str, root: str) -> None:
        """Starts a round."""
        self._connect = partial(self.nova.call, "connect", url=url, uuid=root, name=HOST)
        self._space = uuid.UUID(root)

    def step(self, step: str, vfs: int) -> Cost:
        """Reports, by the steps of the resource tracker."""
        made = self._connect().seconds if step in (FIRST, RESTART) else 0.0
        if step == OLD:
            self.nova.call("later")
        offered = _ask(self.nova, "offer", children=self._children(vfs), parent_of={})
        return Cost(offered.requests, made + offered.seconds)

    def _children(self, vfs: int) -> Mapping[str, Mapping[str, Any]]:
        if not self.per_device:
            totals = [self.devices.changed(position, vfs) for position in range(self.devices.pfs)]
        else:  # a VF that goes is an inventory that is not offered any more
            totals = [1] * (self.providers - 1) + [1 if vfs == self.devices.vfs else 0]
        return {f"{HOST}_{_address(number)}": self._child(number, total) for number, total in enumerate(totals)}

    def _child(self, number: int, total: int) -> Mapping[str, Any]:
        return {
            "uuid": str(uuid.uuid5(self._space, str(number))),
            "inventory": {"CUSTOM_PCI_15B3_101E": {"total": total, "max_unit": total}} if total else {},
            "traits": ["COMPUTE_MANAGED_PCI_DEVICE", "OWNER_NOVA", *_TRAITS],
        }


@dataclass
class ByCyborg:
    """Cyborg's conductor, which writes its own database besides: a provider per VF directly below the compute node."""

    devices: Devices
    cyborg: Peer
    name: str = "Cyborg's conductor"

    @property
    def providers(self) -> int:
        """Gives how many providers there are."""
        return self.devices.pfs * self.devices.vfs

    def begin(self, url: str, root: str) -> None:  # noqa: ARG002 - it finds the compute node by name
        """Starts a round."""
        self._url = url
        _ask(self.cyborg, "forget")

    def step(self, step: str, vfs: int) -> Cost | None:
        """Reports what an agent would hand over; it caches nothing of Placement's that could grow old."""
        if step == OLD:
            return None
        made = _ask(self.cyborg, "connect", url=self._url).seconds if step in (FIRST, RESTART) else 0.0
        reported = _ask(self.cyborg, "report", host=HOST, pfs=self._pfs(vfs))
        return Cost(reported.requests, made + reported.seconds)

    def _pfs(self, vfs: int) -> Mapping[str, list[str]]:
        return {
            _address(position << 8): [
                _address((position << 8) + 8 + index) for index in range(self.devices.changed(position, vfs))
            ]
            for position in range(self.devices.pfs)
        }


def _ask(peer: Peer, method: str, **arguments: object) -> Cost:
    answer = peer.call(method, **arguments)
    assert answer.raised is None, answer.text
    return Cost(len(answer.requests), answer.seconds)


def _address(number: int) -> str:
    return f"0000:{number >> 8:02x}:{number >> 3 & 31:02x}.{number & 7}"
