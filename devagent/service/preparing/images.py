# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The images of FPGAs as preparing needs them: those that a request names, and those by which the policy wipes.

What a preparation in the journal may still need, to be undone or released, and what the policy wipes with never leaves
the cache, so that neither a restart nor Glance's absence is in the way of a release.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from devagent.errors import NotPrepared
from devagent.images import glance, library
from devagent.images.cache import Cache
from devagent.images.index import Index
from devagent.images.library import Image, Library, Sources, Told
from devagent.images.refused import NoImage
from devagent.model.policy import Policy
from devagent.prepare.entry import Entry
from devagent.prepare.executor import Request
from devagent.prepare.images import NAME
from devagent.prepare.treatments import SHA256
from devagent.prepare.view import Bitstream
from devagent.service.settings import Settings

LOG = logging.getLogger(__name__)

FOLDER: Final = "images"
_INDEX: Final = "images.json"
_DIGEST: Final = "digest"
_AGAIN_S: Final = 30.0
_KEEP_S: Final = 60.0
_LACKING: Final = "put it there, and its .sha256 beside it; until then FPGAs that are wiped with it are not given"
_LOST: Final = "somebody has it in an FPGA, and it is lost here; it is tried again"


def sources(settings: Settings) -> Sources:
    """Gives where images come from. Raises ConfigurationError if [images] or [glance] is wrong."""
    return library.sources(settings.images_directory, glance.from_conf(settings.conf), settings.images_key)


class Images:
    """Serves any number of threads; `entries` gives the journal's, and raises NotPrepared while there is none."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        entries: Callable[[], Iterable[Entry]],
        connect: Callable[[Settings], Sources] = sources,
    ) -> None:
        self._settings, self._entries, self._connect = settings, entries, connect
        state_path: Path = settings().state_path
        self._cache = Cache(state_path / FOLDER, self.needed, lambda: settings().images_cache_size)
        self._library = Library(self._cache, Index(state_path / _INDEX), self._in_force)
        self._lock = threading.Lock()
        self._sources: tuple[Settings, Sources] | None = None
        self._kept: tuple[Settings | None, frozenset[str]] = (None, frozenset())
        self._problems: dict[str, str] = {}
        self._next = 0.0

    @contextmanager
    def named_in(
        self, request: Request, until: float, cancelled: threading.Event, told: Told
    ) -> Iterator[dict[str, Bitstream]]:
        """Gives the images that a request names, fetched by `until` (time.monotonic). Raises NoImage."""
        names = {group.properties[NAME] for group in request.groups if NAME in group.properties}
        with self._library.holding(names, until, cancelled, told) as images:
            yield {name: _bitstream(image) for name, image in images.items()}

    def at_hand(self, digests: Iterable[str], until: float) -> dict[str, Bitstream]:
        """Gives those of `digests` that are here or can be by `until`, by names that no consumer can ask for."""
        found = {}
        for digest in sorted(set(digests)):
            try:
                found[SHA256 + digest] = _bitstream(self._library.keep(digest, until))
            except NoImage as error:
                LOG.warning("an image is not here that wipes FPGAs: %s", error)
        return found

    def turn(self, entries: Iterable[Entry]) -> str | None:
        """Keeps here what the policy and the journal's `entries` need; gives what is lacking, and what to do."""
        settings, now = self._settings(), time.monotonic()
        needed = _needed(entries, settings.policy)
        again = self._kept[0] is not settings or (self._problems and now >= self._next)
        found = self._keep(needed if again else needed - self._kept[1], now + _KEEP_S)
        left = {} if again else {digest: why for digest, why in self._problems.items() if digest in needed}
        self._problems, self._kept = {**left, **found}, (settings, needed)
        if found:
            self._next = time.monotonic() + _AGAIN_S
        wiping = _blanks(settings.policy)
        said = (f"{why}: {_LACKING if digest in wiping else _LOST}" for digest, why in self._problems.items())
        return "; ".join(said) or None

    def needed(self) -> frozenset[str] | None:
        """Gives the digests of what must stay here; None while there is no journal to tell."""
        try:
            return _needed(self._entries(), self._settings().policy)
        except NotPrepared:
            return None

    def _keep(self, digests: Iterable[str], until: float) -> dict[str, str]:
        """Sees to it until `until` that images are here; gives by digest why one is not."""
        problems = {}
        for digest in sorted(digests):
            try:
                self._library.keep(digest, until)
            except NoImage as error:
                problems[digest] = str(error)
        return problems

    def _in_force(self) -> Sources:
        settings = self._settings()
        with self._lock:
            if self._sources is None or self._sources[0] is not settings:
                self._sources = settings, self._connect(settings)
            return self._sources[1]


def _needed(entries: Iterable[Entry], policy: Policy) -> frozenset[str]:
    return _blanks(policy).union(*(_digests(each) for each in entries if each.given or each.unfinished))


def _blanks(policy: Policy) -> frozenset[str]:
    found = (rule.prepare.blank for rule in policy.rules)
    return frozenset(digest.removeprefix(SHA256) for digest in found if digest is not None)


def _digests(entry: Entry) -> Iterator[str]:
    """Gives what the steps of a preparation and its release load, what was loaded before them, and what wipes."""
    steps = (*entry.preparation.plan.steps, *(entry.release.steps if entry.release is not None else ()))
    arguments = (each for step in steps for each in (step.arguments, step.undo or {}))
    found = [each.get(_DIGEST) for each in (*arguments, *entry.preparation.found.values())]
    found += [wipe["image"] for wipe in entry.preparation.plan.wipes.values()]
    for digest in found:
        if isinstance(digest, str):
            yield digest


def _bitstream(image: Image) -> Bitstream:
    return Bitstream(image.digest, image.header.interface_id, image.header.function_id)
