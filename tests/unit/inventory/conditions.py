# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A device whose health is followed, look by look, as the tests of the engine tell it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from devagent.inventory.condition import Rules, follow, settled
from devagent.model.device import Device
from devagent.model.gpu import GpuFacts
from devagent.model.health import Book, Condition, Health, State
from devagent.model.occurrence import Occurrence, Xid

from ..worlds import claim, function, managed

ADDRESS: Final = "0000:3b:00.0"
WELL: Final = Health(State.HEALTHY)
SUSPECT: Final = Health(State.SUSPECT, ("its fabric is in progress",))
SICK: Final = Health(State.UNHEALTHY, ("its driver asks for a reset",))
DEAD: Final = Health(State.LOST, ("it has fallen off the bus",))
RULES: Final = Rules()
OUT_OF_PROCESSOR: Final = Xid(ADDRESS, 119, "Timeout waiting for RPC from GSP", 0.0)


def gpu(
    health: Health | None = WELL, action: str | None = None, files: Mapping[str, str] | None = None, **more: object
) -> Device:
    """Gives a GPU of which its driver, and NVML, say so much."""
    of = function(ADDRESS, driver="nvidia", attributes=dict(files or {}))
    of = replace(of, **more)  # type: ignore[arg-type]
    return managed(of, claim=claim(of, health=health, gpu=GpuFacts(recovery_action=action)))


def fatal(total: int, nonfatal: int = 0) -> dict[str, str]:
    """Gives the files of the kernel's counters of PCIe errors."""
    return {
        "aer_dev_fatal": f"Undefined 0\nDLP {total}\nTOTAL_ERR_FATAL {total}",
        "aer_dev_nonfatal": f"Undefined 0\nTOTAL_ERR_NONFATAL {nonfatal}",
    }


def given_away() -> Device:
    """Gives the GPU on vfio-pci, where NVML does not see it."""
    return gpu(None, driver="vfio-pci")


@dataclass
class Patient:
    """One device over time: a look a minute unless a test says otherwise."""

    rules: Rules = RULES
    now: float = 1_800_000_000.0
    book: Book = field(default_factory=dict)
    last: Device = field(default_factory=gpu)

    def look(self, device: Device | None, *happened: Occurrence, checked: Iterable[str] | None = None) -> State:
        """Follows one look; None: the device is not there."""
        self.now += 60
        devices = [device] if device is not None else []
        self.last = device or self.last
        known = None if checked is None else frozenset(checked)
        self.book = follow(devices, self.book, happened, self.now, self.rules, checked=known)
        return self.state

    def looks(self, *healths: Health | None, action: str | None = None) -> list[State]:
        """Follows several looks at the GPU and gives the state after each."""
        return [self.look(gpu(health, action)) for health in healths]

    @property
    def condition(self) -> Condition:
        return self.book[self.last.key]

    @property
    def health(self) -> Health:
        """The health that counts."""
        return settled([self.last], self.book, self.now)[0].health

    @property
    def state(self) -> State:
        return self.health.state
