# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""How the agents are reached that notifications are for: the one of this host, or each host's over TLS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from devagent.api.client import Client, Document
from devagent.api.remote_client import RemoteClient, Tokens
from devagent.errors import ConfigurationError
from devagent.notifications.lane import HandOver
from devagent.placement import client

HOST: Final = "{host}"


def local(socket: Path, timeout: float) -> HandOver:
    """Gives what hands over to this host's agent, whichever host it is for."""
    agent = Client(str(socket), timeout=timeout)
    return lambda _host, events: _tell(agent, events)


def remote(options: Any, conf: Any) -> HandOver:
    """Gives what hands over to the agents of all hosts, from [notifications]. Raises ConfigurationError."""
    tokens: Tokens | None = client.tokens(conf) if options.auth == "keystone" else None

    def agent(host: str) -> RemoteClient:
        url = options.agents.replace(HOST, host)
        files = {"cacert": options.cacert, "cert": options.cert, "key": options.key}
        return RemoteClient(url, **files, tokens=tokens, timeout=options.timeout)

    if HOST not in options.agents:
        raise ConfigurationError(f"configuration: [notifications] agents: {options.agents!r}: {HOST} must be in it")
    agent("host")  # what is wrong with the files is known at the start
    return lambda host, events: _tell(agent(host), events)


def _tell(agent: Client, events: Mapping[str, str]) -> None:
    body: Document = {"hints": [{"consumer": consumer, "event": event} for consumer, event in events.items()]}
    agent.post("/v1/hints", body)
