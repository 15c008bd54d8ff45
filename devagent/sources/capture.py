# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Opens what `--root` names: the machine, a directory, or an archive of a captured sysfs tree."""

from __future__ import annotations

import lzma
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from devagent.errors import RootError
from devagent.sources import pci
from devagent.sources.host import Tree

MACHINE: Final = Path("/")
SUFFIXES: Final = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
# A capture of 4,096 functions has some 10^5 members of 4 KiB; more is no capture.
_MEMBERS: Final = 2_000_000
_BYTES: Final = 4 << 30
_SEARCH_DEPTH: Final = 3


@contextmanager
def open_root(root: Path) -> Iterator[Tree]:
    """Opens the tree of `root` for the time of a `with`.

    Raises RootError if there is none: no such path, no archive, no sysfs inside.
    """
    if root == MACHINE:
        with Tree(MACHINE) as tree:
            if not tree.has("sys/devices"):
                raise RootError("/sys is not mounted: nothing can be discovered (mount -t sysfs sysfs /sys)")
            yield tree
    elif root.is_dir():
        with Tree(_find(root, root)) as tree:
            yield tree
    elif root.is_file():
        with tempfile.TemporaryDirectory(prefix="devagent-") as folder:
            _extract(root, Path(folder))
            with Tree(_find(Path(folder), root)) as tree:
                yield tree
    else:
        raise RootError(f"{root}: no such directory or archive")


def name_of(root: Path) -> str:
    """Gives a name for a host that does not say its own: the archive's or directory's, without suffix."""
    name = root.resolve().name
    suffix = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")
    return name.removesuffix(suffix)


def _find(top: Path, root: Path) -> Path:
    """Finds the directory that holds sys/bus/pci/devices, whatever the folders above it are called."""
    candidates = [top]
    for _ in range(_SEARCH_DEPTH + 1):
        for candidate in candidates:
            if (candidate / pci.DEVICES).is_dir():
                return candidate
        candidates = [child for candidate in candidates for child in _folders(candidate)]
    raise RootError(f"{root}: not a sysfs tree: no {pci.DEVICES} in it or in up to {_SEARCH_DEPTH} folders below")


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(child for child in folder.iterdir() if child.is_dir() and not child.is_symlink())
    except OSError:
        return []


def _extract(archive: Path, folder: Path) -> None:
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, members=_wanted(tar, archive), filter=_safe)  # noqa: S202 - _safe sees every member
    except (tarfile.TarError, lzma.LZMAError, zlib.error, OSError, EOFError, ValueError) as error:
        raise RootError(f"{archive}: cannot be read as an archive ({', '.join(SUFFIXES)}): {error}") from None


def _wanted(tar: tarfile.TarFile, archive: Path) -> Iterator[tarfile.TarInfo]:
    size = 0
    for count, member in enumerate(tar):
        size += member.size
        if count > _MEMBERS or size > _BYTES:
            raise RootError(f"{archive}: too large for a capture ({_MEMBERS} files, {_BYTES >> 30} GiB at most)")
        yield member


def _safe(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    """Leaves out whatever would reach outside `folder`, device nodes and the like; reads what is left."""
    try:
        member = tarfile.data_filter(member, folder)
    except tarfile.FilterError:
        return None
    return member.replace(mode=0o700, deep=False) if member.isdir() else member
