# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Callers over TLS with a token of Keystone's: keystonemiddleware says who they are, oslo.policy what they may.

Imported only where [api] auth = keystone: it costs a third of a second and 20 MiB.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterable
from typing import Any, Final

from keystoneauth1.exceptions import ClientException
from keystonemiddleware import auth_token
from oslo_context.context import RequestContext
from oslo_policy.policy import Enforcer
from webob import Request

from devagent.api import policy
from devagent.api.faults import Code, Fault
from devagent.api.operations import Operation, Who
from devagent.errors import ConfigurationError

Environ = dict[str, Any]

LOG: Final = logging.getLogger(__name__)

_GROUP: Final = "keystone_authtoken"
_KNOWN: Final = "devagent.token"
_PATIENCE_S: Final = 10
"""For an answer of Keystone's, where [keystone_authtoken] http_connect_timeout does not say: threads wait for it."""


class Bearer:
    """Who brings a token, which is looked at when they make a call."""

    def __init__(self, environ: Environ, tokens: auth_token.AuthProtocol, enforcer: Enforcer) -> None:
        self._environ, self._tokens, self._enforcer = environ, tokens, enforcer
        self._who = "a caller without a valid token"

    def admit(self, operation: Operation) -> None:
        """Raises Fault: 401 for a token that is none, 403 for roles that are not enough, 503 without Keystone."""
        if operation.who is Who.PUBLIC:
            return
        self._identify()
        context = RequestContext.from_environ(self._environ)
        self._who = (
            f"user {context.user_name or context.user_id} (project {context.project_name or context.project_id})"
        )
        if not self._enforcer.enforce(operation.rule, {}, context):
            roles = ", ".join(sorted(context.roles)) or "none"
            detail = f"{self} may not: the roles {roles} do not meet {operation.rule}: {self._wanted(operation.rule)}"
            raise Fault(403, Code.FORBIDDEN, f"{detail}; policy.yaml on this host decides")

    def _identify(self) -> None:
        try:
            answer = Request(self._environ).get_response(self._tokens)
        except ClientException as error:
            LOG.error("[%s] Keystone cannot be asked: %s", _GROUP, error)
            raise _unreachable() from None
        if self._environ.get(_KNOWN):
            return
        if answer.status_int != 401:
            raise _unreachable()
        detail = "a valid token is needed: X-Auth-Token, from Keystone (openstack token issue)"
        headers = {"WWW-Authenticate": answer.headers.get("WWW-Authenticate", "Keystone")}
        raise Fault(401, Code.UNAUTHENTICATED, detail, headers=headers)

    def _wanted(self, rule: str) -> str:
        """Gives the rule as it is in force, down to what it names."""
        found = str(self._enforcer.rules.get(rule, "nobody"))
        base = found.removeprefix("rule:")
        return self._wanted(base) if base != found else found

    def __str__(self) -> str:
        """Gives `user nova (project service), from 192.0.2.1`."""
        return f"{self._who}, from {self._environ['REMOTE_ADDR']}"


def identified_by(conf: Any) -> Callable[[ssl.SSLSocket, Environ], Bearer]:
    """Gives what identifies callers by [keystone_authtoken]. Raises ConfigurationError."""
    own: dict[str, Any] = {"oslo_config_config": conf}
    for group, options in auth_token.list_opts():
        conf.register_opts(options, group=group)
    if conf[_GROUP].http_connect_timeout is None:
        own["http_connect_timeout"] = _PATIENCE_S
    try:
        tokens = auth_token.AuthProtocol(_let_in, own)
    except Exception as error:  # of keystoneauth's plugins, of the options
        raise ConfigurationError(f"configuration: [{_GROUP}]: {error}") from None
    enforcer = policy.enforcer(conf)
    return lambda _, environ: Bearer(environ, tokens, enforcer)


def _let_in(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Stands behind keystonemiddleware: what comes so far has a valid token."""
    environ[_KNOWN] = True
    start_response("204 No Content", [])
    return []


def _unreachable() -> Fault:
    detail = "the token cannot be checked, since Keystone does not answer this host: see its agent's log, and ask again"
    return Fault(503, Code.NO_KEYSTONE, detail, headers={"Retry-After": "5"})
