# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A peer's own code in a process and an environment of its own, called line by line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

REPOSITORY: Final = Path(__file__).parents[1]

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


class Peer:
    """Calls the methods of the one object of a process by name."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._line()  # it is ready

    def call(self, method: str, **arguments: object) -> Answer:
        """Makes one call and waits for its answer; what the peer raises is in there."""
        pipe = _open(self._process.stdin)
        pipe.write(json.dumps({"call": method, "with": arguments}) + "\n")
        pipe.flush()
        raw = json.loads(self._line())
        raw["requests"] = [(method, url) for method, url in raw["requests"]]
        return Answer(**raw)

    def _line(self) -> str:
        line = _open(self._process.stdout).readline()
        if not line:
            raise RuntimeError(f"the peer's process ended with {self._process.wait()}; its words are on stderr")
        return line


@contextmanager
def running(python: Path, program: str, *arguments: str) -> Iterator[Peer]:
    """Starts a program of this folder with a peer's Python, which takes some seconds, and ends it with the `with`."""
    # -P: this folder has modules of names that the peers' libraries use too.
    command = [str(python), "-P", str(Path(__file__).with_name("answering.py")), program, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Peer(process)
        finally:
            _open(process.stdin).close()  # the end of its input is the end of it


def _open(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
