# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Start is part of the interface: a command imports what it needs and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import REPOSITORY
from .imports import HEAVY, imported, noted

# What `discover` stands on: of the standard library, and what finds the drivers.
GROUND = (
    "argparse, dataclasses, enum, fnmatch, json, logging, pathlib, pickle, re, selectors, stevedore, unicodedata, "
    "uuid, importlib.resources"
)
MORE = {"devagent", "fcntl", "grp", "pwd", "runpy", "signal", "tarfile"}


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("report", "--help"), ("doctor", "--help")])
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


def test_discover_imports_little_more_than_it_stands_on(hosts: dict[str, Path]) -> None:
    ground = noted("-c", f"import {GROUND}")
    more = imported("discover", "--root", str(hosts["vm"]), "-o", "json") - ground
    assert {name for name in more if not name.startswith("_")} <= MORE


def test_doctor_imports_nothing_heavy_where_nothing_is_configured(hosts: dict[str, Path]) -> None:
    found = imported("doctor", "--root", str(hosts["vm"]))
    assert "stevedore" in found
    assert found & HEAVY == set()


def test_discover_with_a_policy_imports_what_reads_it(hosts: dict[str, Path]) -> None:
    policy = str(REPOSITORY / "etc/devagent/devices.yaml")
    found = imported("discover", "--root", str(hosts["vm"]), "--policy", policy)
    assert found & HEAVY == {"jsonschema", "yaml"}
