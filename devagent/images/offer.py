# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""An image that a directory or Glance has, before it is here: how big it is, and how to tell that it is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

LARGEST: Final = 1 << 30
"""Bytes that an image has at most; XRT's driver takes no larger one either."""
CHUNK: Final = 1 << 20

Open = Callable[[], AbstractContextManager[Iterator[bytes]]]


@dataclass(frozen=True, slots=True)
class Offer:
    """One image at its origin, which is named in words.

    `checksum` is in hex, by `algorithm` as hashlib calls it; `size` is in bytes. `signature` is detached, and over
    the sha256. `glance_id` is its UUID if it is Glance's. `open` begins to read it, and may raise NoImage as may
    whatever is read.
    """

    origin: str
    algorithm: str
    checksum: str
    size: int
    signature: bytes | None
    open: Open
    glance_id: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What is the same for the same bytes."""
        return self.algorithm, self.checksum
