# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
# mypy: disable-error-code="import-not-found"
"""What Nova tells of its instances: its own notification classes and notifier, on a real broker, called line by line.

Runs with the Python of an environment in which `nova` is installed, and answers by answering.py.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Any

# Eventlet's patches are for services with many threads; here is one. Nova reads this when it is imported: hence below.
os.environ.setdefault("OS_NOVA_DISABLE_EVENTLET_PATCHING", "true")

import nova.conf
from nova import config, context, exception, objects, rpc
from nova.compute import utils
from nova.db.main import api as database
from nova.db.main import models
from nova.network import model as network
from nova.notifications.objects import instance as notification
from nova.objects import fields

CONF = nova.conf.CONF
NOVA_CONF = """
[DEFAULT]
transport_url = fake:/
host = controller
state_path = {folder}
[database]
connection = sqlite:///{folder}/nova.sqlite
[api_database]
connection = sqlite:///{folder}/nova-api.sqlite
[notifications]
notification_format = versioned
[oslo_messaging_notifications]
driver = messagingv2
transport_url = {url}
[oslo_messaging_rabbit]
{rabbit}
"""
KINDS = ("create.start", "create.end", "power_off.start", "power_off.end", "delete.start", "delete.end")
PROJECT = "6e0f5c3a9d0b4f4d8a3a1c7e5b2d9f10"
CONDUCTOR = "compute_task."
SOURCES = {"nova-compute": fields.NotificationSource.COMPUTE, "nova-api": fields.NotificationSource.API}


class Notifier:
    """Tells of instances; its public methods are what can be called."""

    def __init__(self) -> None:
        self.context = context.RequestContext(user_id="nova", project_id=PROJECT, is_admin=True)
        self.requests: list[tuple[str, str]] = []
        self.logged: list[str] = []
        self.instances: dict[str, Any] = {}

    def emit(self, kind: str, instance: str, publisher: str, host: str | None = None) -> None:
        """Has Nova tell `kind`, as `instance.delete.end`; `publisher` as `nova-compute:host`, `host` the instance's."""
        service, _, speaker = publisher.partition(":")
        if kind.startswith(CONDUCTOR):
            self._task_error(kind, instance, speaker)
            return
        _, action, *phase = kind.split(".")
        found = self._instance(instance, host)
        arguments = {
            "phase": phase[0] if phase else None,
            "exception": _failure() if phase == ["error"] else None,
            "bdms": objects.BlockDeviceMappingList(objects=[]),
        }
        if action == "create":
            utils.notify_about_instance_create(self.context, found, speaker, **arguments)
        elif action == "resize_prep":
            del arguments["exception"], arguments["bdms"]
            utils.notify_about_resize_prep_instance(self.context, found, speaker, new_flavor=found.flavor, **arguments)
        else:
            tell = (
                utils.notify_about_instance_rebuild
                if action in ("rebuild", "rebuild_scheduled")
                else utils.notify_about_instance_action
            )
            tell(self.context, found, speaker, action=action, source=SOURCES[service], **arguments)

    def flood(self, number: int, hosts: int) -> float:
        """Tells `number` times of instances on so many hosts, one in six of it a delete; gives the seconds it took.

        Nova makes the payload once; only the instance and the host differ then.
        """
        instance, nothing = self._instance(str(uuid.uuid4()), None), objects.BlockDeviceMappingList(objects=[])
        made = notification.InstanceActionPayload(context=self.context, instance=instance, fault=None, bdms=nothing)
        payload = made.obj_to_primitive()
        data = payload["nova_object.data"]
        begun = time.perf_counter()
        for each in range(number):
            owner, kind = divmod(each, len(KINDS))
            host = f"host-{owner % hosts}"
            data["uuid"], data["host"] = str(uuid.UUID(int=owner)), host
            notifier = rpc.get_versioned_notifier(f"nova-compute:{host}")
            notifier.info(self.context, event_type=f"instance.{KINDS[kind]}", payload=payload)
        return time.perf_counter() - begun

    def _task_error(self, kind: str, instance: str, speaker: str) -> None:
        CONF.set_override("host", speaker)
        action = kind.split(".")[1]
        utils.notify_about_compute_task_error(self.context, action, instance, None, "error", _failure())

    def _instance(self, uid: str, host: str | None) -> Any:
        if uid not in self.instances:
            self.instances[uid] = self._made(uid)
        found = self.instances[uid]
        found.host = found.node = host
        return found

    def _made(self, uid: str) -> Any:
        flavor = objects.Flavor(id=1, flavorid="1", name="small", vcpus=2, memory_mb=512, root_gb=1)
        flavor.ephemeral_gb = flavor.swap = flavor.vcpu_weight = 0
        flavor.rxtx_factor, flavor.disabled, flavor.is_public, flavor.projects = 1.0, False, True, []
        flavor.extra_specs = {"resources1:SRIOV_NET_VF": "1"}
        made = objects.Instance(self.context, uuid=uid, project_id=PROJECT, user_id="nova", vm_state="active")
        made.flavor, made.old_flavor, made.new_flavor = flavor, None, None
        made.id = 1
        made.system_metadata, made.metadata, made.display_name, made.locked = {}, {}, "server", False
        made.auto_disk_config = False
        made.info_cache = objects.InstanceInfoCache(self.context, instance_uuid=uid, network_info=network.NetworkInfo())
        made.tags, made.keypairs = objects.TagList(objects=[]), objects.KeyPairList(objects=[])
        for name in objects.Instance.fields:
            if not made.obj_attr_is_set(name) and objects.Instance.fields[name].nullable:
                setattr(made, name, None)
        made.obj_reset_changes()
        return made


def _failure() -> Any:
    """Gives an error with the traceback from which Nova takes where it happened."""
    try:
        raise exception.ComputeResourcesUnavailable(reason="the device is not ready")
    except exception.ComputeResourcesUnavailable as error:
        return error


def peer(folder: Path, url: str, *rabbit: str) -> Notifier:
    """Gives one that tells the broker at `url`; `rabbit` are lines of [oslo_messaging_rabbit]."""
    file = folder / "nova.conf"
    file.write_text(NOVA_CONF.format(folder=folder, url=url, rabbit="\n".join(rabbit)))
    config.parse_args(["nova-compute"], default_config_files=[str(file)])
    objects.register_all()
    models.BASE.metadata.create_all(database.get_engine())
    return Notifier()
