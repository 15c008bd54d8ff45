# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Images that an operator has put into a directory of this host, each with its checksum beside it.

    loopback.gbs
    loopback.gbs.sha256     what sha256sum loopback.gbs says:
                            5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef  loopback.gbs
    loopback.gbs.sig        what openssl dgst -sha256 -sign says, if [images] signing_key is set

Other files are no images: each must have its checksum.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from devagent.cause import system_words
from devagent.images.offer import CHUNK, LARGEST, Offer
from devagent.images.refused import NoImage, invalid, permanent, retry

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}", re.ASCII)
_SUM: Final = re.compile(r"([0-9a-f]{64}) [ *](?:.*/)?([^/\n]+)")
_SUMS: Final = ".sha256"
_SIGNATURE: Final = ".sig"
_SMALL: Final = 1 << 16


class Directory:
    """What stands in `path`; nothing outside it is ever opened, and no link in it is followed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, name: str) -> Offer | None:
        """Gives the image called `name`, None if there is none. Raises NoImage if it lacks its checksum."""
        if not _NAME.fullmatch(name) or name.endswith((_SUMS, _SIGNATURE)):
            return None
        with self._opened(name) as fd:
            if fd is None:
                return None
            size = os.fstat(fd).st_size
        checksum = self._checksum(name)
        if checksum is None:
            beside = f"sha256sum {name} > {name}{_SUMS} in its directory makes it"
            raise permanent(f"{self.path / name}: its checksum is not beside it: {beside}")
        if size > LARGEST:
            raise invalid(f"{self.path / name} has {size} bytes; an image has {LARGEST} at most")
        signature = self._small(name + _SIGNATURE)
        return Offer(str(self.path / name), "sha256", checksum, size, signature, lambda: self._read(name))

    def by_digest(self, digest: str) -> Offer | None:
        """Gives any image with that sha256, None if there is none. Raises NoImage if it cannot be told."""
        try:
            names = sorted(entry.name.removesuffix(_SUMS) for entry in os.scandir(self.path) if _is_sum(entry.name))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(self.path, error) from error
        for name in names:
            if self._checksum(name) == digest:
                found = self.find(name)
                if found is not None:
                    return found
        return None

    def listed(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Gives the names of the images, and of what would be some with a checksum. Raises NoImage if unreadable."""
        try:
            entries = sorted(entry.name for entry in os.scandir(self.path) if entry.is_file(follow_symlinks=False))
        except FileNotFoundError:
            return (), ()
        except OSError as error:
            raise _unreadable(self.path, error) from error
        names = [each for each in entries if _NAME.fullmatch(each) and not each.endswith((_SUMS, _SIGNATURE))]
        images = tuple(name for name in names if self._checksum(name) is not None)
        return images, tuple(name for name in names if name not in images)

    def _checksum(self, name: str) -> str | None:
        text = (self._small(name + _SUMS) or b"").decode(errors="replace")
        found = (_SUM.fullmatch(line) for line in text.splitlines())
        return next((line[1] for line in found if line is not None and line[2] == name), None)

    def _small(self, name: str) -> bytes | None:
        """Gives what a small file has, None if there is none."""
        with self._opened(name) as fd:
            try:
                return None if fd is None else os.read(fd, _SMALL)
            except OSError as error:
                raise _unreadable(self.path / name, error) from error

    @contextmanager
    def _read(self, name: str) -> Iterator[Iterator[bytes]]:
        with self._opened(name) as fd:
            if fd is None:
                raise retry(f"{self.path / name} is not there any more")
            yield self._chunks(self.path / name, fd)

    @staticmethod
    def _chunks(path: Path, fd: int) -> Iterator[bytes]:
        while True:
            try:
                chunk = os.read(fd, CHUNK)
            except OSError as error:
                raise _unreadable(path, error) from error
            if not chunk:
                return
            yield chunk

    @contextmanager
    def _opened(self, name: str) -> Iterator[int | None]:
        """Opens a regular file of the directory; gives None if there is none."""
        try:
            fd = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            yield None
            return
        except OSError as error:
            raise _unreadable(self.path / name, error) from error
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise permanent(f"{self.path / name} is no regular file: put the image itself there")
            yield fd
        finally:
            os.close(fd)


def _is_sum(name: str) -> bool:
    return name.endswith(_SUMS) and _NAME.fullmatch(name.removesuffix(_SUMS)) is not None


def _unreadable(path: Path, error: OSError) -> NoImage:
    return permanent(f"{path} cannot be read: {system_words(error)}")
