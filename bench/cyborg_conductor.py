# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
# mypy: disable-error-code="import-not-found,import-untyped"
"""One cyborg-conductor without RPC: Cyborg's own manager, database and Placement client, called line by line.

Runs with the Python of an environment in which `cyborg` is installed, and answers by answering.py. What its agent would
hand over by RPC is made by the code of its driver `intel_nic_driver`: a device per PF, a deployable per VF, and of each
deployable a provider of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cyborg.cmd.conductor  # noqa: F401 - it decides between threads and eventlet before anything else does
from cyborg import context, objects
from cyborg.accelerator.drivers.nic.intel import sysinfo
from cyborg.common import config
from cyborg.conductor import manager
from cyborg.conf import CONF
from cyborg.db import migration
from cyborg.db.sqlalchemy import models
from oslo_db.sqlalchemy import enginefacade

CYBORG_CONF = """
[DEFAULT]
transport_url = fake:/
state_path = {folder}
[database]
connection = sqlite:///{folder}/cyborg.sqlite
[placement]
auth_type = admin_token
endpoint = http://127.0.0.1
token = cyborg
"""
X710 = {"vendor": "0x8086", "product_id": "0x1572", "type": "NIC", "rc": "CUSTOM_NIC", "stub": False}
"""What the driver says of each function of the NIC that it knows, whatever its network."""


class Conductor:
    """One conductor at a time; its public methods are what can be called."""

    def __init__(self) -> None:
        self.context = context.RequestContext(is_admin=True)
        self.requests: list[tuple[str, str]] = []
        self.logged: list[str] = []

    def forget(self) -> None:
        """Empties the database."""
        with enginefacade.writer.get_engine().begin() as connection:
            for table in reversed(models.Base.metadata.sorted_tables):
                connection.execute(table.delete())

    def connect(self, url: str) -> None:
        """Starts the conductor on what the database has."""
        CONF.set_override("endpoint_override", url, "placement")
        self.manager = manager.ConductorManager("cyborg-conductor", "conductor")
        session = self.manager.placement_client._client.session
        # The roles of Cyborg's service user, which a Placement without Keystone believes.
        session.additional_headers["X-Roles"] = "admin,service"
        session.request = partial(self._request, session.request)

    def report(self, host: str, pfs: Mapping[str, list[str]]) -> None:
        """Does what the agent calls each minute, with the addresses of PFs and of the VFs of each."""
        devices = [sysinfo._generate_driver_device(_nic(host, pf, vfs)) for pf, vfs in pfs.items()]
        self.manager.report_data(self.context, host, devices)

    def _request(self, send: Callable[..., Any], url: str, method: str, **kwargs: Any) -> Any:
        self.requests.append((method, url))
        return send(url, method, **kwargs)


def _nic(host: str, pf: str, vfs: list[str]) -> dict[str, Any]:
    """Gives a PF as the driver's `nic_tree` finds it where no physical network is configured."""
    return {**_function(host, pf, "CUSTOM_PF"), "vfs": [_function(host, vf, "CUSTOM_VF") for vf in vfs]}


def _function(host: str, address: str, trait: str) -> dict[str, Any]:
    return {**X710, "name": f"{host}_{address}", "device": address, "traits": [trait], "physical_network": None}


def peer(folder: Path) -> Conductor:
    """Gives one that is not connected, its configuration and database in `folder`."""
    file = folder / "cyborg.conf"
    file.write_text(CYBORG_CONF.format(folder=folder))
    config.parse_args(["cyborg-conductor"], default_config_files=[str(file)])
    objects.register_all()
    migration.create_schema()
    return Conductor()
