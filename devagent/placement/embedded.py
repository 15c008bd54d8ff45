# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A real Placement in this process, on SQLite in memory: for `devagent demo` and for tests.

It is the `openstack-placement` package itself behind an HTTP server on a loopback port, without
Keystone: whoever can connect may do everything. Nothing of it outlives the process.
"""

from __future__ import annotations

import logging
import threading
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from devagent.errors import ConfigurationError
from devagent.placement.client import PlacementClient, from_token

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Placement's own libraries; an operator can do nothing about them
        from cheroot import wsgi
        from oslo_config import cfg
        from placement import conf as placement_conf
        from placement import db_api, deploy
except ImportError as error:
    raise ConfigurationError(
        f"this needs Placement itself, which is not installed ({error.name}): pip install '.[demo]'"
    ) from None


@contextmanager
def running() -> Iterator[str]:
    """Starts the server and gives its URL for the time of a `with`; Placement keeps one database per process."""
    # One thread: SQLite answers a second writer with an error, not with patience.
    server = wsgi.Server(("127.0.0.1", 0), _application(), numthreads=1)
    server.prepare()
    thread = threading.Thread(target=server.serve, name="placement", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.bind_addr[1]}"
    finally:
        server.stop()
        thread.join()


def client(url: str) -> PlacementClient:
    """Gives a client with every role; `service` is the one that /reshaper wants."""
    # A token per client, as Placement without Keystone takes it for the name of the user.
    return from_token(url, f"devagent-{uuid.uuid4().hex}", roles="admin,service")


def _application() -> Any:
    conf = cfg.ConfigOpts()
    placement_conf.register_opts(conf)
    # Before conf() is called, which else misses the connection.
    conf.set_override("connection", "sqlite://", "placement_database")
    conf.set_override("sync_on_startup", True, "placement_database")
    conf.set_override("auth_strategy", "noauth2", "api")
    conf([], project="placement", default_config_files=[], default_config_dirs=[])
    logging.getLogger("placement").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        db_api.configure(conf)
        return deploy.loadapp(conf)
