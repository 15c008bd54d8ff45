# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The tables of the journal, how they came to be so, and what is asked of them."""

from __future__ import annotations

from typing import Final

MIGRATIONS: Final = (
    """
    CREATE TABLE preparations (consumer TEXT PRIMARY KEY NOT NULL, state TEXT NOT NULL, boot_id TEXT NOT NULL,
                               created REAL NOT NULL, document TEXT NOT NULL, sum INTEGER NOT NULL) STRICT;
    CREATE TABLE steps (consumer TEXT NOT NULL, releasing INTEGER NOT NULL, number INTEGER NOT NULL,
                        done INTEGER NOT NULL, found TEXT NOT NULL, sum INTEGER NOT NULL,
                        PRIMARY KEY (consumer, releasing, number)) STRICT;
    CREATE TABLE holdings (key TEXT PRIMARY KEY NOT NULL, consumer TEXT NOT NULL, parent TEXT,
                           sum INTEGER NOT NULL) STRICT;
    CREATE INDEX holdings_by_consumer ON holdings (consumer);
    CREATE TABLE released (address TEXT PRIMARY KEY NOT NULL, at REAL NOT NULL, sum INTEGER NOT NULL) STRICT;
    CREATE TABLE tombstones (consumer TEXT PRIMARY KEY NOT NULL, until REAL NOT NULL, sum INTEGER NOT NULL) STRICT
    """,
    # A tombstone was until an hour of the clock, which may be set: those few seconds or minutes end with the upgrade.
    """
    DROP TABLE tombstones;
    CREATE TABLE tombstones (consumer TEXT PRIMARY KEY NOT NULL, boot_id TEXT NOT NULL, ends REAL NOT NULL,
                             seconds REAL NOT NULL, sum INTEGER NOT NULL) STRICT
    """,
)

ENTRIES: Final = "SELECT consumer, state, boot_id, document FROM preparations WHERE {} ORDER BY consumer"
STEPS: Final = "SELECT releasing, number, done, found FROM steps WHERE consumer = ?"
SETTLED: Final = """state = 'failed' AND document LIKE '%"given":false%'
    AND consumer NOT IN (SELECT consumer FROM steps) AND consumer NOT IN (SELECT consumer FROM holdings)"""
