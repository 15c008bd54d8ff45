# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The JSON Schemas of the API by name: those of the documents are files of devagent/schemas, the small ones stand here.

`health#device` is what stands in `$defs` of `health` as `device`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

Schema = Mapping[str, Any]

_FILES: Final = ("discover", "health", "preparations", "providers", "status")
_TEXT: Final = {"type": "string"}
_REASON: Final = {
    "type": "string",
    "pattern": r"^(?![\s\S]*[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff])[\s\S]*\S",
    "maxLength": 255,
    "description": "a line of 1 to 255 characters that says why",
}
_YEAR: Final = 366 * 24 * 3600
_SHOWN: Final = 80

_SMALL: Final[Mapping[str, Schema]] = {
    "versions": {
        "type": "object",
        "required": ["versions"],
        "properties": {
            "versions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["id", "status", "min_version", "max_version", "links"],
                    "properties": {
                        "id": _TEXT,
                        "status": {"enum": ["CURRENT"]},
                        "min_version": _TEXT,
                        "max_version": _TEXT,
                        "links": {"type": "array", "items": {"type": "object", "required": ["rel", "href"]}},
                    },
                },
            }
        },
    },
    "checks": {
        "type": "object",
        "additionalProperties": False,
        "required": ["detailed", "reasons"],
        "properties": {"detailed": {"const": False}, "reasons": {"type": "array", "items": _TEXT}},
    },
    "override": {
        "type": "object",
        "description": "an object with state and reason",
        "additionalProperties": False,
        "required": ["state", "reason"],
        "properties": {
            "state": {"enum": ["healthy", "suspect", "unhealthy"]},
            "reason": _REASON,
            "expires_in": {
                "type": "integer",
                "minimum": 1,
                "maximum": _YEAR,
                "description": "seconds, up to a year; without it the override stays until it is cleared",
            },
        },
    },
    "hints": {
        "type": "object",
        "description": "an object with hints",
        "additionalProperties": False,
        "required": ["hints"],
        "properties": {
            "hints": {
                "type": "array",
                "minItems": 1,
                "maxItems": 256,
                "items": {
                    "type": "object",
                    "description": "an object with consumer and event",
                    "additionalProperties": False,
                    "required": ["consumer", "event"],
                    "properties": {
                        "consumer": {
                            "type": "string",
                            "pattern": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
                            "description": "a consumer's UUID, as in Placement",
                        },
                        "event": {
                            "type": "string",
                            "pattern": "^[A-Za-z0-9_.-]{1,128}$",
                            "description": "what has happened, for the log: instance.delete.end",
                        },
                    },
                },
            },
        },
    },
    "hinted": {
        "type": "object",
        "additionalProperties": False,
        "required": ["known"],
        "properties": {"known": {"type": "integer", "minimum": 0, "description": "how many have something here"}},
    },
    "forgetting": {
        "type": "object",
        "description": "an object with reason",
        "additionalProperties": False,
        "required": ["reason"],
        "properties": {
            "reason": _REASON,
            "offer": {"type": "boolean", "description": "whether the devices are offered again as they are, unwiped"},
        },
    },
    "forgotten": {
        "type": "object",
        "additionalProperties": False,
        "required": ["consumer", "devices"],
        "properties": {
            "consumer": _TEXT,
            "devices": {
                "type": "array",
                "items": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["provider", "functions", "address", "withheld"],
                    "properties": {
                        "provider": _TEXT,
                        "functions": {"type": "array", "items": _TEXT, "description": "what the consumer had of it"},
                        "address": {"type": ["string", "null"], "description": "null if it is not there now"},
                        "withheld": {"type": "boolean", "description": "whether it is unhealthy until that is cleared"},
                    },
                },
            },
        },
    },
    "rescan": {
        "type": "object",
        "additionalProperties": False,
        "required": ["done"],
        "properties": {
            "done": {"type": "boolean", "description": "whether the look asked for ended within the time that it had"},
            "devices": {"type": "integer", "minimum": 0},
            "problems": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["source", "device", "problem"],
                    "properties": {"source": _TEXT, "device": {"type": ["string", "null"]}, "problem": _TEXT},
                },
            },
        },
        "if": {"properties": {"done": {"const": True}}},
        "then": {"required": ["devices", "problems"]},
    },
    "errors": {
        "type": "object",
        "required": ["errors"],
        "properties": {
            "errors": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["status", "code", "title", "detail", "request_id"],
                    "properties": {
                        "status": {"type": "integer", "minimum": 400, "maximum": 599},
                        "code": _TEXT,
                        "title": _TEXT,
                        "detail": _TEXT,
                        "request_id": _TEXT,
                        "min_version": _TEXT,
                        "max_version": _TEXT,
                        "type": {"enum": ["retry", "permanent", "invalid"]},
                        "address": {"type": ["string", "null"]},
                        "holders": {"type": "array", "items": {"type": "object"}},
                    },
                },
            }
        },
    },
}

NAMES: Final = (*sorted((*_FILES, *_SMALL)),)


@cache
def schema(name: str) -> Schema:
    """Gives a whole schema by its name."""
    if name in _SMALL:
        return _SMALL[name]
    text = resources.files("devagent").joinpath(f"schemas/{name}.schema.json").read_text(encoding="utf-8")
    found: Schema = json.loads(text)
    return found


def validator(name: str) -> Draft202012Validator:
    """Gives what checks a document against a schema, or against one definition of it."""
    whole, _, part = name.partition("#")
    if not part:
        return Draft202012Validator(schema(whole))
    return Draft202012Validator({**schema(whole)["$defs"][part], "$defs": schema(whole)["$defs"]})


def mistake(name: str, document: Any) -> str | None:
    """Says what is wrong with a document, beginning with where; nothing if it fits."""
    error = best_match(validator(name).iter_errors(document))
    return None if error is None else ": ".join(_explain(error))


def _explain(error: ValidationError) -> Iterator[str]:
    where = ".".join(map(str, error.absolute_path))
    rules: Mapping[str, Any] = error.schema if isinstance(error.schema, Mapping) else {}
    document: Any = error.instance
    if error.validator == "additionalProperties":
        known = list(rules["properties"])
        unknown = next(str(key) for key in document if key not in known)
        yield ".".join(filter(None, (where, _short(unknown))))
        yield f"is no key that is known here; known are {', '.join(known)}"
    elif error.validator == "required":
        missing = next(key for key in rules["required"] if key not in document)
        yield ".".join(filter(None, (where, missing)))
        yield "is missing"
    else:
        yield where or "the body"
        expected = rules.get("description") or " or ".join(map(str, rules.get("enum", ()))) or error.message
        yield f"is {_short(json.dumps(document))}; expected is {expected}"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
