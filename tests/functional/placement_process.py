# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A real Placement in processes of its own, on any database: Placement keeps one database per process.

    cd tests; python -m functional.placement_process --connection sqlite:////tmp/placement.db

It prints a port for each process once that answers, and ends when its standard input does: whoever
started it may die as they like.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TESTS = Path(__file__).parents[1]
THREADS = 8


@contextmanager
def processes(connection: str, number: int = 1) -> Iterator[list[str]]:
    """Runs several on one empty database and gives their URLs."""
    module = f"{__package__}.{Path(__file__).stem}"
    arguments = ("--connection", connection, "--processes", str(number))
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", module, *arguments],
        cwd=TESTS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ports = [process.stdout.readline().strip() for _ in range(number)]
        assert all(ports), f"Placement does not start on {connection}"
        try:
            yield [f"http://127.0.0.1:{port}" for port in ports]
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def main() -> None:
    """Forks the processes and waits for them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connection", required=True, help="the database, as SQLAlchemy says it")
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # of Placement's own libraries
    logging.disable(logging.CRITICAL)
    # Imported before the fork, configured after it: no connection to the database is shared.
    from cheroot import wsgi  # noqa: PLC0415
    from placement import deploy  # noqa: F401, PLC0415

    children = []
    for position in range(args.processes):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            serve(wsgi, args.connection, writing, sync=position == 0)
            os._exit(0)
        os.close(writing)
        # The next one begins only when the first has made the schema.
        with open(reading) as port:  # noqa: PTH123 - a descriptor
            print(port.read(), flush=True)  # noqa: T201 - how it says where it is
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


def serve(wsgi: object, connection: str, port: int, *, sync: bool) -> None:
    """Serves until standard input ends; the number of its port goes to the descriptor `port`."""
    # One thread on SQLite: it answers a second writer with an error, not with patience.
    threads = 1 if connection.startswith("sqlite") else THREADS
    app = application(connection, sync=sync)
    server = wsgi.Server(("127.0.0.1", 0), app, numthreads=threads, request_queue_size=128)  # type: ignore[attr-defined]
    server.prepare()
    threading.Thread(target=server.serve, daemon=True).start()
    os.write(port, str(server.bind_addr[1]).encode())
    os.close(port)
    sys.stdin.read()


def application(connection: str, *, sync: bool) -> object:
    """Gives Placement itself, without Keystone; once per process."""
    from oslo_config import cfg  # noqa: PLC0415
    from placement import conf as placement_conf  # noqa: PLC0415
    from placement import db_api, deploy  # noqa: PLC0415

    conf = cfg.ConfigOpts()
    placement_conf.register_opts(conf)
    conf.set_override("connection", connection, "placement_database")
    conf.set_override("sync_on_startup", sync, "placement_database")
    conf.set_override("sqlite_synchronous", False, "placement_database")
    conf.set_override("auth_strategy", "noauth2", "api")
    conf([], project="placement", default_config_files=[], default_config_dirs=[])
    db_api.configure(conf)
    app: object = deploy.loadapp(conf)
    return app


if __name__ == "__main__":
    main()
