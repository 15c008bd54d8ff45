# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The only door to /sys and /proc: paths below one root, which may be the machine's or a capture's."""

from __future__ import annotations

import abc
import errno
import fnmatch
import os
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from devagent.cause import system_words
from devagent.errors import Unreadable

# The kernel gives an attribute at most one page; files of /proc can be longer.
ATTRIBUTE_LIMIT: Final = 4096
FILE_LIMIT: Final = 16 << 20

# The kernel allocates what a reader of /proc/sys asks for, and answers ENOMEM to one who asks for megabytes.
_PIECE: Final = 1 << 16

# In a capture an attribute could be anything: never follow a link out of the tree, never wait on a FIFO.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Excerpt = Callable[[str], str]
"""Leaves of a text what is wanted; of what is left it must leave everything."""


class Lenient:
    """An excerpt of a file into which any user may have brought any bytes, such as a mount point's.

    The file is never refused for them: what is no text stands in it as `\\xff`.
    """

    def __init__(self, excerpt: Excerpt) -> None:
        self._excerpt = excerpt

    def __call__(self, text: str) -> str:
        """Leaves of a text what is wanted."""
        return self._excerpt(text)


LINK: Final = "is a link where a file should be, or links in a loop"

_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR})


class Tree(abc.ABC):
    """A directory of the host; all paths are relative to it."""

    machine: bool = False
    """Whether it is this machine itself, so that its drivers can be asked, too."""

    @property
    def unrecorded(self) -> Tree:
        """The same tree for searching where most of what is read is nobody's business: no capture notes it."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def text(self, path: str) -> str | None:
        """Reads a sysfs attribute, stripped; None if it is absent.

        Raises Unreadable if it is there but cannot be read, is longer than a page or is not text.
        """
        return _decode(path, self._read(path, ATTRIBUTE_LIMIT), ATTRIBUTE_LIMIT)

    def file(self, path: str, excerpt: Excerpt | None = None) -> str | None:
        """Reads a file of /proc, /etc, /usr or /var, which may be longer and come in pieces; otherwise as `text`.

        `excerpt` leaves of it what is wanted, which is then all that a capture holds of it; see also `Lenient`.
        """
        data = self._read(path, FILE_LIMIT, whole=True)
        text = _decode(path, data, FILE_LIMIT, lenient=isinstance(excerpt, Lenient))
        return text if text is None or excerpt is None else excerpt(text)

    def data(self, path: str, size: int, offset: int = 0) -> bytes | None:
        """Reads `size` bytes at `offset` of a binary attribute, fewer at its end; None if it is absent.

        Raises Unreadable.
        """
        data = self._read(path, size, offset=offset)
        return data if data is None else data[:size]

    def names(self, path: str = ".", pattern: str = "*") -> list[str]:
        """Gives the sorted names in the directory `path` that fit a shell pattern; none if it is no directory.

        Raises Unreadable.
        """
        names = self._list(path)
        return sorted(names if pattern == "*" else fnmatch.filter(names, pattern))

    def stamp(self, path: str) -> int | None:  # noqa: ARG002 - only a machine changes
        """Gives a number that another file at `path` would not have; None if there is none, or nothing changes here."""
        return None

    def forget(self, path: str) -> None:  # noqa: B027 - most trees make no capture
        """Takes out of the capture, if one is being made, what was read below the directory `path`."""

    def keep(self, path: str, text: str) -> None:  # noqa: B027 - most trees make no capture
        """Puts a file into the capture, if one is being made, that is no file of the host: a library's answers."""

    def taken(self) -> object:
        """Gives what was noted for a capture since the last call, for the process that makes it; see `take`."""
        return None

    def take(self, taken: object) -> None:  # noqa: B027 - as above
        """Adds what a child process noted for the capture."""

    @abc.abstractmethod
    def below(self, path: str) -> Tree:
        """Opens the directory `path`. Raises Unreadable if it is none."""

    @abc.abstractmethod
    def link(self, path: str) -> str | None:
        """Gives a symbolic link's target as it is written; None if it is absent or no link. Raises Unreadable."""

    @abc.abstractmethod
    def has(self, path: str) -> bool:
        """Tells whether `path` exists, a dangling link included."""

    @abc.abstractmethod
    def close(self) -> None:
        """Gives back what it holds."""

    @abc.abstractmethod
    def _list(self, path: str) -> list[str]:
        """Gives the names in the directory `path`, in any order; none if it is no directory. Raises Unreadable."""

    @abc.abstractmethod
    def _read(self, path: str, limit: int, *, whole: bool = False, offset: int = 0) -> bytes | None:
        """Gives a file's bytes, one more than `limit` at most; None if it is absent. Raises Unreadable."""


class Directory(Tree):
    """A directory of this machine: its root, or that of an unpacked capture.

    Descriptors instead of joined paths: one open, one read and one close per file is what the scan of
    thousands of functions costs, and nothing else.
    """

    def __init__(self, path: str | os.PathLike[str], *, dir_fd: int | None = None, machine: bool = False) -> None:
        self.machine = machine
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
        except OSError as error:
            raise Unreadable(os.fspath(path), _reason(error)) from None

    def close(self) -> None:
        """Closes the descriptor."""
        os.close(self._fd)

    def below(self, path: str) -> Directory:
        """Opens the directory `path`. Raises Unreadable if it is none."""
        return Directory(path, dir_fd=self._fd, machine=self.machine)

    def link(self, path: str) -> str | None:
        """Gives a symbolic link's target as it is written; None if it is absent or no link. Raises Unreadable."""
        try:
            return os.readlink(path, dir_fd=self._fd)
        except OSError as error:
            if error.errno in _ABSENT or error.errno == errno.EINVAL:
                return None
            raise Unreadable(path, _reason(error)) from None

    def has(self, path: str) -> bool:
        """Tells whether `path` exists, a dangling link included."""
        try:
            os.lstat(path, dir_fd=self._fd)
        except OSError:
            return False
        return True

    def stamp(self, path: str) -> int | None:
        """Gives a number that another file at `path` would not have; None if there is none."""
        try:
            return os.stat(path, dir_fd=self._fd).st_ino
        except OSError:
            return None

    def _list(self, path: str) -> list[str]:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._fd)
            try:
                return os.listdir(fd)
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno in _ABSENT:
                return []
            raise Unreadable(path, _reason(error)) from None

    def _read(self, path: str, limit: int, *, whole: bool = False, offset: int = 0) -> bytes | None:
        try:
            fd = os.open(path, _READ, dir_fd=self._fd)
            try:
                if offset:
                    return os.pread(fd, limit, offset)
                data = os.read(fd, min(limit + 1, _PIECE))
                while whole and len(data) <= limit and (more := os.read(fd, _PIECE)):
                    data += more
            finally:
                os.close(fd)
        except OSError as error:
            # Some attributes exist and answer ENOENT when read, such as compat_id of a DFL base region.
            if error.errno in _ABSENT:
                return None
            raise Unreadable(path, _reason(error)) from None
        return data


def _decode(path: str, data: bytes | None, limit: int, *, lenient: bool = False) -> str | None:
    if data is None:
        return None
    if len(data) > limit:
        raise Unreadable(path, f"is longer than {limit} bytes")
    # Tools that capture a host leave a page of NULs where the kernel would not let them read.
    data = data.rstrip(b"\0")
    if lenient:
        return data.decode(errors="backslashreplace").replace("\0", r"\x00").strip()
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        raise Unreadable(path, "is not text") from None
    if "\0" in text:
        raise Unreadable(path, "is not text")
    return text


def _reason(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return LINK
    return system_words(error)
