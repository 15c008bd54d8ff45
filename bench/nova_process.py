# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
# mypy: disable-error-code="import-not-found"
"""One nova-compute without hypervisor and RPC: Nova's resource tracker and report client, called line by line.

Runs with the Python of an environment in which `nova` is installed, and answers by answering.py; what can be called are
the public methods of `Compute`. The database is Nova's own schema on SQLite; the hypervisor is Nova's own fake one.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

# Eventlet's patches are for services with many threads; here is one. Nova reads this when it is imported: hence below.
os.environ.setdefault("OS_NOVA_DISABLE_EVENTLET_PATCHING", "true")

import nova.conf
from nova import config, context, exception, objects
from nova.compute import resource_tracker
from nova.db.main import api as database
from nova.db.main import models
from nova.scheduler import utils
from nova.scheduler.client import report
from nova.virt import fake

CONF = nova.conf.CONF
NOVA_CONF = """
[DEFAULT]
transport_url = fake:/
state_path = {folder}
[database]
connection = sqlite:///{folder}/nova.sqlite
[api_database]
connection = sqlite:///{folder}/nova-api.sqlite
[placement]
auth_type = admin_token
endpoint = http://127.0.0.1
token = nova
"""
PROJECT = "6e0f5c3a9d0b4f4d8a3a1c7e5b2d9f10"
STALE = 301.0  # seconds: one more than [compute]resource_provider_association_refresh

Allocations = Mapping[str, Mapping[str, int]]
"""Amounts by resource class, by the UUID of the provider."""


class Errors(logging.Handler):
    """Keeps what Nova logs at level ERROR."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps one message."""
        self.said.append(record.getMessage())


class Compute:
    """One compute host at a time; its public methods are what can be called."""

    def __init__(self) -> None:
        self.context = context.RequestContext(user_id="nova", project_id=PROJECT, is_admin=True)
        self.requests: list[tuple[str, str]] = []
        errors = Errors()
        logging.getLogger("nova").addHandler(errors)
        self.logged = errors.said
        self.instances: dict[str, Any] = {}

    def start(
        self,
        url: str,
        uuid: str,
        name: str,
        refresh: int = 300,
        report_pci: bool = False,
        devices: list[dict[str, Any]] | None = None,
        specs: list[dict[str, str]] | None = None,
    ) -> None:
        """Starts nova-compute on a host, or again on the same: nothing is cached yet.

        `devices` are the host's as libvirt gives them, `specs` are [pci]device_spec.
        """
        self._connect(url, refresh)
        CONF.set_override("report_in_placement", report_pci, "pci")
        CONF.set_override("device_spec", [json.dumps(spec) for spec in specs or []], "pci")
        CONF.set_override("host", name)
        self.uuid, self.name = uuid, name
        self.driver = _driver(name, uuid, devices or [])
        self.tracker = resource_tracker.ResourceTracker(name, self.driver, self.client)
        self.tracker.set_service_ref(self._service())
        self.periodic(startup=True)

    def periodic(self, startup: bool = False) -> None:
        """Does what nova-compute does each minute: looks at its host, then updates its database and Placement."""
        self.tracker.update_available_resource(self.context, self.name, startup=startup)

    def later(self, seconds: float = STALE) -> None:
        """Makes all that the report client has cached so much older."""
        times = self.client._association_refresh_time
        self.client._association_refresh_time = {uuid: moment - seconds for uuid, moment in times.items()}

    def resize(self, vcpus: int) -> None:
        """Gives the host another number of processors."""
        self.driver.vcpus = vcpus

    def boot(self, uuid: str, extra_specs: Mapping[str, str]) -> Allocations:
        """Schedules a server to this host as nova-scheduler does, claims for it as nova-compute does."""
        flavor = objects.Flavor(id=1, flavorid="1", name="small", vcpus=2, memory_mb=512, root_gb=1)
        flavor.ephemeral_gb = flavor.swap = 0
        flavor.extra_specs = dict(extra_specs)
        candidate, version = self._candidate(flavor)
        claimed = self.client.claim_resources(self.context, uuid, candidate, PROJECT, "nova", version)
        assert claimed, "Placement refuses its own candidate"
        self.instances[uuid] = instance = self._instance(uuid, flavor)
        allocations = self.client.get_allocations_for_consumer(self.context, uuid)
        self.tracker.instance_claim(self.context, instance, self.name, allocations)
        return {one: raw["resources"] for one, raw in allocations.items()}

    def delete(self, uuid: str) -> None:
        """Deletes a server in nova-compute's order: what it holds in Placement, its record, the tracker's count."""
        self.client.delete_allocation_for_instance(self.context, uuid, force=True)
        instance = self.instances.pop(uuid)
        instance.destroy()
        self.tracker.update_usage(self.context, instance, self.name)

    def move(self, uuid: str, migration: str) -> bool:
        """Gives what a server holds to a migration, or back: the first step of each, and of its revert."""
        return bool(self.client.move_allocations(self.context, uuid, migration))

    def remove(self) -> None:
        """Does to Placement what `openstack compute service delete` does."""
        self.client.delete_resource_provider(self.context, self.tracker.compute_nodes[self.name])

    def known(self) -> dict[str, int]:
        """Gives the providers that are cached by name, with the generation that they are believed to have."""
        tree = self.client._provider_tree
        return {tree.data(uuid).name: tree.data(uuid).generation for uuid in tree.get_provider_uuids()}

    def connect(self, url: str, uuid: str, name: str) -> None:
        """Makes a report client alone, with nothing cached, for `offer`."""
        self._connect(url, refresh=300)
        self.uuid, self.name = uuid, name

    def offer(self, children: Mapping[str, Mapping[str, Any]], parent_of: Mapping[str, str]) -> None:
        """Reports providers below the compute node, by the steps of the resource tracker and nothing else.

        `children` are by name, each with `uuid`, `inventory` and `traits`; `parent_of` names the parent of
        those that are not directly below the compute node.
        """
        tree = self.client.get_provider_subtree_and_ensure_root(self.context, self.uuid, name=self.name)
        self.client.get_allocations_for_provider_tree(self.context, self.name)
        for name, child in children.items():
            if not tree.exists(name):
                tree.new_child(name, parent_of.get(name, self.name), uuid=child["uuid"])
            tree.update_inventory(name, child["inventory"])
            tree.update_traits(name, child["traits"])
        self.client.update_from_provider_tree(self.context, tree)

    def _connect(self, url: str, refresh: int) -> None:
        CONF.set_override("endpoint_override", url, "placement")
        CONF.set_override("resource_provider_association_refresh", refresh, "compute")
        self.client = report.SchedulerReportClient()
        # The roles of Nova's service user, which a Placement without Keystone believes.
        self.client._client.additional_headers["X-Roles"] = "admin,service"
        self.client._client.request = partial(self._request, self.client._client.request)

    def _request(self, send: Callable[..., Any], url: str, method: str, **kwargs: Any) -> Any:
        self.requests.append((method, url))
        return send(url, method, **kwargs)

    def _candidate(self, flavor: Any) -> tuple[Any, str]:
        """Gives the first candidate that is this host."""
        image = objects.ImageMeta(properties=objects.ImageMetaProps())
        spec = objects.RequestSpec(self.context, flavor=flavor, image=image, is_bfv=False, requested_resources=[])
        spec.request_level_params = objects.RequestLevelParams()
        spec.force_hosts = spec.force_nodes = spec.limits = spec.requested_destination = None
        wanted = utils.ResourceRequest.from_request_spec(spec)
        candidates, _, version = self.client.get_allocation_candidates(self.context, wanted)
        return next(one for one in candidates if self.uuid in one["allocations"]), version

    def _instance(self, uuid: str, flavor: Any) -> Any:
        instance = objects.Instance(self.context, uuid=uuid, project_id=PROJECT, user_id="nova", vm_state="building")
        instance.flavor, instance.old_flavor, instance.new_flavor = flavor, None, None
        instance.vcpus, instance.memory_mb, instance.root_gb, instance.ephemeral_gb = 2, 512, 1, 0
        instance.task_state = instance.numa_topology = None
        instance.system_metadata = {}
        instance.pci_requests = objects.InstancePCIRequests(instance_uuid=uuid, requests=[])
        instance.create()
        return instance

    def _service(self) -> Any:
        try:
            return objects.Service.get_by_compute_host(self.context, self.name)
        except exception.ComputeHostNotFound:
            service = objects.Service(self.context, host=self.name, binary="nova-compute", topic="compute")
            service.create()
            return service


def _driver(name: str, uuid: str, devices: list[dict[str, Any]]) -> Any:
    """Gives Nova's fake hypervisor, with the node's UUID and PCI devices."""
    driver = fake.SmallFakeDriver(fake.FakeVirtAPI())
    driver.init_host(name)
    look = driver.get_available_resource

    def get_available_resource(nodename: str) -> dict[str, Any]:
        return {**look(nodename), "uuid": uuid, "pci_passthrough_devices": json.dumps(devices)}

    driver.get_available_resource = get_available_resource
    return driver


def peer(folder: Path) -> Compute:
    """Gives one that is not started, its configuration and database in `folder`."""
    logging.getLogger().setLevel(logging.ERROR)
    file = folder / "nova.conf"
    file.write_text(NOVA_CONF.format(folder=folder))
    config.parse_args(["nova-compute"], default_config_files=[str(file)])
    objects.register_all()
    models.BASE.metadata.create_all(database.get_engine())
    return Compute()
