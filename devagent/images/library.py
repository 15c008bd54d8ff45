# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Gets the images that are asked for by name: from the directory, else from Glance, through the cache.

    name ── directory ── there? ──> checksum ─┐
        └── Glance: GET metadata ──> checksum ─┴─ in the cache, and whole? ──> signature? ──> its header
                                                └─ else it is downloaded, once for all who ask

Glance is asked each time, since only Glance knows whether an image was withdrawn. While nothing answers there, an image
that is here is given to who asks for it by its id: what an id stands for never changes. A name may mean another one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devagent.cause import system_words
from devagent.errors import BadBitstream
from devagent.images.cache import Cache
from devagent.images.directory import Directory
from devagent.images.download import Download
from devagent.images.glance import Glance
from devagent.images.index import Index, Known
from devagent.images.offer import Offer
from devagent.images.refused import Away, invalid, retry
from devagent.images.signature import SigningKey
from devagent.model import bitstream
from devagent.model.bitstream import Header
from devagent.model.preparation import Progress

LOG = logging.getLogger(__name__)

_TRIES: Final = 2

Told = Callable[[Progress | None], None]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where images come from by the configuration in force, and who must have signed them."""

    directory: Directory
    glance: Glance | None = None
    key: SigningKey | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is in the cache, and whole: its sha256 in hex, and what it says of itself."""

    digest: str
    header: Header


@dataclass(slots=True)
class _Flight:
    """Who looks for the same bytes now, and what brings them."""

    users: int = 0
    download: Download | None = None


class Library:
    """Any number of threads may ask; `sources` is asked each time for what is in force."""

    def __init__(self, cache: Cache, index: Index, sources: Callable[[], Sources]) -> None:
        self._cache, self._index, self._sources = cache, index, sources
        self._lock = threading.Lock()
        self._flights: dict[tuple[str, str], _Flight] = {}
        self._headers: dict[str, Header] = {}

    @contextmanager
    def holding(
        self, names: Iterable[str], until: float, cancelled: threading.Event, told: Told
    ) -> Iterator[dict[str, Image]]:
        """Gives the images with these names, by name, and keeps them here meanwhile.

        It waits for them until `until` (time.monotonic) or until it is `cancelled`; `told` hears how far it is. Raises
        NoImage.
        """
        with ExitStack() as stack:
            images = {}
            for name in sorted(set(names)):
                digest = stack.enter_context(self._held(name, until, cancelled, told))
                images[name] = self._image(digest, f"bitstream: {name!r}")
            told(None)
            yield images

    def keep(self, digest: str, until: float) -> Image:
        """Sees to it until `until` that an image is in the cache, and whole, and gives it. Raises NoImage.

        Nobody has to have signed it: who says the digest has chosen the image.
        """
        if not self._cache.has_whole(digest):
            offer = self._offer_of(digest, until)
            with self._cache.pinned(digest), self._flight(offer) as fetch:
                fetch().wait(until, threading.Event(), lambda _bytes, _total: None)
        return self._image(digest, f"the image {digest}")

    def _offer_of(self, digest: str, until: float) -> Offer:
        sources = self._sources()
        offer = sources.directory.by_digest(digest)
        if offer is not None:
            return offer
        for glance_id in self._index.ids(digest) if sources.glance is not None else ():
            found = self._find(glance_id, sources, until)
            if self._sha256(found) == digest:
                return found
        raise invalid(f"no image in {sources.directory.path} has the sha256 {digest}")

    @contextmanager
    def _held(self, name: str, until: float, cancelled: threading.Event, told: Told) -> Iterator[str]:
        offer = self._find(name, self._sources(), until)
        with ExitStack() as stack:
            with self._flight(offer) as fetch:
                digest = self._sha256(offer)
                for _ in range(_TRIES):
                    if digest is not None:
                        stack.enter_context(self._cache.pinned(digest))
                        if self._cache.has_whole(digest):
                            break
                    digest = fetch().wait(until, cancelled, lambda have, of: told(Progress(name, have, of)))
                else:
                    where = self._cache.folder
                    raise retry(f"{offer.origin} was written to {where}, and is not there as it was: look at the disk")
            self._check_signature(offer, digest)
            self._remember(offer, digest)
            yield digest

    def _find(self, name: str, sources: Sources, until: float) -> Offer:
        """Gives what there is by that name, the directory first. Raises NoImage."""
        offer = sources.directory.find(name)
        if offer is None and sources.glance is not None:
            try:
                offer = sources.glance.find(name, until - time.monotonic())
            except Away as away:
                offer = self._known(name, away)
                LOG.warning("%s; %s is taken as it was fetched", away, offer.origin)
        if offer is None:
            also = "nor in Glance" if sources.glance is not None else "and [glance] is not configured"
            raise invalid(f"bitstream: no image is called {name!r}: it is not in {sources.directory.path}, {also}")
        return offer

    def _known(self, name: str, away: Away) -> Offer:
        known = self._index.get(name)
        if known is None or not self._cache.has_whole(known.sha256):
            raise away

        def gone() -> Iterator[Iterator[bytes]]:
            raise away

        origin = f"Glance's image {name}"
        return Offer(origin, known.algorithm, known.checksum, known.size, known.signature, contextmanager(gone), name)

    def _sha256(self, offer: Offer) -> str | None:
        return self._index.sha256(offer.algorithm, offer.checksum)

    @contextmanager
    def _flight(self, offer: Offer) -> Iterator[Callable[[], Download]]:
        """Gives what fetches an image, by one download for all who are in here at the same time."""
        with self._lock:
            flight = self._flights.setdefault(offer.key, _Flight())
            flight.users += 1

        def fetch() -> Download:
            with self._lock:
                if flight.download is None or not flight.download.join():
                    flight.download = Download(offer, self._cache, lambda digest: self._remember(offer, digest))
                    flight.download.join()
                return flight.download

        try:
            yield fetch
        finally:
            with self._lock:
                flight.users -= 1
                if not flight.users:
                    del self._flights[offer.key]

    def _remember(self, offer: Offer, digest: str) -> None:
        if offer.glance_id is not None:
            known = Known(offer.algorithm, offer.checksum, digest, offer.size, offer.signature)
            self._index.put(offer.glance_id, known)

    def _check_signature(self, offer: Offer, digest: str) -> None:
        key = self._sources().key
        if key is not None:
            key.check(offer.origin, digest, offer.signature)

    def _image(self, digest: str, what: str) -> Image:
        header = self._headers.get(digest)
        if header is None:
            try:
                header = self._headers[digest] = bitstream.read(self._cache.path(digest).read_bytes())
            except BadBitstream as error:
                raise invalid(f"{what}: {error}") from None
            except OSError as error:
                raise retry(f"{what} cannot be read: {system_words(error)}") from None
        return Image(digest, header)


def sources(directory: Path, glance: Glance | None, key: Path | None) -> Sources:
    """Makes the sources. Raises ConfigurationError if the key is none."""
    return Sources(Directory(directory), glance, SigningKey(key) if key is not None else None)
