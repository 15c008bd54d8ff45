# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A real nova-compute in a process of its own, in the environment that tools/nova-venv makes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

REPOSITORY: Final = Path(__file__).parents[1]
PYTHON: Final = Path(os.environ.get("DEVAGENT_NOVA_PYTHON", REPOSITORY / ".venv" / "nova" / "bin" / "python"))
"""The Python that can import `nova`: $DEVAGENT_NOVA_PYTHON, else that of tools/nova-venv."""

MISSING: Final = (
    f"no Nova: {PYTHON} is not there (tools/nova-venv .venv/nova makes it, $DEVAGENT_NOVA_PYTHON names one)"
)

_WRITES: Final = ("POST", "PUT", "DELETE", "PATCH")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one call: what it gave or raised, how long it took, what it asked of Placement and logged."""

    gives: Any
    raised: str | None
    text: str
    seconds: float
    requests: list[tuple[str, str]]
    logged: list[str]

    @property
    def writes(self) -> list[tuple[str, str]]:
        """The requests that could change something."""
        return [(method, url) for method, url in self.requests if method in _WRITES]


class Nova:
    """Calls the methods of `nova_process.Compute` by name."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._line()  # it is ready

    def call(self, method: str, **arguments: object) -> Answer:
        """Makes one call and waits for its answer; what Nova raises is in there."""
        pipe = _open(self._process.stdin)
        pipe.write(json.dumps({"call": method, "with": arguments}) + "\n")
        pipe.flush()
        raw = json.loads(self._line())
        raw["requests"] = [(method, url) for method, url in raw["requests"]]
        return Answer(**raw)

    def _line(self) -> str:
        line = _open(self._process.stdout).readline()
        if not line:
            raise RuntimeError(f"the Nova process ended with {self._process.wait()}; its words are on stderr")
        return line


@contextmanager
def running(program: str = "nova_process.py", *arguments: str) -> Iterator[Nova]:
    """Starts the process, which takes some seconds, and ends it with the `with`; or that of another `program` here."""
    # -P: this folder has modules of names that Nova's libraries use too.
    command = [str(PYTHON), "-P", str(Path(__file__).with_name(program)), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Nova(process)
        finally:
            _open(process.stdin).close()  # the end of its input is the end of it


def _open(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
