# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The file below the journal: SQLite, opened by one process alone, each transaction durable when it returns.

    journal.db                          the rows; in each table the last column is a sum over the others
    journal.db-wal                      what SQLite has not moved into it yet; it has sums of its own
    journal.db.untrusted                there while it cannot be told who held what: the reason, in words
    journal.db.damaged-1763712000       what was set aside, for whoever wants to read it (and -wal with it)

Write-ahead log and synchronous=FULL: a commit that has returned survives the loss of power (sqlite.org/wal.html).
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from devagent.cause import system_words
from devagent.errors import DevagentError, JournalError

LOG = logging.getLogger(__name__)

Value = str | int | float | None

_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_MEANINGS: Final = {
    sqlite3.SQLITE_BUSY: "another devagent has it open; only one may",
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_READONLY: "it or its directory is read-only for this user",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: look at the directory, its rights, and the disk",
    sqlite3.SQLITE_IOERR: "reading or writing failed: look at the disk and the kernel log",
}


class Taken(DevagentError):
    """A row with that key is there already."""


class _Damaged(Exception):
    """What is in the file is not what was written."""


class Database:
    """Tables that survive a crash. `migrations` are SQL scripts, each from one version of the tables to the next.

    Raises JournalError if the file is in use, cannot be written, or was written by a newer devagent. A
    damaged file is set aside with a warning and an empty one takes its place, not `trusted` from then
    on, also after restarts, until somebody removes the file that says so.
    """

    def __init__(self, path: Path, migrations: Sequence[str]) -> None:
        self.path = path
        self._migrations = migrations
        self._mark = path.with_name(f"{path.name}.untrusted")
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._connection = self._open_or_replace()
        except OSError as error:
            raise JournalError(path, f"cannot be opened: {system_words(error)}") from error

    @property
    def trusted(self) -> bool:
        """Whether all that was ever written is here."""
        return self.mistrusted_since is None

    @property
    def mistrusted_since(self) -> float | None:
        """When a damaged file was set aside (epoch seconds), if nobody has ended the mistrust."""
        try:
            return self._mark.stat().st_mtime
        except FileNotFoundError:
            return None

    def rows(self, query: str, *parameters: Value) -> list[tuple[Any, ...]]:
        """Gives the rows of a query. Raises JournalError."""
        with self._lock, self._explained():
            return self._connection.execute(query, parameters).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Has all that is done within it durable at its end, or none of it. Raises JournalError."""
        with self._lock, self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield Transaction(self._connection)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Closes the file, with everything moved into it."""
        with self._lock, suppress(sqlite3.Error):
            self._connection.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise JournalError(self.path, _explain(error)) from error

    def _open_or_replace(self) -> sqlite3.Connection:
        try:
            return self._open()
        except _Damaged as damage:
            self._set_aside(damage)
        with self._explained():
            return self._open()

    def _open(self) -> sqlite3.Connection:
        try:
            # What waits for a lock here waits in vain: the other agent keeps it for as long as it runs.
            connection = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise JournalError(self.path, _explain(error)) from error
        try:
            self._set_up(connection)
        except BaseException as error:
            connection.close()
            if isinstance(error, sqlite3.Error):
                if _code(error) in _DAMAGED:
                    raise _Damaged(str(error)) from error
                raise JournalError(self.path, _explain(error)) from error
            raise
        return connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        newest = len(self._migrations)
        if version > newest:
            known = f"this devagent knows versions up to {newest}"
            raise JournalError(self.path, f"is of version {version}, {known}: start the newer devagent that wrote it")
        problem = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if problem != "ok":
            raise _Damaged(problem)
        for number, script in enumerate(self._migrations[version:], version + 1):
            connection.executescript(f"BEGIN IMMEDIATE;\n{script};\nPRAGMA user_version = {number};\nCOMMIT;")
        # SQLite itself would not see that a letter of a text has changed.
        for (table,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            for row in connection.execute(f"SELECT * FROM {table}"):  # noqa: S608 - a name of the schema's
                if _sum(row[:-1]) != row[-1]:
                    raise _Damaged(f"a row of {table} does not match its sum")

    def _set_aside(self, damage: _Damaged) -> None:
        aside = f"{self.path.name}.damaged-{int(time.time())}"
        # First of all: whatever interrupts us, the next start knows that something is missing.
        self._mark.write_text(f"{damage}; set aside as {aside}\n")
        _sync(self._mark)
        _sync(self.path.parent)
        for suffix in ("-wal", ""):
            with suppress(FileNotFoundError):
                self.path.with_name(f"{self.path.name}{suffix}").replace(self.path.with_name(f"{aside}{suffix}"))
        LOG.error(
            "%s is damaged (%s): set aside as %s. Devices that are not provably free are refused from now on; "
            "make sure that no virtual machine has a device that `devagent preparations` does not show, "
            "then remove %s",
            self.path, damage, aside, self._mark,
        )  # fmt: skip


class Transaction:
    """What can be changed within one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, query: str, *parameters: Value) -> list[tuple[Any, ...]]:
        """Gives the rows of a query, with what was changed so far."""
        return self._connection.execute(query, parameters).fetchall()

    def put(self, table: str, *values: Value) -> None:
        """Writes a row, in place of the one with its key if there is one."""
        self._write("INSERT OR REPLACE", table, values)

    def add(self, table: str, *values: Value) -> None:
        """Writes a new row. Raises Taken if there is one with its key."""
        try:
            self._write("INSERT", table, values)
        except sqlite3.IntegrityError as error:
            raise Taken(f"{table}: {error}") from error

    def delete(self, table: str, condition: str, *parameters: Value) -> None:
        """Removes the rows for which the condition holds."""
        self._connection.execute(f"DELETE FROM {table} WHERE {condition}", parameters)  # noqa: S608 - ours, not a caller's

    def _write(self, how: str, table: str, values: Sequence[Value]) -> None:
        marks = ", ".join("?" * (len(values) + 1))
        self._connection.execute(f"{how} INTO {table} VALUES ({marks})", (*values, _sum(values)))


def _sum(values: Sequence[Value]) -> int:
    return zlib.crc32(repr(tuple(values)).encode())


def _code(error: sqlite3.Error) -> int:
    """Gives the primary result code; the extended ones say more in the bits above (sqlite.org/rescode.html)."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _explain(error: sqlite3.Error) -> str:
    meaning = _MEANINGS.get(_code(error))
    if _code(error) in _DAMAGED:
        meaning = "it is damaged: restart the agent, which sets it aside"
    return f"{meaning} ({error})" if meaning else str(error)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
