# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads devices.yaml: text to Policy, every mistake named with its line and key."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator, Sequence
from importlib import resources
from typing import Any, cast

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from devagent.cause import system_words
from devagent.errors import ConfigurationError, PolicyError
from devagent.inventory.policy_rule import mistakes, rule
from devagent.model.policy import Policy, Rule

Path = Sequence[str | int]

_MAX_NODES = 100_000
_SHOWN = 80


def read(path: pathlib.Path) -> Policy:
    """Reads a policy file. Raises ConfigurationError if it cannot be read, PolicyError if it is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = system_words(error) if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(f"the policy {path} cannot be read: {reason}") from None
    return parse(text, str(path))


def parse(text: str, origin: str) -> Policy:
    """Gives the policy that `text` holds; `origin` is the file's name, for messages.

    Raises PolicyError.
    """
    root = _compose(text, origin)
    document: Any = _construct(root, origin) if root is not None else None
    for error in sorted(_validator().iter_errors(document), key=lambda error: _line(root, error.absolute_path)):
        path, problem = _explain(error)
        raise PolicyError(origin, _line(root, path), _key(path), problem)
    rules = []
    for number, raw in enumerate(document["rules"]):
        for place, problem in mistakes(raw):
            path = ("rules", number, *place)
            raise PolicyError(origin, _line(root, path), _key(path), problem)
        rules.append(rule(raw))
    _check_names(rules, root, origin)
    return Policy(tuple(rules), origin)


def schema() -> Any:
    """Gives the JSON Schema of devices.yaml that devagent ships."""
    return json.loads(resources.files("devagent").joinpath("schemas/policy.schema.json").read_text())


def _validator() -> Draft202012Validator:
    return Draft202012Validator(schema())


def _construct(root: yaml.Node, origin: str) -> Any:
    """Turns nodes to values; YAML finds dates, numbers and merges in texts, and fails where they are none."""
    try:
        return yaml.SafeLoader("").construct_document(root)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise PolicyError(origin, line, "", f"is not YAML: {error.problem or error.context}") from None
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise PolicyError(origin, 1, "", f"holds a value that YAML cannot read ({error}); put it in quotes") from None


def _compose(text: str, origin: str) -> yaml.Node | None:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None:
            _refuse_odd_nodes(root, origin)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise PolicyError(origin, line, "", f"is not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise PolicyError(origin, 1, "", f"is not YAML: {error}") from None
    return root


def _refuse_odd_nodes(root: yaml.Node, origin: str) -> None:
    """Refuses what YAML lets through without a word: a key given twice, and tags of other programs."""
    for count, (path, node) in enumerate(_walk(root, ())):
        if count > _MAX_NODES:
            raise PolicyError(origin, 1, "", f"holds more than {_MAX_NODES} values (aliases counted each time)")
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.startswith("tag:yaml.org,2002:python/"):
            problem = f"has the tag {node.tag}, which means nothing here"
            raise PolicyError(origin, node.start_mark.line + 1, _key(path), problem)
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise PolicyError(origin, key.start_mark.line + 1, _key(path), "has a key that is no text")
                if key.value in seen:
                    raise PolicyError(origin, key.start_mark.line + 1, _key((*path, key.value)), "is given twice")
                seen.add(key.value)


def _walk(node: yaml.Node, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], yaml.Node]]:
    yield path, node
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _walk(value, (*path, str(key.value)))
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from _walk(value, (*path, number))


def _line(root: yaml.Node | None, path: Path) -> int:
    """Gives the line of the node at `path`, or of the nearest one above it that exists."""
    if root is None:
        return 1
    lines = {found: node.start_mark.line + 1 for found, node in _walk(root, ())}
    parts = tuple(path)
    while parts not in lines:
        parts = parts[:-1]
    return lines[parts]


def _key(path: Path) -> str:
    """Writes ("rules", 0, "match", "vendor") as `rules[0].match.vendor`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _explain(error: ValidationError) -> tuple[tuple[str | int, ...], str]:
    """Says what is wrong in the words of the schema's own descriptions."""
    path, instance, rules = tuple(error.absolute_path), cast("Any", error.instance), cast("Any", error.schema)
    if error.validator == "additionalProperties":
        known = rules["properties"]
        unknown = next(str(key) for key in instance if key not in known)
        return (*path, str(unknown)), f"is no key that is known here; known are {', '.join(known)}"
    if error.validator == "required":
        missing = next(key for key in rules["required"] if key not in instance)
        return path, f"{missing} is missing"
    expected = rules.get("description")
    shown = "empty" if instance is None else _short(repr(instance))
    return path, f"is {shown}; expected is {expected}" if expected else error.message


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _check_names(rules: Sequence[Rule], root: yaml.Node | None, origin: str) -> None:
    seen: set[str] = set()
    for number, each in enumerate(rules):
        if each.name in seen:
            path = ("rules", number, "name")
            raise PolicyError(origin, _line(root, path), _key(path), f"{each.name!r} is the name of a rule above")
        seen.add(each.name)
