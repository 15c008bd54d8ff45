# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Keeps the book of the devices' health: one at a time writes in it, and the file in the state directory follows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from devagent.discovery import Discovery
from devagent.inventory import condition, operators
from devagent.model.device import Device
from devagent.model.health import Book, Kept, Override
from devagent.model.occurrence import Occurrence
from devagent.service.settings import Settings
from devagent.sources import condition_file


class HealthBook:
    """The conditions of all devices; what the file holds from before is taken up with the first look."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._kept = condition_file.load(str(settings().state_path))
        self._saved = self._kept
        self._resumed = False
        self.problem: str | None = None

    @property
    def current(self) -> Book:
        """The book as it is now."""
        return self._kept.book

    @property
    def log_position(self) -> int | None:
        """How far the kernel log was read, in this boot."""
        return self._kept.log_position

    def follow(
        self,
        found: Discovery,
        occurrences: Iterable[Occurrence],
        now: float,
        *,
        checked: Collection[str] | None,
        log_position: int | None = None,
    ) -> None:
        """Takes a look and what happened before it; `checked` are the devices of which it counts as a clean check.

        `log_position` is how far the kernel's log was read for it: kept with what came of that, so that a crash
        neither loses an XID nor counts one twice.
        """
        with self._lock:
            if not self._resumed:
                self._kept, self._resumed = condition.resume(self._kept, found.host.boot_id), True
            complete = found.complete and not found.unknown
            book = condition.follow(
                found.devices, self.current, occurrences, now, self._rules(), checked=checked, complete=complete
            )
            position = self.log_position if log_position is None else log_position
            self._keep(replace(self._kept, book=book, log_position=position))

    def override(self, device: Device, said: Override, now: float) -> None:
        """Notes an operator's word."""
        self.withhold(device.key, said, now)

    def withhold(self, name: str, said: Override, now: float) -> None:
        """Notes an operator's word about what the book calls `name`, also if it is not there now. Raises KeyError."""
        with self._lock:
            self._keep(replace(self._kept, book=operators.override(self.current, name, said, now)))

    def clear(self, device: Device, by: str, now: float) -> None:
        """Takes an operator's word back, and forgets what is not to be seen any more."""
        with self._lock:
            self._keep(replace(self._kept, book=operators.clear(self.current, device.key, by, now)))

    def _rules(self) -> condition.Rules:
        settings = self._settings()
        return condition.Rules(settings.clean_checks, settings.flap_limit, settings.flap_window, settings.xids)

    def _keep(self, kept: Kept) -> None:
        self._kept = kept
        if kept == self._saved:
            return
        # What could not be saved is tried again with the next look, though nothing changes until then.
        path = self._settings().state_path
        if condition_file.save(str(path), kept):
            self._saved, self.problem = kept, None
        else:
            self.problem = f"{path} cannot be written: after a restart, health is judged anew, without what was set"
