# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Debian in folders: one as small as a host can be, one that builds packages. Made once, kept for two weeks."""

from __future__ import annotations

import configparser
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .checkout import REPOSITORY, run

HOST: Final = ("procps", "python3", "systemd")
"""What every compute host has before devagent is installed: all that the package depends on."""
BUILDER: Final = ("debhelper", "lintian", "python3-pip")
KEEP_S: Final = 14 * 86400
PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"
# In namespaces of its own, with this machine's /sys and without its network.
INSIDE: Final = """
mount --rbind /sys "$0/sys" && mount -t proc proc "$0/proc" && mount -t tmpfs tmpfs "$0/run" && exec chroot "$0" "$@"
"""


class Impossible(Exception):
    """No Debian can be had on this machine; says why in one line."""


@dataclass(frozen=True)
class Root:
    """A Debian in a folder."""

    folder: Path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command in it as root, whatever it ends with."""
        inside = ("unshare", "--mount", "--net", "--ipc", "--pid", "--fork", "sh", "-c", INSIDE, str(self.folder))
        env = {"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        return subprocess.run((*inside, *command), env=env, capture_output=True, text=True, timeout=900)

    def gives(self, *command: str) -> str:
        """Runs a command in it and gives what it prints. Raises AssertionError if it fails."""
        ran = self.run(*command)
        assert ran.returncode == 0, f"{command}: {ran.stdout[-4000:]}{ran.stderr[-4000:]}"
        return ran.stdout.rstrip("\n")

    def files(self) -> set[str]:
        """Gives the path of everything that is in it."""
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}

    def copy(self, folder: Path) -> Root:
        """Makes another one that is the same."""
        run("cp", "-a", "--reflink=auto", self.folder, folder, folder=folder.parent)
        return Root(folder)


def cache_folder() -> Path:
    """Gives where everything is kept, outside the checkout."""
    if named := os.environ.get("DEVAGENT_PACKAGE_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "devagent-package")


def host() -> Root:
    """Gives a Debian of this machine's release as a compute host has it, to be copied. Raises Impossible."""
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    if release.get("ID") != "debian":
        raise Impossible("a package for Debian is built and installed on Debian alone")
    if os.geteuid() != 0:
        raise Impossible("only root can make and enter another root folder")
    for tool, package in (("mmdebstrap",) * 2, ("unshare", "util-linux"), ("dpkg-source", "dpkg-dev")):
        if shutil.which(tool) is None:
            raise Impossible(f"{tool} is missing: apt-get install {package}")
    suite = release["VERSION_CODENAME"]
    root = Root(_kept(suite, *HOST) or _made(suite))
    if root.run("true").returncode != 0:
        raise Impossible("this machine lets nobody enter another root folder (a container?)")
    ours = "{}.{}".format(*sys.version_info)
    if f"Python {ours}." not in root.gives("python3", "--version"):
        raise Impossible(f"the libraries are fetched for Python {ours}, which is not that of {suite}")
    return root


def builder(base: Root) -> Root:
    """Gives a Debian that builds packages, to be copied. Raises Impossible."""
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    if kept := _kept(suite, *BUILDER):
        return Root(kept)
    making = _making()
    root = base.copy(making)
    shutil.copy("/etc/resolv.conf", making / "etc/resolv.conf")
    options = ("-qq", "--yes", "--no-install-recommends", "-o", "Dpkg::Options::=--force-unsafe-io")
    # Without Root.run: it has no network.
    for command in (("apt-get", "-qq", "update"), ("apt-get", "install", *options, *BUILDER), ("apt-get", "clean")):
        ran = subprocess.run(
            ("chroot", root.folder, "env", "DEBIAN_FRONTEND=noninteractive", *command), capture_output=True, text=True
        )
        if ran.returncode != 0:
            raise Impossible(f"apt-get: {_last_line(ran.stderr)}")
    return Root(_keep(making, suite, *BUILDER))


def wheels() -> Path:
    """Gives where the libraries are kept; the folder is filled by the first who builds."""
    metadata = configparser.ConfigParser()
    metadata.read(REPOSITORY / "setup.cfg")
    wanted = [metadata["options"]["install_requires"], *metadata["options.extras_require"].values()]
    pinned = (REPOSITORY / "constraints.txt").read_text()
    return cache_folder() / f"wheels-{hashlib.sha256(''.join((*wanted, pinned)).encode()).hexdigest()[:16]}"


def _made(suite: str) -> Path:
    making = _making()
    command = ("mmdebstrap", "--variant=minbase", "--mode=root", "--dpkgopt=force-unsafe-io")
    ran = subprocess.run((*command, f"--include={','.join(HOST)}", suite, making), capture_output=True, text=True)
    if ran.returncode != 0:
        raise Impossible(f"mmdebstrap: {_last_line(ran.stderr)}")
    return _keep(making, suite, *HOST)


def _last_line(said: str) -> str:
    return (said.strip().splitlines() or ["it failed"])[-1]


def _making() -> Path:
    return cache_folder() / f"making-{os.getpid()}"


def _named(suite: str, *packages: str) -> Path:
    return cache_folder() / "-".join((suite, *packages))


def _kept(suite: str, *packages: str) -> Path | None:
    cache_folder().mkdir(parents=True, exist_ok=True)
    root = _named(suite, *packages)
    if root.exists() and time.time() - root.stat().st_mtime > KEEP_S:
        shutil.rmtree(root)
    return root if root.exists() else None


def _keep(making: Path, suite: str, *packages: str) -> Path:
    os.utime(making)
    return making.rename(_named(suite, *packages))
