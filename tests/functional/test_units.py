# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What systemd says of the files that it is given: the unit, its sandbox, the user, the rights of the configuration."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import REPOSITORY

UNITS = REPOSITORY / "etc/systemd"
SERVICE, LISTENER = "devagent.service", "devagent-listener.service"
WIPING = "devagent.service.d/wiping.conf.sample"
EXPOSED, EXPOSED_WITH_WIPING = {SERVICE: 31, LISTENER: 11}, 33
"""The most that `systemd-analyze security` may say, times ten; docs/security.md and docs/nova.md tell it."""
TOLD = {SERVICE: "docs/security.md", LISTENER: "docs/nova.md"}

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("systemd-analyze", "systemd-sysusers", "systemd-tmpfiles"))),
    reason="systemd's tools are not installed (apt-get install systemd)",
)


@pytest.fixture(params=[SERVICE, LISTENER])
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Gives each unit where nothing else is, starting a program that every machine has."""
    unit = Path(shutil.copy(UNITS / request.param, tmp_path))
    drop_in = tmp_path / f"{request.param}.d/program.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nExecStart=\nExecStart=/bin/true\n")
    return unit


def tool(*command: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)


def with_wiping(unit: Path) -> Path:
    """Adds the drop-in that allows wiping, as docs/security.md says."""
    shutil.copy(UNITS / WIPING, unit.parent / WIPING.removesuffix(".sample"))
    return unit


def settings(unit: Path) -> dict[str, list[str]]:
    """Gives the values of each setting of a unit."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        if match := re.fullmatch(r"([A-Za-z]+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


def test_systemd_understands_the_unit(unit: Path) -> None:
    ran = tool("systemd-analyze", "verify", "--man=no", unit)
    # It says what it does not understand, and ends with 0 all the same.
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_mistake_in_the_unit_would_be_seen(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("ProtectSystem=strict", "ProtectSystem=sometimes\nProtectNothing=yes"))
    said = tool("systemd-analyze", "verify", "--man=no", unit).stderr
    assert "sometimes" in said
    assert "ProtectNothing" in said


@pytest.mark.parametrize("unit", [SERVICE], indirect=True)
@pytest.mark.parametrize("sample", sorted(UNITS.glob(f"{SERVICE}.d/*.sample")), ids=lambda path: path.name)
def test_a_drop_in_gives_one_capability_and_nothing_else_but_devices(unit: Path, sample: Path) -> None:
    shutil.copy(sample, unit.parent / f"{SERVICE}.d" / sample.name.removesuffix(".sample"))
    ran = tool("systemd-analyze", "verify", "--man=no", unit)
    assert (ran.returncode, ran.stderr) == (0, "")
    found = settings(sample)
    assert found.keys() - {"DeviceAllow"} == {"AmbientCapabilities", "CapabilityBoundingSet"}
    assert found["AmbientCapabilities"] == found["CapabilityBoundingSet"] == ["CAP_SYS_ADMIN"]


def test_the_sandbox_is_as_tight_as_the_documentation_says(unit: Path) -> None:
    _is_exposed(unit, EXPOSED[unit.name])


@pytest.mark.parametrize("unit", [SERVICE], indirect=True)
def test_the_sandbox_that_permits_wiping_is_as_tight_as_the_documentation_says(unit: Path) -> None:
    _is_exposed(with_wiping(unit), EXPOSED_WITH_WIPING)


def _is_exposed(unit: Path, exposed: int) -> None:
    ran = tool("systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={exposed}", unit)
    score = re.search(r"Overall exposure level for \S+: ([\d.]+)", ran.stdout)
    assert score is not None, ran.stderr
    assert ran.returncode == 0, f"the exposure is {score[1]}"
    assert f"an exposure of {score[1]}" in (REPOSITORY / TOLD[unit.name]).read_text()


def test_the_listener_has_no_capability() -> None:
    assert settings(UNITS / LISTENER)["CapabilityBoundingSet"] == [""]


@pytest.mark.parametrize("name", [SERVICE, WIPING])
def test_no_capability_is_received_that_is_not_in_the_table_of_the_documentation(name: str) -> None:
    found = settings(UNITS / name)
    assert found["AmbientCapabilities"] == found["CapabilityBoundingSet"]
    text = (REPOSITORY / "docs/security.md").read_text()
    for capability in found["AmbientCapabilities"][0].split():
        assert f"| `{capability}` |" in text


def test_the_user_is_made_and_may_read_the_configuration_with_the_password(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    assert tool("systemd-sysusers", f"--root={tmp_path}", "-", text=_text("devagent.sysusers")).returncode == 0
    group = re.search(r"^devagent:[^:]*:(\d+):", (tmp_path / "etc/group").read_text(), re.MULTILINE)
    assert group is not None
    config = tmp_path / "etc/devagent/devagent.conf"
    config.parent.mkdir()
    config.touch()
    ran = tool("systemd-tmpfiles", f"--root={tmp_path}", "--create", "-", text=_text("devagent.tmpfiles"))
    assert ran.stderr == ""
    status = config.stat()
    assert (status.st_mode & 0o777, status.st_gid) == (0o640, int(group[1]))


def _text(name: str) -> str:
    return (UNITS / name).read_text()
