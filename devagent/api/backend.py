# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the API needs of the agent; the service implements it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

Document = dict[str, Any]
"""What is sent as JSON: dicts, lists, texts, numbers and None."""


class Backend(Protocol):
    """The agent, as the API sees it. Every method may be called from several threads at once.

    A `target` is a device's id or PCI address, in lower case. Methods raise errors.NoSuchDevice for one that is not
    there, errors.NotReady while the agent cannot know (503, ask again), another DevagentError for what failed (500).
    """

    def devices(self) -> Document:
        """Gives what the last look found: schemas/discover.schema.json."""
        ...

    def providers(self) -> Document:
        """Gives the wanted provider tree and what differs from it: schemas/providers.schema.json."""
        ...

    def status(self) -> Document:
        """Gives how the agent is: schemas/status.schema.json."""
        ...

    def health(self) -> Document:
        """Gives how each device is: schemas/health.schema.json."""
        ...

    def set_health(self, target: str, state: str, reason: str, expires_in: int | None, by: str) -> Document:
        """Overrides a device's health for `expires_in` seconds, or until it is cleared; gives its entry of health()."""
        ...

    def clear_health(self, target: str, by: str) -> Document:
        """Ends an override, if there is one; gives the device's entry of health()."""
        ...

    def rescan(self, wait_s: float) -> Document:
        """Asks for a full look, and waits that many seconds for it.

        Gives `done` and, if that was enough, how many `devices` there are and the `problems` as in devices().
        """
        ...

    def prepare(self, consumer: str, body: Document, wait_s: float) -> tuple[Document, int]:
        """Makes the devices of a consumer ready, whose UUID is in lower case.

        `body` is schemas/preparations.schema.json#request, the answer #preparation with 200, or 202 if `wait_s` seconds
        were not enough. Raises errors.NotPrepared, errors.PreparedOtherwise.
        """
        ...

    def unprepare(self, consumer: str, wait_s: float) -> tuple[Document | None, int]:
        """Makes sure that a consumer has no device: nothing and 204, or what is left after `wait_s` seconds and 202.

        Raises errors.NotPrepared.
        """
        ...

    def forget(self, consumer: str, reason: str, offer: bool, by: str) -> Document:
        """Ends what cannot be released; what it had is unhealthy from then on, unless it is to be `offer`ed as it is.

        Raises errors.NoSuchPreparation, errors.NotPrepared.
        """
        ...

    def preparation(self, consumer: str) -> Document:
        """Gives the devices of one consumer. Raises errors.NoSuchPreparation, errors.NotPrepared."""
        ...

    def preparations(self) -> Document:
        """Gives all of them: schemas/preparations.schema.json. Raises errors.NotPrepared."""
        ...

    def hint(self, events: Mapping[str, str]) -> int:
        """Has consumers looked for in Placement soon; gives how many of them have something prepared here.

        `events` says by consumer, whose UUID is in lower case, what has happened. Raises errors.NotPrepared.
        """
        ...

    def checks(self) -> Sequence[tuple[str, bool, str | None]]:
        """Gives what decides whether the agent works: the name of each check, whether it is well, and why not."""
        ...

    def metrics(self) -> bytes:
        """Gives the measurements in the text format of Prometheus."""
        ...
