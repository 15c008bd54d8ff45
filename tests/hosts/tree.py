# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A file tree held in memory, written as a directory or as an archive."""

import io
import os
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple


class Link(NamedTuple):
    """A symbolic link, its target relative to the folder it lies in."""

    target: str


class Tree:
    """Folders with their files and links, by path from the tree's top."""

    def __init__(self) -> None:
        """Starts with the top folder alone."""
        self._folders: dict[str, dict[str, str | Link]] = {"": {}}

    def folder(self, path: str) -> dict[str, str | Link]:
        """Returns the folder at path, made with its parents where missing."""
        found = self._folders.get(path)
        if found is None:
            self.folder(path.rpartition("/")[0])
            found = self._folders[path] = {}
        return found

    def files(self, path: str, contents: Mapping[str, str]) -> None:
        """Adds one file per name to the folder at path."""
        self.folder(path).update(contents)

    def lines(self, path: str, values: Mapping[str, object]) -> None:
        """Adds one file per name, holding its value and a newline."""
        self.files(path, {name: f"{value}\n" for name, value in values.items()})

    def link(self, path: str, target: str) -> None:
        """Adds a link at path to the target path, both from the tree's top."""
        folder, _, name = path.rpartition("/")
        self.folder(folder)[name] = Link(_relative(target, folder))

    def write(self, destination: Path) -> None:
        """Writes the tree below an existing directory."""
        for path in sorted(self._folders):
            full = os.path.join(destination, path)
            if path:
                Path(full).mkdir()
            _write_folder(full, self._folders[path])

    def archive(self, destination: Path, top: str) -> None:
        """Writes the tree as an archive that is equal for equal trees."""
        with tarfile.open(destination, "w:xz", format=tarfile.PAX_FORMAT, preset=1) as archive:
            for member, content in self._members(top):
                archive.addfile(member, io.BytesIO(content) if content else None)

    def _members(self, top: str) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
        for path, entry in sorted(self._entries(top), key=lambda entry: entry[0]):
            if entry is None:
                yield _member(path, tarfile.DIRTYPE, 0o755), b""
            elif isinstance(entry, Link):
                link = _member(path, tarfile.SYMTYPE, 0o777)
                link.linkname = entry.target
                yield link, b""
            else:
                content = entry.encode()
                file = _member(path, tarfile.REGTYPE, 0o644)
                file.size = len(content)
                yield file, content

    def _entries(self, top: str) -> Iterator[tuple[str, str | Link | None]]:
        for path, entries in self._folders.items():
            prefix = f"{top}/{path}" if path else top
            yield prefix, None
            yield from ((f"{prefix}/{name}", entry) for name, entry in entries.items())


def _member(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    # A fresh TarInfo has mtime, uid and gid 0 and no user names.
    member = tarfile.TarInfo(name)
    member.type, member.mode = kind, mode
    return member


def _write_folder(path: str, entries: Mapping[str, str | Link]) -> None:
    # A descriptor per folder keeps the deep sysfs paths from being walked again for each of its files.
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name, entry in entries.items():
            if isinstance(entry, Link):
                os.symlink(entry.target, name, dir_fd=folder)
                continue
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=folder)
            if entry:
                os.write(file, entry.encode())
            os.close(file)
    finally:
        os.close(folder)


def _relative(target: str, folder: str) -> str:
    # As the kernel makes them: up to a folder strictly above the target, even where the link lies below the target.
    there, here = target.split("/"), folder.split("/")
    common = 0
    while common < min(len(there) - 1, len(here)) and there[common] == here[common]:
        common += 1
    return "/".join([".."] * (len(here) - common) + there[common:])
