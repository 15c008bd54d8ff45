# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A real cyborg-conductor in a process of its own, in the environment that tools/cyborg-venv makes."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from bench import beside
from bench.beside import REPOSITORY, Peer

PYTHON: Final = Path(os.environ.get("DEVAGENT_CYBORG_PYTHON", REPOSITORY / ".venv" / "cyborg" / "bin" / "python"))
"""The Python that can import `cyborg`: $DEVAGENT_CYBORG_PYTHON, else that of tools/cyborg-venv."""

MISSING: Final = (
    f"no Cyborg: {PYTHON} is not there (tools/cyborg-venv .venv/cyborg makes it, $DEVAGENT_CYBORG_PYTHON names one)"
)


def running() -> AbstractContextManager[Peer]:
    """Starts the process, which takes some seconds, and ends it with the `with`."""
    return beside.running(PYTHON, "cyborg_conductor.py")
