# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""How a service of OpenStack's is reached: options as every OpenStack service has them, made a keystoneauth Adapter.

[placement], [glance]: session (cafile, timeout, ...), auth (auth_type and its plugin's, or auth_section, which names
another group that has them) and adapter options (region_name, endpoint_override, ...).
"""

from __future__ import annotations

from typing import Any, Final

from keystoneauth1 import adapter, loading
from keystoneauth1 import exceptions as ksa
from oslo_config import cfg

from devagent.errors import ConfigurationError

LATER: Final = (408, 425, 429)
"""The statuses below 500 with which a server or a proxy asks to come back later."""


def list_opts(group: str) -> list[tuple[str, list[cfg.Opt]]]:
    """Gives the options of a group, for oslo-config-generator, with those of the plugin that most use."""
    return [
        (
            group,
            loading.get_session_conf_options()
            + loading.get_auth_common_conf_options()
            + loading.get_auth_plugin_conf_options("password")
            + loading.get_adapter_conf_options(),
        )
    ]


def from_conf(conf: Any, group: str, service_type: str, timeout: int) -> adapter.Adapter | None:
    """Gives what calls the service, with whatever plugin `auth_type` names; None if the group says of nobody as whom.

    `timeout` is in seconds, for where the group has none. Raises ConfigurationError.
    """
    loading.register_session_conf_options(conf, group)
    loading.register_auth_conf_options(conf, group)
    loading.register_adapter_conf_options(conf, group)
    conf.set_default("service_type", service_type, group=group)
    conf.set_default("timeout", timeout, group=group)
    try:
        if conf[group].auth_section:
            loading.register_auth_conf_options(conf, conf[group].auth_section)
        auth = loading.load_auth_from_conf_options(conf, group)
        if auth is None:
            return None
        session = loading.load_session_from_conf_options(conf, group, auth=auth)
        return loading.load_adapter_from_conf_options(conf, group, session=session)
    except (ksa.ClientException, cfg.Error, ValueError) as error:
        raise ConfigurationError(f"[{group}]: {error}") from None
