# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Packs what a Recorder noted into an archive that `--root` replays: the same host, file by file.

    HOST/sys/bus/pci/devices/0000:3b:00.0 -> ../../../devices/pci0000:3a/0000:3a:01.0/0000:3b:00.0
    HOST/sys/devices/pci0000:3a/0000:3a:01.0/0000:3b:00.0/modalias
    HOST/devagent/name                      what the host is called in Placement
    HOST/devagent/unreadable.json           what could not be read, and why; see `replay`

Equal notes give an equal archive, byte for byte.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

from devagent.cause import system_words
from devagent.errors import ConfigurationError, DevagentError
from devagent.sources.captures.archive import Folder, Link
from devagent.sources.captures.layout import lay_out
from devagent.sources.captures.recorder import Recorder
from devagent.sources.captures.redaction import redacted
from devagent.sources.roots import NAME

# The files are many, small and alike: more effort makes the archive hardly smaller.
_OPENERS: Final[dict[str, Callable[[IO[bytes]], Any]]] = {
    ".tar": lambda file: file,
    ".tar.gz": lambda file: gzip.GzipFile("", "wb", 6, file, mtime=0),
    ".tgz": lambda file: gzip.GzipFile("", "wb", 6, file, mtime=0),
    ".tar.bz2": lambda file: bz2.BZ2File(file, "wb"),
    ".tar.xz": lambda file: lzma.LZMAFile(file, "wb", preset=1),  # noqa: SIM115 - its caller closes it
}


def check_name(path: Path) -> None:
    """Makes sure, before anything is looked at, that it can be packed. Raises ConfigurationError."""
    if _suffix(path) is None:
        raise ConfigurationError(f"{path}: a capture's name must end with one of {', '.join(_OPENERS)}")
    if path.is_dir():
        raise ConfigurationError(f"{path}: is a directory")


def pack(recorder: Recorder, path: Path, name: str, *, redact: bool = False) -> None:
    """Packs the notes, while the recorder's tree is open, for the host that is called `name`.

    With `redact`, what tells one machine from another is replaced. The file replaces another in one step
    and is its owner's alone: what only root could read may be in it.
    Raises DevagentError if it cannot be written.
    """
    check_name(path)
    recorder.keep(NAME, f"{name}\n")
    top = lay_out(recorder.notes, recorder.unrecorded)
    if redact:
        top = redacted(top)
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            _write(file, _suffix(path) or "", top)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = system_words(error)
        raise DevagentError(f"{path}: the capture cannot be written: {reason}") from None
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def _suffix(path: Path) -> str | None:
    return next((suffix for suffix in _OPENERS if path.name.endswith(suffix)), None)


def _write(file: IO[bytes], suffix: str, top: Folder) -> None:
    stream = _OPENERS[suffix](file)
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member, content in _members(_top_name(top), top):
            tar.addfile(member, io.BytesIO(content))
    if stream is not file:
        stream.close()


def _top_name(top: Folder) -> str:
    """Names the folder that everything is in after the host, as far as that can be a file's name."""
    folder = top.get("devagent")
    name = folder.get("name", b"") if isinstance(folder, dict) else b""
    text = name.decode("ascii", "replace").strip() if isinstance(name, bytes) else ""
    return re.sub("[^A-Za-z0-9._-]", "_", text).lstrip(".") or "host"


def _members(path: str, entry: bytes | Link | Folder) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Gives the members in order, those in a directory after it."""
    # A fresh TarInfo has mtime, uid and gid 0 and no names.
    member, content = tarfile.TarInfo(path), b""
    if isinstance(entry, Link):
        member.type, member.mode, member.linkname = tarfile.SYMTYPE, 0o777, entry.target
    elif isinstance(entry, dict):
        member.type, member.mode = tarfile.DIRTYPE, 0o755
    else:
        member.mode, member.size, content = 0o644, len(entry), entry
    yield member, content
    if isinstance(entry, dict):
        for name, below in sorted(entry.items()):
            yield from _members(f"{path}/{name}", below)
