# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The driver of examples/driver, installed as a package of its own, on the host that is described beside it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hosts.generate import generate

from .conftest import REPOSITORY, Devagent

EXAMPLE = REPOSITORY / "examples/driver"
PAGE = REPOSITORY / "docs/driver.md"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Installs the example without a network, apart from everything else."""
    source, place = tmp_path_factory.mktemp("source") / "driver", tmp_path_factory.mktemp("installed")
    shutil.copytree(EXAMPLE, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    ran = subprocess.run(
        [*pip, "--no-build-isolation", "--target", place, source], capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    return place


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(EXAMPLE / "host.yaml", tmp_path_factory.mktemp("host"))


def devices(said: str) -> dict[str, dict[str, Any]]:
    return {device["address"]: device for device in json.loads(said)["devices"]}


def test_it_is_found_by_its_entry_point_and_claims_its_devices(
    devagent_process: Devagent, installed: Path, host: Path
) -> None:
    ran = devagent_process("discover", "--root", host, "-o", "json", PYTHONPATH=str(installed))
    assert (ran.code, ran.err) == (0, "")
    found = devices(ran.out)
    inventories = {address: device["placement"]["inventories"] for address, device in found.items()}
    (alive,), (dead,) = (inventory.values() for inventory in inventories.values())
    assert {name for inventory in inventories.values() for name in inventory} == {"CUSTOM_CORAL_EDGE_TPU"}
    assert [(each["total"], each["reserved"]) for each in (alive, dead)] == [(1, 0), (1, 1)]
    assert [device["health"]["state"] for device in found.values()] == ["healthy", "unhealthy"]
    assert found["0000:01:00.0"]["facts"] == {"apex driver": "1.2"}


def test_the_page_shows_what_it_prints(devagent_process: Devagent, installed: Path, host: Path) -> None:
    ran = devagent_process("discover", "--root", host, "-o", "tree", PYTHONPATH=str(installed))
    assert ran.out in PAGE.read_text()


def test_without_it_the_devices_are_none(devagent_process: Devagent, host: Path) -> None:
    assert devices(devagent_process("discover", "--root", host, "-o", "json").out) == {}


def test_it_has_fifty_lines_at_most_and_stands_on_the_contract_alone() -> None:
    text = (EXAMPLE / "devagent_coral.py").read_text()
    assert len(text.splitlines()) <= 50
    ours = [line.split()[1] for line in text.splitlines() if line.startswith("from devagent")]
    assert {name for name in ours if name != "devagent.driver" and not name.startswith("devagent.model.")} == set()
