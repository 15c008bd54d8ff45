# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whatever is asked of the API, by its own description or against it: no 500, and every answer as described."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks
from unit.api.agents import ROOT, Agent

from devagent.api.app import CALLER, Application
from devagent.api.operations import OPERATIONS, Operation
from devagent.discovery import Discovery
from devagent.document import document
from devagent.inventory.build import Nest
from devagent.service.facts import Facts
from devagent.service.status import Self, status
from devagent.view import Look

CHECKS = [
    not_a_server_error,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.status_code_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
]
EXAMPLES = 25
"""For each call."""


@pytest.fixture
def described(discovery: Callable[[str], Discovery]) -> Any:
    """Gives the calls of an agent as it describes them itself, each made in this process."""
    own = Self(host="h", started=0, stopping=False, files=(), policy="built in", loaded=0, error=None, processes={})
    agent = Agent(document(Look(discovery("gpu8"), "gpu8.example.org", Nest.NUMA)), status(Facts(), (), own))
    agent.looked.set()
    application = Application(agent)

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return application({**environ, CALLER: ROOT}, start_response)

    return schemathesis.openapi.from_wsgi("/v1/openapi.json", app)


def wrongly(operation: Operation) -> bool:
    """Tells whether a call can be made in a way that its description does not allow."""
    return bool(operation.request) or "{consumer}" in operation.path


CALLS = [
    *(pytest.param(each, GenerationMode.POSITIVE, id=each.handler) for each in OPERATIONS),
    *(
        pytest.param(each, GenerationMode.NEGATIVE, id=f"{each.handler}-wrongly")
        for each in filter(wrongly, OPERATIONS)
    ),
]


@pytest.mark.parametrize(("operation", "mode"), CALLS)
def test_every_answer_is_as_described(described: Any, operation: Operation, mode: GenerationMode) -> None:
    wanted = described[operation.path][operation.method]

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @given(case=wanted.as_strategy(generation_mode=mode))
    def call(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate(checks=CHECKS)

    call()
