# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the listener goes by: [notifications] as plain values, read as one and replaced as one."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from devagent import conf as configuration
from devagent.errors import ConfigurationError
from devagent.notifications.lane import HandOver, Limits
from devagent.service import agents

HOST: Final = "host"
RELAY: Final = "relay"


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """`own` is the only host that it listens for, None for all; `conf` is oslo.config's object."""

    conf: Any
    files: tuple[str, ...]
    own: str | None
    url: str
    topics: tuple[str, ...]
    exchange: str
    pool: str
    threads: int
    limits: Limits
    hand_over: HandOver


def read(files: Sequence[str] = (), dirs: Sequence[str] = ()) -> ListenerSettings:
    """Reads the configuration. Raises ConfigurationError; nothing of what was in force is touched then."""
    conf = configuration.load(files, dirs, strict=True, messaging=True)
    options = conf.notifications
    if not options.transport_url:
        raise ConfigurationError(
            "configuration: [notifications] transport_url: is needed: the one of [oslo_messaging_notifications], else "
            "of [DEFAULT], in nova.conf"
        )
    if options.mode == HOST and options.pool == "":
        raise ConfigurationError(
            "configuration: [notifications] pool: must not be empty with mode = host: each host would take from the "
            "others what is for them"
        )
    own = (options.nova_host or socket.gethostname()) if options.mode == HOST else None
    return ListenerSettings(
        conf=conf,
        files=tuple(map(str, configuration.files(files, dirs))),
        own=own,
        url=options.transport_url,
        topics=tuple(options.topics),
        exchange=options.exchange,
        pool=f"devagent-{own or RELAY}" if options.pool is None else options.pool,
        threads=options.threads,
        limits=Limits(options.tries, options.cool_down),
        hand_over=_hand_over(options, conf),
    )


def _hand_over(options: Any, conf: Any) -> HandOver:
    if options.mode == HOST:
        return agents.local(Path(conf.api.unix_socket), options.timeout)
    if not options.agents:
        raise ConfigurationError(
            "configuration: [notifications] agents: is needed with mode = relay: https://{host}:9443, as [api] listen "
            "of the agents has it"
        )
    return agents.remote(options, conf)
