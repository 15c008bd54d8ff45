# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""THE table: every call of the API, with who may make it. Routing, checks and OpenAPI all come from here."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from devagent.api.versions import MINIMUM, Version

JSON: Final = "application/json"
TEXT: Final = "text/plain"
METRICS: Final = "text/plain; version=0.0.4"
"""The text format of Prometheus."""


class Who(enum.StrEnum):
    """Who may make a call."""

    PUBLIC = "public"  # also over TCP, and there without a token: keystoneauth looks for versions before it has one
    ANY = "any"  # that can connect
    OPERATOR = "operator"  # root, the agent's own user, or a member of the socket's group


@dataclass(frozen=True, slots=True)
class Operation:
    """One call: `handler` is a function of handlers.py, `request` and `response` are names of schemas.py.

    `since` is the first version that has it. `waits`: it honours `Prefer: wait=S`, and answers 202 if that passes.
    `decides`: it ends what the agent would not end by itself, which no service should: by default only admins may.
    `who` counts on the unix socket; for who comes with a token it is the rule `rule` of policy.yaml: api/policy.py.
    """

    method: str
    path: str
    handler: str
    summary: str
    response: str | None
    policy: str
    request: str | None = None
    who: Who = Who.ANY
    waits: bool = False
    media: tuple[str, ...] = (JSON,)
    since: Version = MINIMUM
    decides: bool = False

    @property
    def rule(self) -> str:
        """The policy rule of the operation: `devagent:preparations:prepare`."""
        return f"devagent:{self.policy}"

    @property
    def versioned(self) -> bool:
        """Whether OpenStack-API-Version means anything to it."""
        return self.path.startswith("/v1/")


OPERATIONS: Final = (
    Operation(
        "GET", "/", "versions", "Which versions of the API there are", "versions", "versions:list", who=Who.PUBLIC
    ),
    Operation(
        "GET", "/healthcheck", "healthcheck", "Whether the agent works", "checks", "healthcheck:get", media=(TEXT, JSON)
    ),
    Operation("GET", "/metrics", "metrics", "Measurements, for Prometheus", None, "metrics:get", media=(METRICS,)),
    Operation("GET", "/v1/openapi.json", "openapi", "This description", None, "openapi:get"),
    Operation(
        "GET", "/v1/devices", "devices", "All that the last look found, as discover -o json", "discover", "devices:list"
    ),
    Operation(
        "GET", "/v1/devices/{device}", "device", "One device, by id or PCI address", "discover#device", "devices:get"
    ),
    Operation(
        "GET", "/v1/providers", "providers", "The wanted provider tree, and what differs", "providers", "providers:list"
    ),
    Operation("GET", "/v1/status", "status", "How the agent is", "status", "status:get"),
    Operation("GET", "/v1/health", "health", "How each device is, and since when", "health", "health:list"),
    Operation(
        "PUT",
        "/v1/health/{device}",
        "set_health",
        "Overrides the health of a device",
        "health#device",
        "health:set",
        request="override",
        who=Who.OPERATOR,
    ),
    Operation(
        "DELETE",
        "/v1/health/{device}",
        "clear_health",
        "Ends an override; nothing happens where there is none",
        "health#device",
        "health:clear",
        who=Who.OPERATOR,
    ),
    Operation(
        "GET",
        "/v1/preparations",
        "preparations",
        "Whose devices are ready, on their way, or refused",
        "preparations",
        "preparations:list",
        who=Who.OPERATOR,
    ),
    Operation(
        "GET",
        "/v1/preparations/{consumer}",
        "preparation",
        "The devices of one consumer",
        "preparations#preparation",
        "preparations:get",
        who=Who.OPERATOR,
    ),
    Operation(
        "PUT",
        "/v1/preparations/{consumer}",
        "prepare",
        "Makes a consumer's devices ready; the same again gives the same, another body is 409",
        "preparations#preparation",
        "preparations:prepare",
        request="preparations#request",
        who=Who.OPERATOR,
        waits=True,
    ),
    Operation(
        "DELETE",
        "/v1/preparations/{consumer}",
        "unprepare",
        "Makes sure that a consumer has no device; the answer is the same where it has none",
        "preparations#preparation",
        "preparations:unprepare",
        who=Who.OPERATOR,
        waits=True,
    ),
    Operation(
        "POST",
        "/v1/preparations/{consumer}/forget",
        "forget",
        "Ends what cannot be released, as an operator says; the devices are withheld unless they are to be offered",
        "forgotten",
        "preparations:forget",
        request="forgetting",
        who=Who.OPERATOR,
        decides=True,
    ),
    Operation(
        "POST",
        "/v1/hints",
        "hint",
        "Has consumers looked for in Placement soon: what holds nothing there any more is released",
        "hinted",
        "hints:create",
        request="hints",
        who=Who.OPERATOR,
    ),
    Operation(
        "POST", "/v1/rescan", "rescan", "Looks again now", "rescan", "rescan:start", who=Who.OPERATOR, waits=True
    ),
)
