# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Private database servers for Placement: in a folder of their own, on a Unix socket, gone with the test run.

No server of the machine is used or touched. `tools/servers` installs what is needed.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from .placement_process import processes

KINDS: Final = ("sqlite", "postgresql", "mariadb")

_NAME: Final = "devagent"  # of the user and the first part of each database's name
_START: Final = 60.0  # seconds
_RUNNING: Final = pytest.StashKey[dict[str, "Server"]]()
_PLACEMENTS: Final = pytest.StashKey[dict[str, list[str]]]()
_POSTGRESQL: Final = ("listen_addresses=", "fsync=off", "synchronous_commit=off", "full_page_writes=off")
_MARIADB: Final = ("--skip-networking", "--innodb-flush-log-at-trx-commit=0")


class Missing(Exception):
    """What a database needs is not on this machine."""


@dataclass(frozen=True)
class Server:
    """A running server; `database` makes an empty database and gives its URL for SQLAlchemy."""

    database: Callable[[], str]
    stop: Callable[[], None]


def server(config: pytest.Config, kind: str) -> Server:
    """Gives the one server of its kind in this test run, started when first asked for. Skips where it cannot be."""
    running = config.stash.setdefault(_RUNNING, {})
    if kind not in running:
        try:
            running[kind] = _STARTS[kind]()
        except Missing as missing:
            pytest.skip(str(missing))
        config.add_cleanup(running[kind].stop)
    return running[kind]


def placements(config: pytest.Config, kind: str) -> list[str]:
    """Gives the URLs of the Placement that all tests on this kind of database share: two processes, on SQLite one."""
    running = config.stash.setdefault(_PLACEMENTS, {})
    if kind not in running:
        database = server(config, kind).database()
        stack = contextlib.ExitStack()
        config.add_cleanup(stack.close)
        running[kind] = stack.enter_context(processes(database, 1 if kind == "sqlite" else 2))
    return running[kind]


def _sqlite() -> Server:
    """Gives a folder: SQLite is a file for each database."""
    top = _folder(None)
    return Server(lambda: f"sqlite:///{top}/{_unique()}.db", functools.partial(shutil.rmtree, top))


def _postgresql() -> Server:
    user = _user("postgres", "psycopg2")
    newest = max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]), default=None)
    binaries = newest.parent if newest else _binary("initdb").parent
    top = _folder(user)
    data = f"{top}/data"
    login = ("--host", str(top), "--username", _NAME)
    initdb = (str(binaries / "initdb"), "--pgdata", data, "--username", _NAME, "--auth", "trust")
    _run((*initdb, "--no-sync", "--encoding", "UTF8", "--no-locale"), user)
    settings = [part for setting in _POSTGRESQL for part in ("-c", setting)]
    process = _spawn((str(binaries / "postgres"), "-D", data, "-k", str(top), *settings), user, top)
    _until_ready(process, (str(binaries / "pg_isready"), "--quiet", *login), top)

    def database() -> str:
        name = _unique()
        _run((str(binaries / "createdb"), *login, name), None)
        return f"postgresql+psycopg2://{_NAME}@/{name}?host={top}"

    return Server(database, lambda: _stop(process, top, 2))  # SIGINT: at once, whoever is connected


def _mariadb() -> Server:
    user = _user("mysql", "pymysql")
    daemon, install = _binary("mariadbd"), _binary("mariadb-install-db")
    client, admin = _binary("mariadb"), _binary("mariadb-admin")
    top = _folder(user)
    socket = f"{top}/socket"
    options = ("--no-defaults", f"--datadir={top}/data")
    _run((str(install), *options, "--auth-root-authentication-method=normal", "--skip-test-db"), user)
    # The datadir belongs to who runs it; as root, mariadbd itself would refuse without --user.
    own = (f"--socket={socket}", f"--pid-file={top}/pid", "--skip-log-bin", *_MARIADB)
    process = _spawn((str(daemon), *options, *own), user, top)
    login = ("--no-defaults", f"--socket={socket}", "--user=root")
    _until_ready(process, (str(admin), *login, "--silent", "ping"), top)
    _run((str(client), *login, "-e", f"CREATE USER {_NAME}@localhost; GRANT ALL ON *.* TO {_NAME}@localhost"), None)

    def database() -> str:
        name = _unique()
        _run((str(client), *login, "-e", f"CREATE DATABASE {name} CHARACTER SET utf8mb4"), None)
        return f"mysql+pymysql://{_NAME}@localhost/{name}?unix_socket={socket}"

    return Server(database, lambda: _stop(process, top, 15))


def _user(name: str, driver: str) -> str | None:
    """Gives the account under which to run: neither server runs as root. Checks the Python driver too."""
    if importlib.util.find_spec(driver) is None:
        raise Missing(f"the Python module {driver} is missing: pip install -e '.[test]'")
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(name).pw_name
    except KeyError:
        raise Missing(f"there is no user {name}: run tools/servers") from None


def _binary(name: str) -> Path:
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise Missing(f"{name} is not installed: run tools/servers")
    return Path(found)


def _folder(user: str | None) -> Path:
    # Below /tmp whatever TMPDIR says: the path of a Unix socket has room for 107 bytes.
    top = Path(tempfile.mkdtemp(prefix="devagent-", dir="/tmp"))
    top.chmod(0o755)
    if user is not None:
        shutil.chown(top, user, user)
    return top


def _unique() -> str:
    return f"{_NAME}_{uuid.uuid4().hex[:12]}"


def _run(command: Sequence[str], user: str | None) -> None:
    done = subprocess.run(
        command,
        user=user,
        group=user,
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_START,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")


def _spawn(command: Sequence[str], user: str | None, top: Path) -> subprocess.Popen[bytes]:
    with (top / "log").open("wb") as log:
        # A session of its own: Ctrl-C in the terminal is for the tests, which then stop it.
        return subprocess.Popen(
            command,
            user=user,
            group=user,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _until_ready(process: subprocess.Popen[bytes], question: Sequence[str], top: Path) -> None:
    end = time.monotonic() + _START
    while subprocess.run(question, capture_output=True, timeout=_START).returncode != 0:
        if process.poll() is not None or time.monotonic() > end:
            log = (top / "log").read_text(errors="replace")
            _stop(process, top, 9)
            raise RuntimeError(f"{process.args!r} does not start: {log[-2000:]}")
        time.sleep(0.02)


def _stop(process: subprocess.Popen[bytes], top: Path, signal: int) -> None:
    process.send_signal(signal)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_START / 4)
    process.kill()
    process.wait()
    shutil.rmtree(top, ignore_errors=True)


_STARTS: Final = {"sqlite": _sqlite, "postgresql": _postgresql, "mariadb": _mariadb}
