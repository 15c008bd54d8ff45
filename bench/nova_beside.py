# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A real nova-compute in a process of its own, in the environment that tools/nova-venv makes."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from bench import beside
from bench.beside import REPOSITORY, Answer
from bench.beside import Peer as Nova

__all__ = ["MISSING", "PYTHON", "REPOSITORY", "Answer", "Nova", "running"]

PYTHON: Final = Path(os.environ.get("DEVAGENT_NOVA_PYTHON", REPOSITORY / ".venv" / "nova" / "bin" / "python"))
"""The Python that can import `nova`: $DEVAGENT_NOVA_PYTHON, else that of tools/nova-venv."""

MISSING: Final = (
    f"no Nova: {PYTHON} is not there (tools/nova-venv .venv/nova makes it, $DEVAGENT_NOVA_PYTHON names one)"
)


def running(program: str = "nova_process.py", *arguments: str) -> AbstractContextManager[Nova]:
    """Starts the process, which takes some seconds, and ends it with the `with`; or that of another `program` here."""
    return beside.running(PYTHON, program, *arguments)
