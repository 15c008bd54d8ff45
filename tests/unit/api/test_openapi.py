# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The table of operations, and the description that is made of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from devagent.api import handlers, openapi
from devagent.api.app import Application
from devagent.api.operations import OPERATIONS
from devagent.api.schemas import NAMES, schema

from .agents import Agent, ask

CHECKED_IN = Path(__file__).parents[3] / "docs" / "openapi.json"


def below(node: Any) -> Iterator[tuple[str, Any]]:
    """Gives every key of a document with its value, however deep."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield str(key), value
        yield from below(value)


def test_the_checked_in_description_is_the_one_that_is_served(agent: Agent) -> None:
    served = ask(Application(agent), "GET", "/v1/openapi.json")
    assert CHECKED_IN.read_text() == served.text, "python -m devagent.api.openapi > docs/openapi.json"
    assert served.content_type == "application/json"


def test_every_operation_has_a_handler_of_its_own() -> None:
    names = [operation.handler for operation in OPERATIONS]
    assert len(set(names)) == len(names)
    assert all(callable(getattr(handlers, name)) for name in names)


def test_every_operation_is_described_with_the_arguments_of_its_path() -> None:
    described = {
        (method.upper(), path): operation
        for path, methods in openapi.document()["paths"].items()
        for method, operation in methods.items()
    }
    assert set(described) == {(each.method, each.path) for each in OPERATIONS}
    for (_, path), operation in described.items():
        arguments = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
        assert arguments == re.findall(r"\{(\w+)\}", path)
        assert operation["responses"]["default"]


def test_every_reference_leads_somewhere() -> None:
    document = openapi.document()
    references = {value for key, value in below(document) if key == "$ref" and isinstance(value, str)}
    assert "#/components/schemas/health/$defs/device" in references
    for reference in references:
        node = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
        assert isinstance(node, dict)


@pytest.mark.parametrize("name", NAMES)
def test_every_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))


def test_the_description_is_the_same_each_time() -> None:
    assert json.loads(openapi.text()) == openapi.document()
