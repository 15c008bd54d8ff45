# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A checkout of this tree as it is, with one commit, in a folder of its own: builds write into where they run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

REPOSITORY = Path(__file__).parents[2]
WHO = {
    "GIT_AUTHOR_NAME": "test",
    "GIT_AUTHOR_EMAIL": "test@example.org",
    "GIT_COMMITTER_NAME": "test",
    "GIT_COMMITTER_EMAIL": "test@example.org",
}


def run(*command: str | Path, folder: Path, environment: Mapping[str, str] | None = None, limit_s: float = 300) -> str:
    """Runs a command and gives what it prints, without the last line's end. Raises AssertionError if it fails."""
    env = {**os.environ, **(environment or {})}
    ran = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=limit_s)
    assert ran.returncode == 0, f"{command}: {ran.stdout[-4000:]}{ran.stderr[-4000:]}"
    return ran.stdout.rstrip("\n")


@dataclass(frozen=True)
class Checkout:
    """A checkout, and the files that are in its commit."""

    folder: Path
    files: frozenset[str]

    @classmethod
    def of(cls, source: Path, folder: Path) -> Self:
        """Makes one of what stands in `source` and is not ignored, committed or not."""
        listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", folder=source)
        files = {name for name in listed.split("\0") if name and name != ".venv" and os.path.lexists(source / name)}
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, folder / name, follow_symlinks=False)
        run("git", "init", "-q", "-b", "main", folder=folder)
        run("git", "add", "-A", folder=folder)
        run("git", "commit", "-q", "-m", "all of it", folder=folder, environment=WHO)
        return cls(folder, frozenset(files))

    def dist(self, out: Path) -> tuple[Path, Path]:
        """Makes the sdist and the wheel."""
        said = run("tools/dist", out, folder=self.folder, environment={"PYTHON": sys.executable})
        sdist, wheel = map(Path, said.splitlines()[-2:])
        return sdist, wheel
