# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/openapi.json out as Markdown, where api-reference.md says so, while the pages are made.

    "/v1/rescan": {"post": {"summary": "Looks at the whole host now", "x-policy-rule": "devagent:rescan:start",
        "parameters": [{"name": "Prefer", "in": "header", "description": "..."}],
        "responses": {"200": {"description": "done", "content": {"application/json": {"schema": {"$ref": "..."}}}}}}}

What of OpenAPI and JSON Schema that file does not use is not understood here either.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sphinx.application import Sphinx

PAGE: Final = "api-reference"
MARK: Final = "<!-- openapi.json -->"
_COMPONENTS: Final = "#/components/schemas/"

Schema = dict[str, Any]


def setup(app: Sphinx) -> dict[str, bool]:
    """Has the page filled when Sphinx reads it."""
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True}


def _fill(app: Sphinx, page: str, source: list[str]) -> None:
    if page == PAGE:
        path = Path(app.srcdir, "openapi.json")
        app.env.note_dependency(str(path))
        source[0] = source[0].replace(MARK, Reference(json.loads(path.read_text())).text())


class Reference:
    """The text of one OpenAPI document: first the calls, then what their bodies hold."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._paths: dict[str, dict[str, Any]] = document["paths"]
        self._schemas: dict[str, Schema] = document["components"]["schemas"]

    def text(self) -> str:
        """Gives the Markdown."""
        return "\n".join([
            "## Calls", "",
            *(line for path, calls in self._paths.items() for method, call in calls.items()
              for line in self._call(f"{method.upper()} {path}", call)),
            "## Bodies", "",
            *(line for name in self._schemas for line in self._body(name)),
        ])  # fmt: skip

    def _call(self, title: str, call: dict[str, Any]) -> Iterator[str]:
        yield from (f"### {title}", "", f"{call['summary']}.", "")
        if "description" in call:
            yield from (f"{call['description']}", "")
        if "x-policy-rule" in call:
            yield from (f"Over TLS with Keystone: the rule `{call['x-policy-rule']}`.", "")
        yield from ("| in | what | |", "| --- | --- | --- |")
        for parameter in call["parameters"]:
            yield _row(parameter["in"], f"`{parameter['name']}`", parameter["description"])
        if "requestBody" in call:
            yield _row("body", self._content(call["requestBody"]["content"]), "")
        for status, answer in call["responses"].items():
            named = "else" if status == "default" else status
            yield _row(named, self._content(answer.get("content", {})), answer["description"])
        yield ""

    def _content(self, content: dict[str, Any]) -> str:
        kinds = (self._type(each["schema"]) if each["schema"] else f"`{media}`" for media, each in content.items())
        return " or ".join(kinds)

    def _body(self, name: str) -> Iterator[str]:
        whole = self._schemas[name]
        yield from (f"({_anchor(name)})=", f"### {name}", "")
        yield from self._table(whole)
        for part, schema in whole.get("$defs", {}).items():
            if _has_parts(schema):
                yield from (f"({_anchor(f'{name}/$defs/{part}')})=", f"#### {name}: {part}", "")
                yield from self._table(schema)

    def _table(self, schema: Schema) -> Iterator[str]:
        if "description" in schema:
            yield from (f"{_sentence(schema['description'])}", "")
        yield from ("| field | is | |", "| --- | --- | --- |")
        yield from self._rows(schema, "")
        yield ""

    def _rows(self, schema: Schema, above: str) -> Iterator[str]:
        """Gives a row for each field, those of objects within it after it: `groups[].provider`."""
        required = schema.get("required", ())
        for name, field in schema.get("properties", {}).items():
            said = field.get("description", "")
            if name not in required:
                said = f"{said}; may be missing" if said else "may be missing"
            yield _row(f"`{above}{name}`", self._type(field), said)
            for inner, path in self._inside(field, f"{above}{name}"):
                yield from self._rows(inner, f"{path}.")

    def _inside(self, schema: Schema, path: str) -> Iterator[tuple[Schema, str]]:
        """Gives the schemas of which a field is made, unless they stand by themselves, each with the path to it."""
        if "$ref" in schema:
            schema = self._resolved(schema["$ref"])
            if _has_parts(schema):
                return
        yield schema, path
        if "items" in schema:
            yield from self._inside(schema["items"], f"{path}[]")
        if isinstance(schema.get("additionalProperties"), dict):
            yield from self._inside(schema["additionalProperties"], f"{path}.*")
        for each in (*schema.get("oneOf", ()), *schema.get("anyOf", ())):
            yield from self._inside(each, path)

    def _type(self, schema: Schema) -> str:
        """Says in words what a schema takes: `text or null`, `list of handle`, with a link to what has fields."""
        if "$ref" in schema:
            return self._reference(schema["$ref"])
        if "const" in schema:
            return f"`{json.dumps(schema['const'])}`"
        if "enum" in schema:
            return ", ".join(f"`{json.dumps(each)}`" for each in schema["enum"])
        for choice in ("oneOf", "anyOf"):
            if choice in schema:
                return " or ".join(self._type(each) for each in schema[choice])
        if "items" in schema:
            return f"list of {self._type(schema['items'])}"
        if isinstance(schema.get("additionalProperties"), dict):
            return f"object of {self._type(schema['additionalProperties'])}"
        kinds = schema.get("type", "any")
        return " or ".join([kinds] if isinstance(kinds, str) else kinds)

    def _reference(self, reference: str) -> str:
        path = reference.removeprefix(_COMPONENTS)
        name, _, part = path.partition("/$defs/")
        schema = self._resolved(reference)
        return f"[{part or name}](#{_anchor(path)})" if not part or _has_parts(schema) else self._type(schema)

    def _resolved(self, reference: str) -> Schema:
        name, _, part = reference.removeprefix(_COMPONENTS).partition("/$defs/")
        schema: Schema = self._schemas[name]["$defs"][part] if part else self._schemas[name]
        return schema


def _has_parts(schema: Schema) -> bool:
    return "properties" in schema


def _anchor(path: str) -> str:
    return "body-" + path.replace("/$defs/", "-").replace("_", "-").lower()


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")
