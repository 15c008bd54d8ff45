# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Brings one image here, for as many as want it at the same time; it ends when nobody does any more.

It is read into a file of the cache, and gets its name there only when its size and checksum are right.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from typing import IO, Final

from devagent.images.cache import Cache
from devagent.images.offer import Offer
from devagent.images.refused import Interrupted, NoImage, retry
from devagent.model.preparation import Refusal, RefusalKind

LOG = logging.getLogger(__name__)

_ATTEMPTS: Final = 3
_PAUSE_S: Final = 1.0
_LOOK_S: Final = 0.2

Told = Callable[[int, int], None]
"""Hears how many bytes are here, of how many."""


class Download:
    """One image on its way from its origin into the cache; `arrived` is told its sha256."""

    def __init__(self, offer: Offer, cache: Cache, arrived: Callable[[str], None]) -> None:
        self._offer, self._cache, self._arrived = offer, cache, arrived
        self._condition = threading.Condition()
        self._waiting = 0
        self._bytes = 0
        self._digest: str | None = None
        self._refusal: Refusal | None = None
        self._thread = threading.Thread(target=self._run, name="image", daemon=True)

    def join(self) -> bool:
        """Counts one more who wants it, who then must call `wait`; False once it has failed or is given up."""
        with self._condition:
            new = self._thread.ident is None
            if not new and (self._refusal is not None or not (self._waiting or self.ended)):
                return False
            self._waiting += 1
            if new:
                self._thread.start()
            return True

    def wait(self, until: float, cancelled: threading.Event, told: Told) -> str:
        """Waits until `until` (time.monotonic) for the end of it; gives the sha256. Raises NoImage."""
        try:
            while not self.ended:
                left = until - time.monotonic()
                if left <= 0:
                    reason = (
                        f"{self._offer.origin}: {self._bytes} of {self._offer.size} bytes are here; no time is left"
                    )
                    raise retry(reason)
                if cancelled.is_set():
                    raise retry(f"{self._offer.origin} is not wanted any more")
                with self._condition:
                    self._condition.wait_for(lambda: self.ended, min(_LOOK_S, left))
                told(self._bytes, self._offer.size)
        finally:
            with self._condition:
                self._waiting -= 1
        if self._refusal is not None:
            raise NoImage(self._refusal.kind, self._refusal.reason)
        assert self._digest is not None, "what has ended without a refusal has a digest"
        return self._digest

    @property
    def ended(self) -> bool:
        """Whether it is here, or will not be."""
        return self._digest is not None or self._refusal is not None

    def _run(self) -> None:
        digest, refusal = None, None
        try:
            digest = self._fetch()
            self._arrived(digest)
        except NoImage as error:
            refusal = error.refusal
        except Exception as error:
            LOG.exception("%s cannot be fetched", self._offer.origin)
            digest, refusal = None, Refusal(RefusalKind.RETRY, f"{self._offer.origin} cannot be fetched: {error}")
        with self._condition:
            self._digest, self._refusal = digest, refusal
            self._condition.notify_all()

    def _fetch(self) -> str:
        """Fetches it, again if that was interrupted: Glance may be restarting, or a proxy have cut it off."""
        for attempt in range(1, _ATTEMPTS if self._offer.glance_id is not None else 1):
            try:
                return self._once()
            except Interrupted as error:
                LOG.warning("%s; it is tried again", error)
                time.sleep(_PAUSE_S * attempt)
        return self._once()

    def _once(self) -> str:
        self._bytes = 0
        offer = self._offer
        with self._cache.receiving(offer.size) as file:
            digest, checksum = self._copy(file)
            if self._bytes != offer.size:
                raise Interrupted(f"{offer.origin} ended after {self._bytes} of {offer.size} bytes")
            if checksum != offer.checksum:
                reason = (
                    f"{offer.origin} is damaged: its {offer.algorithm} is {checksum}, and should be {offer.checksum}"
                )
                raise Interrupted(reason, RefusalKind.PERMANENT)
            self._cache.store(file, digest)
        LOG.info("%s is here as %s: %d bytes", offer.origin, digest, offer.size)
        return digest

    def _copy(self, file: IO[bytes]) -> tuple[str, str]:
        """Writes all of it; gives its sha256, and its checksum as the origin counts it."""
        sha256, own = hashlib.sha256(), hashlib.new(self._offer.algorithm, usedforsecurity=False)
        with self._offer.open() as chunks:
            for chunk in chunks:
                if not self._waiting:
                    raise retry(f"{self._offer.origin}: nobody waits for it any more")
                if self._bytes + len(chunk) > self._offer.size:
                    reason = f"{self._offer.origin} is longer than the {self._offer.size} bytes that it should have"
                    raise Interrupted(reason, RefusalKind.PERMANENT)
                file.write(chunk)
                sha256.update(chunk)
                own.update(chunk)
                self._bytes += len(chunk)
        return sha256.hexdigest(), own.hexdigest()
