# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Fills a Placement's database with clones of one host that was really reported."""

from collections.abc import Callable
from functools import partial
from typing import Any

import sqlalchemy

from bench.cloud_hosts import identity


def clone(connection: str, hosts: int, bare: int) -> list[int]:
    """Copies the one host that is there to be `hosts`, then adds `bare` compute nodes without devices.

    Gives the generations of its providers below the compute node, in the order of the tree.
    """
    engine = sqlalchemy.create_engine(connection)
    with engine.begin() as sql:
        run = partial(_run, sql)
        run("CREATE TABLE bench_hosts (h INTEGER PRIMARY KEY)")
        sql.execute(sqlalchemy.text("INSERT INTO bench_hosts VALUES (:h)"), [{"h": h} for h in range(1, hosts + bare)])
        rows = run("SELECT id, uuid, parent_provider_id, generation FROM resource_providers ORDER BY id").all()
        positions = {identity(0, position): position for position in range(len(rows))}
        ids = {row.id: rows[-1].id + positions[row.uuid] for row in rows}
        for row in rows:  # parents first, as they were made
            _clone_one(run, row, ids, positions[row.uuid], len(rows), hosts if row.parent_provider_id else hosts + bare)
        run("DROP TABLE bench_hosts")
        if engine.name == "postgresql":
            run("SELECT setval(pg_get_serial_sequence('resource_providers', 'id'), max(id)) FROM resource_providers")
    _analyze(engine)
    generation = {positions[row.uuid]: row.generation for row in rows}
    return [generation[position] for position in range(1, len(rows))]


def _clone_one(run: Callable[..., Any], row: Any, ids: dict[int, int], position: int, size: int, limit: int) -> None:
    """Copies one provider of the first host to all others, with its traits and inventories."""

    def copied(old: int) -> str:
        return f"{ids[old] + 1} + (h.h - 1) * {size}"

    def insert(table: str, own: str, values: str, columns: str, mine: str) -> None:
        run(
            f"INSERT INTO {table} (created_at, updated_at, {own}, {columns}) "  # noqa: S608 - all of it is ours
            f"SELECT old.created_at, old.updated_at, {copied(row.id)}, {values} "
            f"FROM bench_hosts h, {table} old WHERE old.{mine} = :old AND h.h < :limit",
            old=row.id,
            limit=limit,
        )

    parent = copied(row.parent_provider_id) if row.parent_provider_id else "NULL"
    name = "replace(old.name, 'compute-0', concat('compute-', h.h))"
    columns = "uuid, name, generation, root_provider_id, parent_provider_id"
    values = f"{_uuid_in_sql(position)}, {name}, old.generation, {copied(min(ids))}, {parent}"
    insert("resource_providers", "id", values, columns, "id")
    insert("resource_provider_traits", "resource_provider_id", "old.trait_id", "trait_id", "resource_provider_id")
    columns = "resource_class_id, total, reserved, min_unit, max_unit, step_size, allocation_ratio"
    insert("inventories", "resource_provider_id", columns, columns, "resource_provider_id")


def _uuid_in_sql(position: int) -> str:
    """Gives `identity` of host h as an expression that both databases understand."""
    digest = f"md5(concat(h.h, '.{position}'))"
    parts = (f"substr({digest}, {start}, {length})" for start, length in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12)))
    return "concat(" + ", '-', ".join(parts) + ")"


def _run(sql: sqlalchemy.Connection, statement: str, **values: object) -> Any:
    return sql.execute(sqlalchemy.text(statement), values)


def _analyze(engine: sqlalchemy.Engine) -> None:
    """Lets the database count its rows, as it does by itself in a cloud that grew."""
    how = "VACUUM ANALYZE" if engine.name == "postgresql" else "ANALYZE TABLE"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as sql:
        for name in ("resource_providers", "resource_provider_traits", "inventories"):
            _run(sql, f"{how} {name}")
    engine.dispose()
