# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What happens to preparations without anybody asking: they are finished, undone and released, and never made again.

half done                                         goes on, now and then, until it is settled
asked to be released, and was in use              is released, as soon as no process has it open
prepared, expired, and no process ever had it     is released
prepared, unknown to Placement in two checks      is released, unless a process has it open (see Vanished)
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from devagent.errors import LookFailed, NotPrepared
from devagent.model.handle import Handle, PciHandle
from devagent.model.preparation import Preparation, State
from devagent.model.user import User
from devagent.prepare.entry import Entry
from devagent.service.facts import Facts, Seen
from devagent.service.preparing.images import Images
from devagent.service.preparing.preparations import Preparations
from devagent.service.preparing.returning import Returning
from devagent.service.preparing.vanished import Vanished

LOG = logging.getLogger(__name__)

_AGAIN_S: Final = 30.0
_TRY_S: Final = 10.0
"""For a release that nobody waits for: what is busy now is tried again later."""


class Upkeep:
    """Takes turns; `monotonic` says what is due."""

    def __init__(
        self,
        preparations: Preparations,
        vanished: Vanished,
        images: Images,
        returning: Returning,
        facts: Facts,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._preparations, self._vanished = preparations, vanished
        self._images, self._returning, self._facts = images, returning, facts
        self._monotonic = monotonic
        self._not_before: dict[str, float] = {}

    def hint(self, consumers: Iterable[str]) -> frozenset[str]:
        """Has those of `consumers` looked for in Placement soon that have something prepared here, and gives them.

        Raises NotPrepared.
        """
        known = frozenset(entry.preparation.consumer for entry in self._preparations.keeper.entries())
        found = known.intersection(consumers)
        self._vanished.hint(found)
        return found

    def due_in(self, at_most: float) -> float:
        """Gives the seconds until the next turn, `at_most` if nothing wants one before."""
        return self._vanished.due_in(at_most)

    def turn(self) -> str | None:
        """Does what is due; gives what keeps it from that."""
        keeper = self._preparations.keeper
        if not keeper.open():
            return keeper.trouble
        try:
            entries = keeper.entries()
            self._settle(entries)
            self._returning.turn(entries)
        except NotPrepared as error:
            return str(error)
        return "; ".join(filter(None, (keeper.trouble, self._images.turn(entries)))) or None

    def _settle(self, entries: Iterable[Entry]) -> None:
        keeper = self._preparations.keeper
        prepared, idle = [], []
        for entry in entries:
            found = entry.preparation
            if self._preparations.is_at_work(found.consumer):
                continue
            if entry.unfinished:
                self._now_and_then(found.consumer, lambda: self._go_on(entry))  # noqa: B023
            elif found.handles:
                prepared.append(found)
                if not self._is_open(found):
                    idle.append(found)
        consumers = {entry.preparation.consumer for entry in entries}
        self._not_before = {name: at for name, at in self._not_before.items() if name in consumers}
        for found in idle:
            if found.expires is not None and keeper.has_expired(found):
                self._now_and_then(found.consumer, lambda: self._expired(found))  # noqa: B023
        for found in self._vanished.find(prepared, idle):
            if not self._is_used_now(found):
                LOG.warning("%s holds nothing of its devices in Placement any more: it is released", found.consumer)
                self._preparations.release(found.consumer, _TRY_S)

    def _go_on(self, entry: Entry) -> None:
        consumer = entry.preparation.consumer
        if not entry.leaving:
            self._preparations.recover(consumer)
        elif not self._is_used_now(entry.preparation):
            self._preparations.release(consumer, _TRY_S)

    def _now_and_then(self, consumer: str, act: Callable[[], None]) -> None:
        now = self._monotonic()
        if now >= self._not_before.get(consumer, now):
            self._not_before[consumer] = now + _AGAIN_S
            act()

    def _is_open(self, found: Preparation) -> bool:
        """Tells whether a process has a device open, as the last look saw it; the preparation then never expires."""
        seen = self._facts.seen
        if seen is None:
            return True
        users = _users(seen)
        if not any(_uses(handle, found.consumer, users) for handle in found.handles):
            return False
        if found.expires is not None:
            self._preparations.keeper.lasts(found.consumer)
        return True

    def _expired(self, found: Preparation) -> None:
        if self._is_used_now(found):
            self._preparations.keeper.lasts(found.consumer)
        elif found.state is State.PREPARED:
            LOG.warning("%s: no virtual machine has used it in time: it is released", found.consumer)
            self._preparations.release(found.consumer, _TRY_S)

    def _is_used_now(self, found: Preparation) -> bool:
        """Looks whether a process has a device open; what cannot be seen counts as that."""
        try:
            return self._preparations.keeper.preparer.is_used(found)
        except LookFailed as error:
            LOG.warning("%s is kept: %s", found.consumer, error)
            return True


def _users(seen: Seen) -> dict[str, tuple[User, ...]]:
    found = {device.address: device.users for device in seen.devices}
    for device in seen.devices:
        users = dict(device.vf_users)
        found |= {vf.address: users.get(vf.index, ()) for vf in device.vfs}
    return found


def _uses(handle: Handle, consumer: str, users: Mapping[str, tuple[User, ...]]) -> bool:
    """Tells whether a process has it open; of others' parts of the same function only the consumer's own counts."""
    found = users.get(handle.function, ())
    return bool(found) if isinstance(handle, PciHandle) else any(user.instance == consumer for user in found)
