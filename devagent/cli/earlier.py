# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads what `--diff` names: an earlier document of `discover`, as JSON or YAML, or a captured host."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from devagent.document import SCHEMA_VERSION, document
from devagent.errors import ConfigurationError
from devagent.sources.captures.archive import SUFFIXES
from devagent.view import Look

_DEEPEST: Final = 50


def read(path: Path, look: Callable[[Path], Look]) -> Mapping[str, Any]:
    """Gives the document in `path`; a captured host is looked at with `look`.

    Raises ConfigurationError if it is neither.
    """
    if path.name.endswith(SUFFIXES) or os.path.isdir(path):  # noqa: PTH112 - Path raises for a name that is none
        return document(look(path))
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise _refused(path, "is neither text nor a capture") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such file"
        raise ConfigurationError(f"{path}: {(reason or str(error)).lower()}") from None
    return _checked(path, _parsed(path, text))


def _parsed(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise _refused(path, "is nested too deeply") from None
    except ValueError:
        return _yaml(path, text)


def _yaml(path: Path, text: str) -> Any:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_shape(yaml.parse(text, Loader=loader))
        return yaml.load(text, Loader=loader)  # noqa: S506 - either loader is the safe one
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise _refused(path, f"is neither JSON nor YAML: {reason}") from None


def _check_shape(events: Iterable[Any]) -> None:
    """Refuses what would never end, or ends the loader in C with the whole process: aliases and deep nesting."""
    depth = 0
    for event in events:
        name = type(event).__name__
        depth += name.endswith(("MappingStartEvent", "SequenceStartEvent"))
        depth -= name.endswith(("MappingEndEvent", "SequenceEndEvent"))
        if name == "AliasEvent":
            raise ValueError("it has aliases, which discover never writes")
        if depth > _DEEPEST:
            raise ValueError("it is nested too deeply")


def _checked(path: Path, found: Any) -> Mapping[str, Any]:
    """Makes sure of what the comparison relies on; anything else may differ between versions of devagent."""
    if not isinstance(found, dict) or "schema_version" not in found:
        raise _refused(path, "holds something else")
    version = found["schema_version"]
    if version != SCHEMA_VERSION or isinstance(version, bool):
        text = f"is of schema version {str(version)[:20]}, and only {SCHEMA_VERSION} can be compared"
        raise _refused(path, text)
    for name in ("devices", "problems"):
        members = found.get(name, [])
        if not isinstance(members, list) or not all(isinstance(each, dict) for each in members):
            raise _refused(path, f"has no list of {name}")
    if "devices" not in found or not all(isinstance(each.get("address"), str) for each in found["devices"]):
        raise _refused(path, "has devices without an address, or none at all")
    notes = found.get("notes", [])
    if not isinstance(notes, list) or not all(isinstance(each, str) for each in notes):
        raise _refused(path, "has no list of notes")
    return found


def _refused(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(f"{path}: {why}; --diff wants what `devagent discover -o json` or -o yaml printed")
