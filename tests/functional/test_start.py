# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Start is part of the interface: a command imports what it needs and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import REPOSITORY

HEAVY = {"oslo_config", "keystoneauth1", "requests", "sqlalchemy", "jsonschema", "yaml", "placement", "rich"}


def imported(*arguments: str) -> set[str]:
    """Gives the top-level modules that a run of the command imports, as python itself notes them."""
    command = [sys.executable, "-X", "importtime", "-m", "devagent", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    # import time:       123 |        456 |   package.module
    names = (line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("report", "--help")])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    found = imported(*arguments)
    assert "devagent" in found
    assert found & HEAVY == set()
    assert "stevedore" not in found


@pytest.mark.parametrize("form", ["tree", "table", "json"])
def test_discover_imports_nothing_heavy(hosts: dict[str, Path], form: str) -> None:
    found = imported("discover", "--root", str(hosts["vm"]), "-o", form)
    assert "stevedore" in found  # the note of imports is complete
    assert found & HEAVY == set()


def test_discover_with_a_policy_imports_what_reads_it(hosts: dict[str, Path]) -> None:
    policy = str(REPOSITORY / "etc/devagent/devices.yaml")
    found = imported("discover", "--root", str(hosts["vm"]), "--policy", policy)
    assert found & HEAVY == {"jsonschema", "yaml"}
