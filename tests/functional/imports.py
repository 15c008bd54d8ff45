# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a run of the command imports, as python itself notes it."""

from __future__ import annotations

import subprocess
import sys

from .conftest import REPOSITORY

HEAVY = {"oslo_config", "keystoneauth1", "requests", "sqlalchemy", "jsonschema", "yaml", "placement", "rich"}


def imported(*arguments: str, code: int = 0) -> set[str]:
    """Gives the top-level modules that a run of the command imports, as python itself notes them."""
    return noted("-m", "devagent", *arguments, code=code)


def noted(*arguments: str, code: int = 0) -> set[str]:
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    # import time:       123 |        456 |   package.module
    names = (line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {name.partition(".")[0] for name in names}
