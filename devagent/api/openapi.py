# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Describes the API as OpenAPI 3.1, made of the table of operations; `python -m devagent.api.openapi` prints it.

docs/openapi.json is the same text; a test keeps it so.
"""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from typing import Any, Final

from devagent.api import schemas, versions
from devagent.api.operations import JSON, OPERATIONS, Operation, Who

_ARGUMENTS: Final = re.compile(r"\{(\w+)\}")
_COMPONENTS: Final = "#/components/schemas/"
_SAID: Final = {
    "device": "the id of a device, or its PCI address, for example 0000:3b:00.0",
    "consumer": "the UUID of a consumer in Placement: of a virtual machine",
}
_FORMS: Final = {"device": {"type": "string"}, "consumer": {"type": "string", "format": "uuid"}}


def document() -> dict[str, Any]:
    """Gives the description."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "devagent",
            "version": versions.text(versions.MAXIMUM),
            "description": "The agent of one compute host: on its unix socket, and over TLS where that is configured.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": {name: _component(name) for name in schemas.NAMES}},
    }


@cache
def text() -> str:
    """Gives the description as JSON, the same each time."""
    return json.dumps(document(), indent=2, ensure_ascii=True) + "\n"


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": operation.handler, "summary": operation.summary}
    if operation.who is Who.OPERATOR:
        described["description"] = "For root, the agent's own user and members of the socket's group."
    if operation.who is not Who.PUBLIC:
        described["x-policy-rule"] = operation.rule
    described["parameters"] = _parameters(operation)
    if operation.request:
        described["requestBody"] = {"required": True, "content": _content(operation.request, (JSON,))}
    described["responses"] = _responses(operation)
    return described


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    found = [
        {"name": name, "in": "path", "required": True, "description": _SAID[name], "schema": _FORMS[name]}
        for name in _ARGUMENTS.findall(operation.path)
    ]
    if operation.versioned:
        found.append(_header(versions.HEADER, "for example: devagent 1.0; without it, the oldest version"))
    if operation.waits:
        found.append(_header("Prefer", "wait=S: answer after S seconds at the latest; respond-async: at once"))
    return found


def _header(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}


def _responses(operation: Operation) -> dict[str, Any]:
    content = _content(operation.response, operation.media)
    found: dict[str, Any] = {"200": {"description": "done", "content": content}}
    if operation.handler == "unprepare":
        found = {"204": {"description": "nothing is prepared"}}
    if operation.handler == "prepare":
        found["409"] = {"description": "prepared with another body", "content": _content("errors", (JSON,))}
    if operation.waits:
        found["202"] = {"description": "not done yet; it goes on", "content": content}
    if operation.handler == "healthcheck":
        found["503"] = {"description": "it does not work, with the reasons", "content": content}
    found["default"] = {"description": "an error", "content": _content("errors", (JSON,))}
    return found


def _content(name: str | None, media: tuple[str, ...]) -> dict[str, Any]:
    return {each: {"schema": _reference(name) if name and each == JSON else {}} for each in media}


def _reference(name: str) -> dict[str, str]:
    whole, _, part = name.partition("#")
    return {"$ref": f"{_COMPONENTS}{whole}" + (f"/$defs/{part}" if part else "")}


def _component(name: str) -> Any:
    """Gives a schema as a component: its references hold where it now stands."""
    whole = {key: value for key, value in schemas.schema(name).items() if key not in ("$schema", "$id")}
    return _moved(whole, f"{_COMPONENTS}{name}/")


def _moved(node: Any, base: str) -> Any:
    if isinstance(node, dict):
        return {
            key: f"{base}{value[2:]}" if key == "$ref" and isinstance(value, str) else _moved(value, base)
            for key, value in node.items()
        }
    return [_moved(each, base) for each in node] if isinstance(node, list) else node


if __name__ == "__main__":
    sys.stdout.write(text())
