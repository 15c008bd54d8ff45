# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What becomes of devices whose consumer is forgotten: nobody gets them until an operator has looked after them.

They may have what their last guest left, or be half changed. So they are unhealthy by that operator's word, which also
waits for those that are not there now, as long as their health is remembered (30 days).
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from devagent.inventory.build import provider_uuid
from devagent.model.device import Device
from devagent.model.health import Override, State
from devagent.model.preparation import Preparation
from devagent.service.facts import Facts
from devagent.service.health_book import HealthBook

LOG = logging.getLogger(__name__)

_LONGEST: Final = 255
"""As much as an operator may say of a device's health."""


class Forgetting:
    """One operator's word, said `by` whom; with `offer` the devices are offered as they are."""

    def __init__(self, facts: Facts, book: HealthBook, reason: str, by: str, *, offer: bool) -> None:
        self._facts, self._book, self._offer = facts, book, offer
        self._reason, self._by = reason, by

    def devices(self, preparation: Preparation) -> list[dict[str, Any]]:
        """Withholds what a preparation has, logs who ended it, and gives the devices as the API's answer has them."""
        had: dict[str, list[str]] = {}
        for handle in preparation.plan.handles:
            had.setdefault(handle.provider, []).append(handle.function)
        found = [self._device(preparation, provider, functions) for provider, functions in had.items()]
        LOG.warning(
            "%s is forgotten, by %s: %s; it was %s%s; %s",
            preparation.consumer, self._by, self._reason, preparation.state,
            f" ({preparation.error.reason})" if preparation.error else "",
            "; ".join(map(_said, found)),
        )  # fmt: skip
        return found

    def _device(self, preparation: Preparation, provider: str, functions: list[str]) -> dict[str, Any]:
        device = self._found(provider, functions)
        name = device.key if device is not None else self._remembered(provider)
        withheld = name is not None and name in self._book.current and not self._offer
        if name is not None and withheld:
            reason = f"{self._reason} (forgotten: {preparation.consumer})"[:_LONGEST]
            self._book.withhold(name, Override(State.UNHEALTHY, reason, self._by), time.time())
        address = device.address if device is not None else None
        return {"provider": provider, "functions": functions, "address": address, "withheld": withheld}

    def _found(self, provider: str, functions: list[str]) -> Device | None:
        """Gives the device of a provider; without that in Placement, the one at the address of one of `functions`."""
        reported, seen = self._facts.reported, self._facts.seen
        for device in seen.devices if seen is not None else ():
            if reported.root is not None and provider in reported.listed:
                if provider_uuid(reported.root, device.key) == provider:
                    return device
            elif not set(functions).isdisjoint(device.addresses):
                return device
        return None

    def _remembered(self, provider: str) -> str | None:
        """Gives what the book calls a device that is not there now."""
        root = self._facts.reported.root
        names = self._book.current if root is not None else ()
        return next((name for name in names if provider_uuid(str(root), name) == provider), None)


def _said(found: dict[str, Any]) -> str:
    had = ", ".join(found["functions"])
    if found["withheld"]:
        return f"{had} is withheld: {found['address'] or 'not there now'} is unhealthy until that is cleared"
    return f"{had} is not withheld"
