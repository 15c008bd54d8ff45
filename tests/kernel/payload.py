# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The guest's second disk: this checkout's devagent, what it imports, and the agent that serves the tests."""

from __future__ import annotations

import compileall
import configparser
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from . import qemu
from .build import SCRIPTS, Lab, Say, digest

REPOSITORY: Final = Path(__file__).parents[2]
PYTHON: Final = "3.11"
"""The guest's."""
_NO_CODE: Final = shutil.ignore_patterns("__pycache__", ".*")


def payload(lab: Lab, cache: Path, folder: Path, say: Say) -> Path:
    """Makes the disk in `folder`, anew in each session: the code changes, the guest's image does not."""
    stage = folder / "payload"
    shutil.copytree(_dependencies(cache, say), stage / "lib", symlinks=True)
    shutil.copytree(REPOSITORY / "devagent", stage / "lib/devagent", ignore=_NO_CODE)
    _metadata(stage / "lib")
    shutil.copytree(REPOSITORY / "etc", stage / "etc")
    for name in ("agent.py", "command.py", "hold.py"):
        shutil.copy(SCRIPTS / "guest" / name, stage)
    qemu.stage(lab, stage / "qemu")
    command = stage / "bin/devagent"
    command.parent.mkdir()
    command.write_text('#!/bin/sh\nexec python3 -m devagent "$@"\n')
    command.chmod(0o755)
    if sys.version_info[:2] == tuple(map(int, PYTHON.split("."))):
        # Where it is the guest's Python that runs here, the guest need not compile, which takes it seconds.
        compileall.compile_dir(stage / "lib/devagent", stripdir=stage, prependdir="/opt/devagent", quiet=1)
    disk = folder / "payload.ext4"
    size = sum(path.stat().st_size + 4096 for path in stage.rglob("*"))
    with disk.open("wb") as file:
        file.truncate(size + (32 << 20))
    subprocess.run(
        ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-E", "root_owner=0:0", "-m", "0", "-d", stage, disk],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        check=True,
    )
    shutil.rmtree(stage)
    return disk


def _dependencies(cache: Path, say: Say) -> Path:
    """Installs what devagent needs at run time, for the guest's Python, once per set of versions."""
    setup = _setup()
    constraints = REPOSITORY / "constraints.txt"
    requirements = setup["options"]["install_requires"].split()
    folder = cache / f"site-{digest([constraints.read_bytes(), *(each.encode() for each in requirements)])}"
    done = folder / ".done"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        say("installing what devagent imports, for the guest")
        options = ["--quiet", "--disable-pip-version-check", "--no-input", f"--constraint={constraints}"]
        options += ["--only-binary=:all:", f"--python-version={PYTHON}", f"--target={folder}"]
        options += [f"--platform=manylinux{libc}_x86_64" for libc in ("2014", "_2_28", "_2_34")]
        command = [sys.executable, "-m", "pip", "install", *options, *requirements]
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode:
            raise RuntimeError(f"pip cannot install what devagent imports:\n{ran.stderr}")
    done.touch()
    return folder


def _metadata(lib: Path) -> None:
    """Writes what an installation would: the entry points name the drivers."""
    setup = _setup()
    info = lib / "devagent-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: devagent\nVersion: 0\n")
    points = setup["options.entry_points"].items()
    (info / "entry_points.txt").write_text("".join(f"[{group}]{lines}\n\n" for group, lines in points))


def _setup() -> configparser.ConfigParser:
    setup = configparser.ConfigParser(delimiters=("=",))
    setup.read(REPOSITORY / "setup.cfg")
    return setup
