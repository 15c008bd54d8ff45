# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A captured host in a tar archive, read into memory: nothing is unpacked, so nothing can escape."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Union, cast

from devagent.errors import RootError, Unreadable
from devagent.sources.host import FILE_LIMIT, LINK, Tree

SUFFIXES: Final = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
# A capture of 4,096 functions has some 10^5 members of 4 KiB at most; more is no capture.
_MEMBERS: Final = 2_000_000
_BYTES: Final = 1 << 30
# The stream has headers and padding besides, and the rest of files that are longer than what is read of one.
_STREAM: Final = _BYTES + (_BYTES >> 2)
_READ: Final = FILE_LIMIT + (1 << 20)

_OPENERS: Final[dict[bytes, Callable[[Path], Any]]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
MAX_LINKS: Final = 40  # as the kernel counts for one path


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link, its target as it is written."""

    target: str


Folder = dict[str, Union[bytes, Link, "Folder"]]
"""A directory: what stands in it by name, files as their bytes."""

Entry = bytes | Link | Folder


class Archive(Tree):
    """A directory in an archive; `parents` are those above it, the archive's root first, itself last."""

    def __init__(self, parents: list[Folder]) -> None:
        self._parents = parents

    def close(self) -> None:
        """Holds nothing that must be given back."""

    def below(self, path: str) -> Archive:
        """Opens the directory `path`. Raises Unreadable if it is none."""
        parents = self._resolve(path)[0]
        if not parents:
            raise Unreadable(path, "is not a directory")
        return Archive(parents)

    def link(self, path: str) -> str | None:
        """Gives a symbolic link's target as it is written; None if it is absent or no link. Raises Unreadable."""
        entry = self._resolve(path, follow=False)[1]
        return entry.target if isinstance(entry, Link) else None

    def has(self, path: str) -> bool:
        """Tells whether `path` exists, a dangling link included."""
        try:
            return self._resolve(path, follow=False)[1] is not None
        except Unreadable:
            return False

    def _list(self, path: str) -> list[str]:
        entry = self._resolve(path)[1]
        return list(entry) if isinstance(entry, dict) else []

    def _read(self, path: str, limit: int, *, whole: bool = False, offset: int = 0) -> bytes | None:  # noqa: ARG002 - never in pieces
        entry = self._resolve(path, follow=False)[1]
        if isinstance(entry, dict):
            raise Unreadable(path, "is a directory")
        if isinstance(entry, Link):
            raise Unreadable(path, LINK)
        return None if entry is None else entry[offset : offset + limit + 1]

    def _resolve(self, path: str, *, follow: bool = True) -> tuple[list[Folder], Entry | None]:
        """Walks `path` through links as the kernel does; no link leads above the archive's root.

        Gives the chain of directories if it ends in one, else an empty one; and what stands there, None
        for nothing. Raises Unreadable for links in a loop.
        """
        parents, steps, links = list(self._parents), path.split("/")[::-1], 0
        while steps:
            step = steps.pop()
            if step == "..":
                del parents[max(1, len(parents) - 1) :]
                continue
            if step in ("", "."):
                continue
            entry = parents[-1].get(step)
            if isinstance(entry, dict):
                parents.append(entry)
            elif isinstance(entry, Link) and (steps or follow):
                links += 1
                if links > MAX_LINKS:
                    raise Unreadable(path, LINK)
                if entry.target.startswith("/"):
                    del parents[1:]
                steps += entry.target.split("/")[::-1]
            else:
                return [], None if steps else entry
        return parents, parents[-1]


def read_archive(path: Path) -> Archive:
    """Reads a tar archive, compressed or not: its directories, files and symbolic links; the rest is left out.

    Raises RootError if it is none, is damaged, or is larger than any capture.
    """
    try:
        with closing(_opened(path)) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            return Archive([_read(tar, path)])
    except _TooLarge:
        limit = f"{_MEMBERS} files, {_BYTES >> 30} GiB at most"
        raise RootError(f"{path}: too large for a capture ({limit})") from None
    except _DAMAGED as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise RootError(f"{path}: cannot be read as an archive ({', '.join(SUFFIXES)}): {reason}") from None


# A chain of headers, each for the one behind it, nests tarfile as deep; it takes sizes as they are written.
_DAMAGED: Final = (
    *(tarfile.TarError, lzma.LZMAError, zlib.error, OSError, EOFError),
    *(ValueError, OverflowError, RecursionError, MemoryError),
)


class _TooLarge(Exception):
    """More than any capture has."""


class _Stream:
    """The archive as it was before compression: at most so far, and at most so much at once."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.tell = stream.tell
        self.close = stream.close

    def read(self, size: int) -> bytes:
        if size > _READ:
            raise _TooLarge
        data = self._stream.read(size)
        if self._stream.tell() > _STREAM:
            raise _TooLarge
        return data

    def seek(self, position: int) -> int:
        if position > _STREAM:
            raise _TooLarge
        return self._stream.seek(position)


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        start = file.read(max(map(len, _OPENERS)))
    opener = next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), None)
    return cast("IO[bytes]", _Stream(opener(path) if opener else path.open("rb")))


def _read(tar: tarfile.TarFile, path: Path) -> Folder:
    root: Folder = {}
    size = 0
    for count, member in enumerate(tar):
        if member.size < 0:
            raise RootError(f"{path}: is damaged: {member.name!r} has a negative size")
        size += min(member.size, FILE_LIMIT)
        if count > _MEMBERS or size > _BYTES:
            raise _TooLarge
        _add(root, tar, member)
    _check_end(tar, path)
    return root


def _check_end(tar: tarfile.TarFile, path: Path) -> None:
    """Makes sure that the archive is whole: it ends with a block of zeros, and its checksum holds.

    tarfile takes any end for the end. Reading on to the last byte lets the decompressor compare its checksum.
    """
    stream = cast("IO[bytes]", tar.fileobj)
    stream.seek(tar.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise RootError(f"{path}: is cut off: the end of the archive is missing")
    while stream.read(1 << 20):
        pass


def _add(root: Folder, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        return
    folder = root
    for part in parts if member.isdir() else parts[:-1]:
        child = folder.setdefault(part, {})
        if not isinstance(child, dict):
            return
        folder = child
    if member.issym():
        folder.setdefault(parts[-1], Link(member.linkname))
    elif member.isfile() and (content := tar.extractfile(member)) is not None:
        # One byte more than is ever read: what is longer stays recognisable as such.
        folder.setdefault(parts[-1], content.read(FILE_LIMIT + 1))
