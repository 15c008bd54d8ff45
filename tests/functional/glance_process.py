# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A real Glance in a process of its own, in the environment that tools/glance-venv makes: SQLite, files, no Keystone.

    .venv/glance/bin/python tests/functional/glance_process.py FOLDER

It believes the headers that Keystone's middleware would set (X-Identity-Status, X-Project-Id, X-Roles). It prints its
port once it answers, and ends when its standard input does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

REPOSITORY: Final = Path(__file__).parents[2]
PYTHON: Final = Path(os.environ.get("DEVAGENT_GLANCE_PYTHON", REPOSITORY / ".venv" / "glance" / "bin" / "python"))
"""The Python that can import `glance`: $DEVAGENT_GLANCE_PYTHON, else that of tools/glance-venv."""

MISSING: Final = (
    f"no Glance: {PYTHON} is not there (tools/glance-venv .venv/glance makes it, $DEVAGENT_GLANCE_PYTHON names one)"
)

_CONF = """
[DEFAULT]
enabled_backends = disk:file
workers = 0
use_stderr = false
log_file = {folder}/log
[database]
connection = sqlite:///{folder}/glance.db
[glance_store]
default_backend = disk
[disk]
filesystem_store_datadir = {folder}/store
[os_glance_staging_store]
filesystem_store_datadir = {folder}/staging
[os_glance_tasks_store]
filesystem_store_datadir = {folder}/tasks
[paste_deploy]
config_file = {folder}/paste.ini
"""
_PASTE = """
[composite:glance-api]
paste.composite_factory = glance.api:root_app_factory
/: api
[composite:api]
paste.composite_factory = glance.api:pipeline_factory
default = versionnegotiation context rootapp
[composite:rootapp]
paste.composite_factory = glance.api:root_app_factory
/: apiversions
/v2: apiv2app
[app:apiversions]
paste.app_factory = glance.api.versions:create_resource
[app:apiv2app]
paste.app_factory = glance.api.v2.router:API.factory
[filter:versionnegotiation]
paste.filter_factory = glance.api.middleware.version_negotiation:VersionNegotiationFilter.factory
[filter:context]
paste.filter_factory = glance.api.middleware.context:ContextMiddleware.factory
"""


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Runs one with all that it keeps in `folder`, and gives its URL."""
    with subprocess.Popen(
        [PYTHON, "-W", "ignore", __file__, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, f"Glance does not start: {folder / 'log'}"
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


def main(folder: Path) -> None:
    """Serves until standard input ends."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "glance-api.conf").write_text(_CONF.format(folder=folder))
    (folder / "paste.ini").write_text(_PASTE)
    os.environ["OS_GLANCE_CONFIG_DIR"] = str(folder)
    manage = Path(sys.executable).with_name("glance-manage")
    own = ("--config-file", folder / "glance-api.conf")
    subprocess.run([manage, *own, "db", "sync"], check=True, stdout=sys.stderr, stderr=subprocess.DEVNULL)
    from glance.common import wsgi_app  # type: ignore[import-not-found]  # noqa: PLC0415 - of the other environment

    server = make_server("127.0.0.1", 0, wsgi_app.init_app(), server_class=_Server, handler_class=_Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)  # noqa: T201 - how it says where it is
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
