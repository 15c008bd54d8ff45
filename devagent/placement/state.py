# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the reporter remembers between cycles and restarts, and the file in which it keeps it.

The file is a line of JSON about the rest, then the rest:

    {"format": "devagent placement state", "version": 1, "sha256": "...", "bytes": 5120}
    {"root": "...", "providers": {...}, ...}

It only ever saves requests. Whatever is wrong with it, the reporter reads Placement instead.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from devagent.errors import StateError
from devagent.model.provider import Inventory, Provider
from devagent.sources import state_file

LOG = logging.getLogger(__name__)

FILE: Final = "placement.state"
_FORMAT: Final = "devagent placement state"
_VERSION: Final = 1


@dataclass(slots=True)
class Contest:
    """How often in a row somebody else undid what we wrote, and until when (epoch seconds) we leave it."""

    count: int = 0
    until: float = 0.0


@dataclass(slots=True)
class Memory:
    """What Placement had when we last saw or wrote it: providers of `root` by UUID, with their generation.

    `names` are custom traits and classes known to exist; `reshape_refused` is when (epoch seconds)
    Placement last said that our role must not reshape; `full_read` when everything was last read.
    """

    root: str
    root_name: str = ""
    microversion: tuple[int, int] | None = None
    providers: dict[str, Provider] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    contests: dict[str, Contest] = field(default_factory=dict)
    reshape_refused: float = 0.0
    full_read: float = 0.0

    def recall(self, entry: Provider) -> Provider | None:
        """Gives a listed provider in full if its generation is the one that we know."""
        known = self.providers.get(entry.uuid)
        if known is None or known.generation != entry.generation:
            return None
        # Renaming and re-parenting do not move the generation: these two are the listing's.
        return replace(known, name=entry.name, parent=entry.parent)

    def remember(self, provider: Provider) -> None:
        """Keeps what was read or written, with its generation."""
        self.providers[provider.uuid] = provider
        # What a provider has exists.
        self.names.update(provider.traits, provider.inventories)

    def forget(self, uuid: str) -> None:
        """Drops what may no longer be so."""
        self.providers.pop(uuid, None)


class StateFile:
    """The file below the state directory. Reading never fails; a damaged file is set aside."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE
        self._saved: bytes | None = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the lock that keeps a second reporter of this host out.

        Raises StateError if another process holds it. Where no lock can be made (a read-only
        directory), there is no state to protect either, and it goes on without.
        """
        try:
            self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            LOG.warning("%s: no state is kept (%s): each report reads Placement anew", self.path, error.strerror)
            yield
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise StateError(f"{self.path.parent}: another devagent is reporting from here; only one may") from None
        try:
            yield
        finally:
            os.close(lock)

    def load(self) -> Memory | None:
        """Gives what is remembered, None for nothing: no file, or one that cannot be used."""
        try:
            content = state_file.read(self.path)
            return None if content is None else _decode(content)
        except OSError as error:
            LOG.warning("%s cannot be read (%s): Placement is read anew", self.path, error.strerror)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
            self._set_aside(error)
        return None

    def save(self, memory: Memory) -> None:
        """Replaces the file in one step, durably, unless it has all that already.

        What cannot be saved is a warning: it costs requests only.
        """
        data = _encode(memory)
        if data == self._saved:
            return
        try:
            state_file.replace(self.path, data)
            self._saved = data
        except OSError as error:
            LOG.warning("%s cannot be written (%s): the next report reads Placement anew", self.path, error.strerror)

    def _set_aside(self, error: Exception) -> None:
        try:
            where = f"set aside as {state_file.set_aside(self.path).name}"
        except OSError as failure:
            where = f"it cannot be set aside ({failure.strerror})"
        LOG.warning("%s is damaged (%s): %s, Placement is read anew", self.path, error, where)


def _encode(memory: Memory) -> bytes:
    body = {
        "root": memory.root,
        "root_name": memory.root_name,
        "microversion": memory.microversion,
        "providers": {uuid: _raw(provider) for uuid, provider in sorted(memory.providers.items())},
        "names": sorted(memory.names),
        "contests": {uuid: asdict(contest) for uuid, contest in memory.contests.items()},
        "reshape_refused": memory.reshape_refused,
        "full_read": memory.full_read,
    }
    data = json.dumps(body, separators=(",", ":")).encode()
    digest = hashlib.sha256(data).hexdigest()
    head = {"format": _FORMAT, "version": _VERSION, "sha256": digest, "bytes": len(data)}
    return json.dumps(head).encode() + b"\n" + data


def _decode(content: bytes) -> Memory:
    """Raises ValueError, KeyError, TypeError or AttributeError for anything that we did not write so."""
    line, _, data = content.partition(b"\n")
    head = json.loads(line)
    if head["format"] != _FORMAT or head["version"] != _VERSION:
        raise ValueError("is of another format or version")
    if head["bytes"] != len(data) or head["sha256"] != hashlib.sha256(data).hexdigest():
        raise ValueError("does not match its checksum")
    body = json.loads(data)
    major_minor = body["microversion"]
    return Memory(
        root=body["root"],
        root_name=body["root_name"],
        microversion=(int(major_minor[0]), int(major_minor[1])) if major_minor else None,
        providers={uuid: _provider(uuid, raw) for uuid, raw in body["providers"].items()},
        names=set(body["names"]),
        contests={uuid: Contest(**raw) for uuid, raw in body["contests"].items()},
        reshape_refused=float(body["reshape_refused"]),
        full_read=float(body["full_read"]),
    )


def _raw(provider: Provider) -> dict[str, Any]:
    return {
        "name": provider.name,
        "parent": provider.parent,
        "generation": provider.generation,
        "inventories": {name: asdict(inventory) for name, inventory in sorted(provider.inventories.items())},
        "traits": sorted(provider.traits),
    }


def _provider(uuid: str, raw: dict[str, Any]) -> Provider:
    inventories = {name: Inventory(**inventory) for name, inventory in raw["inventories"].items()}
    traits = frozenset(raw["traits"])
    return Provider(uuid, raw["name"], raw["parent"], inventories, traits, int(raw["generation"]))
