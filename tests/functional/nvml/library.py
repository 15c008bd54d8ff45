# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Builds the stand-in for libnvidia-ml.so.1, and asks it by the genuine pynvml in a process of its own.

The process must be a new one: the loader looks at LD_LIBRARY_PATH only when a program starts.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from devagent import nvml
from devagent.discovery import Discovery
from devagent.nvml import LIBRARY
from devagent.sources.apart import Outcome

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]
NEWEST = 575


@cache
def build(version: int) -> Path:
    """Gives the directory of the library that a driver of this version brings; builds it once per run."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    top = Path(tempfile.mkdtemp(prefix=f"nvml-{version}-"))
    atexit.register(shutil.rmtree, top)
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", f"-DLIBRARY={version}"]
    subprocess.run([*command, f"-Wl,-soname,{LIBRARY}", "-o", top / LIBRARY, HERE / "fake_nvml.c"], check=True)
    return top


class Nvml:
    """A host's NVML; `closed` counts the sessions that were ended in order."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.state, self.sessions = top / "nvml.state", top / "nvml.closed"
        self.kept: dict[str, str] = {}

    @property
    def closed(self) -> int:
        return len(self.sessions.read_text().splitlines()) if self.sessions.exists() else 0

    def says(self, *lines: str) -> None:
        """Sets what there is; fake_nvml.c explains the lines."""
        self.state.write_text("driver 575.57.08\n" + "".join(f"{line}\n" for line in lines))

    @property
    def instances(self) -> list[tuple[int, int, bool]]:
        """The GPU instances that there are, each with profile id, first slice, and whether it is a MIG device."""
        rows = [line.split() for line in self.state.read_text().splitlines() if line.startswith("instance ")]
        return sorted((int(row[2]), int(row[3]), row[4:5] != ["0"]) for row in rows)

    def serve(self, monkeypatch: pytest.MonkeyPatch, version: int = NEWEST) -> None:
        """Has every process that is forked from now on find the library when it loads pynvml."""
        path, load = build(version) / LIBRARY, nvml._load

        def loading() -> Any:
            assert os.getpid() != own, "NVML is used in a process of its own"
            ctypes.CDLL(str(path))  # the loader knows it by its name from then on
            return load()

        own = os.getpid()
        monkeypatch.setattr(nvml, "_load", loading)
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)

    @property
    def environment(self) -> dict[str, str]:
        return {"FAKE_NVML_STATE": str(self.state), "FAKE_NVML_CLOSED": str(self.sessions)}

    def look(self, *addresses: str, version: int | None = NEWEST, limit: float = 20) -> Outcome:
        """Asks about the addresses; a version of None is a host without the library."""
        outcome, self.kept = self._run(version, "look", str(limit), str(self.top), *addresses)
        assert isinstance(outcome, Outcome)
        return outcome

    def discover(self, root: Path) -> Discovery:
        """Discovers the host below `root` as if it were this machine."""
        found = self._run(NEWEST, "discover", str(root))
        assert isinstance(found, Discovery)
        return found

    def _run(self, version: int | None, *arguments: str) -> Any:
        folder = self.top / "none" if version is None else build(version)
        environment = os.environ | {
            "LD_LIBRARY_PATH": str(folder),
            "PYTHONPATH": str(REPOSITORY),
            **self.environment,
        }
        command = [sys.executable, "-W", "error", str(HERE / "asked.py"), *arguments]
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, timeout=60)
        return pickle.loads(done.stdout)
