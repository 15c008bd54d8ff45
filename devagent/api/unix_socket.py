# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Opens the unix socket of the API: one devagent per path, and never a moment in which others could connect."""

from __future__ import annotations

import fcntl
import grp
import os
import socket
import stat
from pathlib import Path
from typing import Final

from devagent.cause import system_words
from devagent.errors import ConfigurationError, ListenError

MODE: Final = 0o660
_OPTION: Final = "set [api] unix_socket in devagent.conf"


class UnixSocket:
    """The socket in the file system, bound but not listening yet, and the lock beside it that says who has it.

    `gid` is that of the group whose members may connect: the named one, else the agent's own.
    Raises ListenError, or ConfigurationError if there is no such group.
    """

    def __init__(self, path: Path, group: str | None = None) -> None:
        self.path, self.gid = path, os.getegid() if group is None else _gid(group)
        try:
            path.parent.mkdir(mode=0o755, exist_ok=True)
            self._lock = _locked(path)
        except OSError as error:
            raise ListenError(f"{path}: {system_words(error)}: make the directory, or {_OPTION}") from None
        try:
            _clear(path)
            self.socket = self._bind()
        except BaseException:
            os.close(self._lock)
            raise
        self._inode = path.stat(follow_symlinks=False).st_ino

    def _bind(self) -> socket.socket:
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # The file gets the mode that the socket has when it is bound (unix(7), "Pathname sockets").
            os.fchmod(opened.fileno(), 0o600)
            opened.bind(str(self.path))
            os.chown(self.path, -1, self.gid)
            self.path.chmod(MODE)
        except OSError as error:
            opened.close()
            raise ListenError(f"{self.path}: {system_words(error)}") from None
        return opened

    def remove(self) -> None:
        """Takes the file away, unless it is another one by now: nobody finds the socket any more."""
        try:
            if self.path.stat(follow_symlinks=False).st_ino == self._inode:
                self.path.unlink()
        except FileNotFoundError:
            pass

    def close(self) -> None:
        """Lets go of the path: the next devagent may have it."""
        self.socket.close()
        os.close(self._lock)


def _gid(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigurationError(
            f"[api] unix_socket_group: this host has no group {group}: groupadd --system {group}"
        ) from None


def _locked(path: Path) -> int:
    """Takes the lock, which the kernel gives back even if we are killed."""
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise _taken(path, "devagent") from None
    return lock


def _taken(path: Path, who: str) -> ListenError:
    return ListenError(f"another {who} listens on {path}: stop it (systemctl stop devagent), or {_OPTION}")


def _clear(path: Path) -> None:
    """Removes what a dead agent left. Raises ListenError if something lives there, or it is no socket."""
    try:
        if not stat.S_ISSOCK(path.stat(follow_symlinks=False).st_mode):
            raise ListenError(f"{path} is there and is no socket: remove it, or {_OPTION}")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:  # it lives, and has no time for us
            pass
    raise _taken(path, "program")
