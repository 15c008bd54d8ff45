# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the API's operations do: they read the facts, and hand what is asked to the loop whose work it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

from devagent.api.backend import Document
from devagent.document import document
from devagent.errors import NoSuchDevice, NotReady
from devagent.inventory.build import device_uuid
from devagent.model.device import Device
from devagent.model.health import Override, State
from devagent.model.provider import Provider, ProviderTree
from devagent.service import health, status
from devagent.service.beats import Beats
from devagent.service.facts import Facts
from devagent.service.health_book import HealthBook
from devagent.service.look_loop import LookLoop
from devagent.service.metrics import Metrics
from devagent.service.preparing.forgetting import Forgetting
from devagent.service.preparing.preparations import Preparations
from devagent.service.status import Self
from devagent.view import Look


@dataclass(frozen=True, slots=True)
class ServiceBackend:
    """Answers from the facts; `own` tells what the agent knows of itself now."""

    facts: Facts
    beats: Beats
    looks: LookLoop
    book: HealthBook
    counters: Metrics
    ready: Preparations
    own: Callable[[], Self]
    hints: Callable[[Mapping[str, str]], int]

    def devices(self) -> Document:
        """Gives what the last look found. Raises NotReady before there was one."""
        return document(self._view())

    def providers(self) -> Document:
        """Gives the wanted provider tree and what differs. Raises NotReady before the first look."""
        view, reported = self._view(), self.facts.reported
        tree = view.tree()
        return {
            "schema_version": status.SCHEMA_VERSION,
            "root": {"uuid": reported.root, "name": view.hostname},
            "providers": [_provider(each, tree, reported.listed.get(each.uuid)) for each in tree.providers],
            "differs": [{"provider": name, "what": what} for name, what in reported.differs],
        }

    def status(self) -> Document:
        """Gives how the agent is."""
        return status.status(self.facts, self.beats.pulses(), self.own())

    def health(self) -> Document:
        """Gives how each device is."""
        return health.health(self.facts)

    def set_health(self, target: str, state: str, reason: str, expires_in: int | None, by: str) -> Document:
        """Puts an operator's word above what the monitors say. Raises NoSuchDevice, NotReady."""
        device = self._device(target)
        now = time.time()
        until = None if expires_in is None else now + expires_in
        self.book.override(device, Override(State(state), reason, by, until), now)
        return self._judged(device)

    def clear_health(self, target: str, by: str) -> Document:
        """Takes an operator's word back and forgets what is held against the device. Raises NoSuchDevice, NotReady."""
        device = self._device(target)
        self.book.clear(device, by, time.time())
        return self._judged(device)

    def rescan(self, wait_s: float) -> Document:
        """Looks at everything anew, and waits so long for the end of it."""
        if not self.looks.rescan(wait_s):
            return {"done": False}
        scan = self.status()["scan"]
        return {"done": True, "devices": scan["devices"], "problems": scan["problems"]}

    def prepare(self, consumer: str, body: Document, wait_s: float) -> tuple[Document, int]:
        """Makes the devices of a consumer ready. Raises NotPrepared, PreparedOtherwise."""
        return self.ready.put(consumer, body, wait_s)

    def unprepare(self, consumer: str, wait_s: float) -> tuple[Document | None, int]:
        """Makes sure that a consumer has no device. Raises NotPrepared."""
        return self.ready.delete(consumer, wait_s)

    def forget(self, consumer: str, reason: str, offer: bool, by: str) -> Document:
        """Ends what cannot be released. Raises NoSuchPreparation, NotPrepared."""
        found: list[Document] = []
        forgetting = Forgetting(self.facts, self.book, reason, by, offer=offer)
        self.ready.forget(consumer, lambda each: found.extend(forgetting.devices(each)))
        self.looks.judge()
        return {"consumer": consumer, "devices": found}

    def preparation(self, consumer: str) -> Document:
        """Gives the devices of one consumer. Raises NoSuchPreparation, NotPrepared."""
        return self.ready.get(consumer)

    def preparations(self) -> Document:
        """Gives the devices of all consumers. Raises NotPrepared."""
        return self.ready.list()

    def hint(self, events: Mapping[str, str]) -> int:
        """Has consumers looked for in Placement soon. Raises NotPrepared."""
        return self.hints(events)

    def checks(self) -> list[tuple[str, bool, str | None]]:
        """Tells whether each loop makes progress, and whether the host can be looked at."""
        loops = [(f"{pulse.name} loop", not pulse.late, "makes no progress") for pulse in self.beats.pulses()]
        return [*loops, ("host", self.facts.look_error is None, self.facts.look_error)]

    def metrics(self) -> bytes:
        """Gives everything that is counted."""
        return self.counters.render(self.status(), self.health(), self.ready.keeper.overview())

    def _view(self) -> Look:
        """Gives the last look, below the compute node's provider if Placement has named it. Raises NotReady."""
        seen, reported = self.facts.seen, self.facts.reported
        if seen is None:
            raise NotReady(self.facts.look_error or "the first look at the host has not ended yet; ask again")
        return replace(seen.view, hostname=reported.root_name or seen.view.hostname, root=reported.root)

    def _device(self, target: str) -> Device:
        view = self._view()
        root = view.tree().root
        for device in view.found.devices:
            if target in (device.address, device_uuid(root, device)):
                return device
        raise NoSuchDevice(target)

    def _judged(self, device: Device) -> Document:
        """Has what was said take effect, in Placement too, and gives the device as it is now."""
        self.looks.judge()
        found: Document = next(each for each in self.health()["devices"] if each["address"] == device.address)
        return found


def _provider(wanted: Provider, tree: ProviderTree, actual: Provider | None) -> Document:
    return {
        "uuid": wanted.uuid,
        "name": wanted.name,
        "parent": wanted.parent,
        "inventories": {name: asdict(what) for name, what in sorted(wanted.inventories.items())},
        "traits": sorted(wanted.traits),
        "devices": list(tree.devices.get(wanted.uuid, ())),
        "generation": actual.generation if actual else None,
        "known": not wanted.undetermined,
    }
