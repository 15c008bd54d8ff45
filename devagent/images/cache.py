# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The images that are here: one file each, named by its sha256, from which the privileged process programs FPGAs.

images/5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef     0644, the folder 0755
images/.new-4f3b2a91                                                        one that is on its way
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from devagent.cause import system_words
from devagent.images.refused import NoImage, permanent, retry

_DIGEST: Final = re.compile("[0-9a-f]{64}", re.ASCII)
_NEW: Final = ".new-"
_MIB: Final = 1 << 20
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)

Needed = Callable[[], frozenset[str] | None]


class Cache:
    """The folder; one process writes into it, from any number of threads.

    `needed` gives the digests that must stay, or None while that cannot be told; `limit` gives how many MiB all of
    them may have. What was used longest ago goes first.
    """

    def __init__(self, folder: Path, needed: Needed, limit: Callable[[], int]) -> None:
        self.folder = folder
        self._needed, self._limit = needed, limit
        self._lock = threading.Lock()
        self._pins: Counter[str] = Counter()
        self._coming = 0
        for left in folder.glob(f"{_NEW}*"):
            with suppress(OSError):
                left.unlink()

    def path(self, digest: str) -> Path:
        """Gives where the image with this digest is, or would be."""
        return self.folder / digest

    def has_whole(self, digest: str) -> bool:
        """Tells whether an image is here, and is what its digest says; if so it was used now. Raises NoImage."""
        try:
            with self.path(digest).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    return False
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._unusable(error) from error
        with suppress(OSError):  # somebody else's file may be read only
            os.utime(self.path(digest))
        return True

    @contextmanager
    def pinned(self, digest: str) -> Iterator[None]:
        """Keeps an image here, if it is."""
        with self._lock:
            self._pins[digest] += 1
        try:
            yield
        finally:
            with self._lock:
                self._pins[digest] -= 1
                self._pins += Counter()

    @contextmanager
    def receiving(self, size: int) -> Iterator[IO[bytes]]:
        """Makes room for `size` bytes and gives the file into which they are written, which is for `store`.

        Raises NoImage.
        """
        self._make_room(size)
        temporary = self.folder / f"{_NEW}{secrets.token_hex(4)}"
        try:
            with temporary.open("xb") as file:
                yield file
        except OSError as error:
            raise self._unusable(error) from error
        finally:
            with self._lock:
                self._coming -= size
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def store(self, file: IO[bytes], digest: str) -> None:
        """Has an image here for good, in place of one that was damaged. Raises OSError."""
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())
        Path(file.name).replace(self.path(digest))
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _make_room(self, size: int) -> None:
        """Removes what is needed least until `size` bytes more fit. Raises NoImage."""
        limit = self._limit() * _MIB
        if size > limit:
            raise permanent(f"it has {size} bytes, and all images together may have {limit}: [images] cache_size")
        with self._lock:
            # Asked within: whoever lets go of an image has it in the journal by then.
            needed = self._needed()
            try:
                self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
                files = sorted(self._files(), key=lambda each: each[1])
            except OSError as error:
                raise self._unusable(error) from error
            total = sum(each[2] for each in files) + self._coming + size
            for path, _, freed in files:
                if total <= limit:
                    break
                if needed is not None and path.name not in needed and not self._pins[path.name]:
                    path.unlink(missing_ok=True)
                    total -= freed
            if total > limit:
                reason = f"{self.folder}: the images that are in use fill it: raise [images] cache_size, or wait"
                raise retry(reason)
            self._coming += size

    def _files(self) -> Iterator[tuple[Path, int, int]]:
        """Gives of each image its path, when it was last used, and its size; somebody may be tidying up meanwhile."""
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):
                found = path.lstat()
                if _DIGEST.fullmatch(path.name) and stat.S_ISREG(found.st_mode):
                    yield path, found.st_mtime_ns, found.st_size

    def _unusable(self, error: OSError) -> NoImage:
        hint = ": free some space" if error.errno in _FULL else ""
        return retry(f"{self.folder} cannot be used: {system_words(error)}{hint}")
