# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is known of Glance's images that are here: which sha256 an image has of which Glance tells another checksum.

    {"images": {"6bd7bdcd-8a5e-4ab2-9a5c-2d9b0a7be9d0":
        {"algorithm": "sha512", "checksum": "0d5e...", "sha256": "5f70...", "size": 98304, "signature": "MEUCIQ..."}}}

What is lost of it is fetched again; nothing is believed of it that the image itself does not show.
"""

from __future__ import annotations

import json
import logging
import threading
from base64 import b64decode, b64encode
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from devagent.sources import state_file

LOG = logging.getLogger(__name__)

_AT_MOST: Final = 1000


@dataclass(frozen=True, slots=True)
class Known:
    """An image of Glance's as it was when it was fetched; checksums in hex."""

    algorithm: str
    checksum: str
    sha256: str
    size: int
    signature: bytes | None


class Index:
    """The file at `path`; one that cannot be read is as good as none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known = _read(path)

    def get(self, glance_id: str) -> Known | None:
        """Gives what is known of an image by its id."""
        with self._lock:
            return self._known.get(glance_id)

    def sha256(self, algorithm: str, checksum: str) -> str | None:
        """Gives the sha256 of what has this checksum, if it was ever here."""
        if algorithm == "sha256":
            return checksum
        with self._lock:
            found = (
                each.sha256 for each in self._known.values() if (each.algorithm, each.checksum) == (algorithm, checksum)
            )
            return next(found, None)

    def ids(self, digest: str) -> tuple[str, ...]:
        """Gives the ids of the images that have this sha256."""
        with self._lock:
            return tuple(glance_id for glance_id, each in self._known.items() if each.sha256 == digest)

    def put(self, glance_id: str, known: Known) -> None:
        """Remembers an image; the oldest are forgotten."""
        with self._lock:
            if self._known.get(glance_id) == known:
                return
            self._known = {**{key: each for key, each in self._known.items() if key != glance_id}, glance_id: known}
            for oldest in list(self._known)[:-_AT_MOST]:
                del self._known[oldest]
            self._save()

    def _save(self) -> None:
        try:
            data = json.dumps({"images": {key: _raw(each) for key, each in self._known.items()}})
            state_file.replace(self._path, data.encode())
        except OSError as error:
            LOG.warning("%s cannot be written (%s): Glance is asked again after a restart", self._path, error.strerror)


def _read(path: Path) -> dict[str, Known]:
    try:
        raw = json.loads(path.read_text(encoding="ascii"))["images"]
        return {str(key): _known(each) for key, each in raw.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        LOG.warning("%s cannot be used (%s): Glance is asked for its images again", path, error)
        return {}


def _raw(known: Known) -> dict[str, Any]:
    signature = b64encode(known.signature).decode() if known.signature is not None else None
    return {**asdict(known), "signature": signature}


def _known(raw: dict[str, Any]) -> Known:
    signature = b64decode(raw["signature"]) if raw["signature"] is not None else None
    return Known(str(raw["algorithm"]), str(raw["checksum"]), str(raw["sha256"]), int(raw["size"]), signature)
