# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Finds the operation for a method and a path."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from devagent.api.faults import Code, Fault
from devagent.api.operations import Operation
from devagent.api.versions import Version

_ARGUMENT: Final = re.compile(r"\{(\w+)\}")


class Routes:
    """The paths of a table of operations; HEAD is allowed wherever GET is."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._paths: dict[str, dict[str, Operation]] = {}
        for operation in operations:
            self._paths.setdefault(operation.path, {})[operation.method] = operation
        self._patterns = [(_pattern(path), methods) for path, methods in self._paths.items()]

    def find(self, method: str, path: str) -> tuple[Operation, dict[str, str]]:
        """Gives the operation, and the arguments in its path. Raises Fault: 404, or 405 with what is allowed."""
        for pattern, methods in self._patterns:
            found = pattern.fullmatch(path)
            if found:
                return _method(methods, method, path), found.groupdict()
        raise Fault(404, Code.PATH_UNKNOWN, f"nothing is at {path}; GET /v1/openapi.json lists what there is")


def check_version(operation: Operation, version: Version) -> None:
    """Raises Fault (404) for what there was not yet in that version."""
    if operation.versioned and version < operation.since:
        detail = "{} {} is there from version {}.{} on".format(operation.method, operation.path, *operation.since)
        raise Fault(404, Code.PATH_UNKNOWN, detail)


def _pattern(path: str) -> re.Pattern[str]:
    # Every other part of the split is an argument's name.
    parts = _ARGUMENT.split(path)
    texts = [f"(?P<{part}>[^/]+)" if number % 2 else re.escape(part) for number, part in enumerate(parts)]
    return re.compile("".join(texts))


def _method(methods: dict[str, Operation], method: str, path: str) -> Operation:
    operation = methods.get("GET" if method == "HEAD" else method)
    if operation is None:
        allowed = sorted({*methods, *(["HEAD"] if "GET" in methods else [])})
        detail = f"{method} does nothing at {path}; allowed are {', '.join(allowed)}"
        raise Fault(405, Code.METHOD_UNKNOWN, detail, headers={"Allow": ", ".join(allowed)})
    return operation
