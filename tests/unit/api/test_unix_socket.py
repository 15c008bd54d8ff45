# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The socket in the file system: whose it is, who may connect, and since when."""

from __future__ import annotations

import grp
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devagent.api.caller import of_connection
from devagent.api.unix_socket import UnixSocket
from devagent.errors import ConfigurationError, ListenError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
OTHER_GROUP = grp.getgrall()[-1]


@contextmanager
def listening(path: Path, group: str | None = None) -> Iterator[UnixSocket]:
    unix_socket = UnixSocket(path, group)
    unix_socket.socket.listen()
    try:
        yield unix_socket
    finally:
        unix_socket.remove()
        unix_socket.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_for_its_user_and_group_alone(path: Path) -> None:
    with listening(path):
        assert mode(path) == 0o660
    assert not path.exists()


@as_root
def test_the_group_is_the_configured_one(path: Path) -> None:
    with listening(path, OTHER_GROUP.gr_name) as unix_socket:
        assert path.stat().st_gid == unix_socket.gid == OTHER_GROUP.gr_gid


@as_root
def test_there_is_no_moment_in_which_others_may_connect(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    chown = os.chown

    def watched(target: Path, *owner: int) -> None:
        seen.append(mode(path))
        chown(target, *owner)

    monkeypatch.setattr(os, "chown", watched)
    before = os.umask(0)
    try:
        with listening(path, OTHER_GROUP.gr_name):
            seen.append(mode(path))
    finally:
        os.umask(before)
    assert seen == [0o600, 0o660]


def test_a_group_that_is_not_there_is_named(path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"unix_socket_group: this host has no group nobodys"):
        UnixSocket(path, "nobodys")


def test_the_directory_is_made(path: Path) -> None:
    with listening(path.parent / "run" / "devagent.sock"):
        assert mode(path.parent / "run") & 0o755 == 0o755


def test_what_a_dead_agent_left_is_replaced(path: Path) -> None:
    script = f"""
import os, pathlib
from devagent.api.unix_socket import UnixSocket
unix_socket = UnixSocket(pathlib.Path({str(path)!r}))
unix_socket.socket.listen()
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    assert path.is_socket()
    with listening(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_second_devagent_is_refused_and_the_first_goes_on(path: Path) -> None:
    with listening(path), socket.socket(socket.AF_UNIX) as client:
        with pytest.raises(ListenError, match=f"another devagent listens on {path}: stop it"):
            UnixSocket(path)
        client.connect(str(path))


def test_another_program_is_left_alone(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as client:
        other.bind(str(path))
        other.listen(0)
        for _ in range(2):  # at the second time its backlog is full
            with pytest.raises(ListenError, match=f"another program listens on {path}"):
                UnixSocket(path)
        client.setblocking(False)
        assert path.is_socket()


def test_a_file_that_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(ListenError, match="is no socket: remove it"):
        UnixSocket(path)
    assert path.read_text() == "precious"


def test_a_link_that_stands_in_for_the_lock_is_not_followed(path: Path) -> None:
    Path(f"{path}.lock").symlink_to(path.parent / "elsewhere")
    with pytest.raises(ListenError):
        UnixSocket(path)
    assert not (path.parent / "elsewhere").exists()


@pytest.mark.parametrize("name", ["a/b/devagent.sock", "x" * 120])
def test_a_path_where_no_socket_can_be_is_named(path: Path, name: str) -> None:
    with pytest.raises(ListenError, match=str(path.parent)):
        UnixSocket(path.parent / name)


def test_after_a_failure_the_path_is_free_again(path: Path) -> None:
    path.write_text("")
    with pytest.raises(ListenError):
        UnixSocket(path)
    path.unlink()
    with listening(path):
        assert path.is_socket()


def test_what_another_has_put_there_meanwhile_is_not_removed(path: Path) -> None:
    with listening(path):
        path.unlink()
        path.write_text("precious")
    assert path.read_text() == "precious"


def operator(path: Path, group: int, *, uid: int, gid: int, groups: list[int]) -> bool:
    """Connects as somebody else, and tells whether that is an operator."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        path.parent.chmod(0o755)
        path.chmod(0o666)
        server.listen()
        script = f"import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect({str(path)!r}); sys.stdin.read()"
        client = subprocess.Popen(
            ["/usr/bin/env", "python3", "-c", script], stdin=subprocess.PIPE, user=uid, group=gid, extra_groups=groups
        )
        try:
            connection, _ = server.accept()
            with connection:
                caller = of_connection(connection, group)
                assert (caller.uid, caller.gid, caller.pid) == (uid, gid, client.pid)
                return caller.operator
        finally:
            client.communicate()


@as_root
@pytest.mark.parametrize(
    ("group", "uid", "gid", "groups", "may"),
    [
        (4242, 1234, 1234, [], False),
        (4242, 1234, 4242, [], True),
        (4242, 1234, 1234, [1, 4242], True),
        (4242, 1234, 1234, [*range(5000, 5200), 4242], True),
        (4242, 0, 1234, [], True),
        (4242, 1234, 1234, [*range(5000, 6000)], False),
    ],
)
def test_operators_are_root_and_the_members_of_the_group(
    path: Path, group: int, uid: int, gid: int, groups: list[int], may: bool
) -> None:
    assert operator(path, group, uid=uid, gid=gid, groups=groups) is may
