# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Builds what the guest is made of, once: each step is kept under the hash of all that goes into it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SCRIPTS: Final = Path(__file__).parent / "lab"
CANNOT: Final = 75
"""The exit code by which a script says that this machine cannot have what it makes."""
KEEP_S: Final = 14 * 86400

Say = Callable[[str], None]


class Impossible(Exception):
    """The lab cannot be had on this machine; says why in one line."""


@dataclass(frozen=True)
class Lab:
    """What a guest is started from."""

    qemu: Path
    firmware: tuple[Path, ...]
    modules: Path
    kernel: Path
    initramfs: Path
    disk: Path


def cache_folder() -> Path:
    """Gives where everything is kept, outside the checkout."""
    if named := os.environ.get("DEVAGENT_KERNEL_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "devagent-kernel")


def build(say: Say) -> Lab:
    """Makes what is not there yet and gives it. Raises Impossible."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise Impossible(f"the lab is built on Linux on x86-64, not on {platform.system()} on {platform.machine()}")
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache, say):
        _run("host-packages", {}, "the host's packages")
        packages = _step(cache, "packages", (), {}, say)
        modules = _step(
            cache, "modules", (packages / "versions", *_files(SCRIPTS / "kmod")), {"PACKAGES": packages}, say
        )
        image = _step(
            cache,
            "image",
            (modules, *sorted(SCRIPTS.glob("guest/*init")), SCRIPTS / "guest/lab.service"),
            {"PACKAGES": packages, "MODULES": modules},
            say,
        )
        _forget(cache, (packages, modules, image))
    qemu = packages / "qemu/usr"
    return Lab(
        qemu=qemu / "bin/qemu-system-x86_64",
        firmware=(qemu / "share/qemu", qemu / "share/seabios"),
        modules=qemu / "lib/x86_64-linux-gnu/qemu",
        kernel=image / "vmlinux",
        initramfs=image / "initramfs",
        disk=image / "root.ext4",
    )


def digest(parts: Iterable[bytes]) -> str:
    """Gives a short name for what is made of `parts`."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()[:16]


@contextmanager
def _locked(cache: Path, say: Say) -> Iterator[None]:
    """Keeps others out: two checkouts may share one cache."""
    with (cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another build of the lab")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _step(cache: Path, name: str, ingredients: Iterable[Path], given: dict[str, Path], say: Say) -> Path:
    """Gives the folder that a script fills, filling it if need be.

    The folder has its final name from the start: the kernel's headers hold it. A folder among the ingredients
    stands for its own hash, which is in its name.
    """
    parts = [(SCRIPTS / name).read_bytes()]
    parts += [item.name.encode() if item.is_dir() else item.read_bytes() for item in ingredients]
    folder = cache / f"{name}-{digest(parts)}"
    done = folder / ".done"
    if not done.exists():
        if os.geteuid() != 0 and name != "modules":
            raise Impossible(f"only root can build the lab (its {name} are not in {cache})")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        started = time.monotonic()
        _run(name, {**given, "OUT": folder}, f"the lab's {name}")
        say(f"made the lab's {name} in {time.monotonic() - started:.0f} s")
    done.touch()
    return folder


def _run(name: str, given: dict[str, Path], what: str) -> None:
    environment = {**os.environ, "LC_ALL": "C", **{key: str(path) for key, path in given.items()}}
    ran = subprocess.run([SCRIPTS / name], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    last = "\n".join(ran.stderr.splitlines()[-1:])
    if ran.returncode == CANNOT:
        raise Impossible(f"{what}: {last}")
    if ran.returncode:
        raise RuntimeError(f"{SCRIPTS / name} ended with {ran.returncode}:\n{ran.stdout[-2000:]}\n{ran.stderr[-6000:]}")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _forget(cache: Path, used: Iterable[Path]) -> None:
    """Removes what no build has used for two weeks."""
    for folder in cache.iterdir():
        done = folder / ".done"
        if folder not in used and done.exists() and time.time() - done.stat().st_mtime > KEEP_S:
            shutil.rmtree(folder)
