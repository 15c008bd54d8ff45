# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the libvirt hook must know of devagent.conf, without oslo.config: its import takes longer than all of the hook.

    [api]
    unix_socket = /run/devagent/devagent.sock
    [libvirt]
    agent_down = fail

What is wrong in the files is the daemon's to tell, and to refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from devagent.places import CONFIG_DIR, CONFIG_FILE


class Settings(NamedTuple):
    """Where the agent listens, None for the usual place, and whether domains start without it: `fail` or `allow`."""

    socket: str | None = None
    agent_down: str = "fail"


def read(files: Iterable[Path] | None = None) -> Settings:
    """Reads the files that the daemon reads, of which the last one counts; what cannot be read says nothing."""
    found: dict[tuple[str, str], str] = {}
    for path in _files() if files is None else files:
        with suppress(OSError):
            found.update(_options(path.read_text(errors="replace")))
    socket, down = found.get(("api", "unix_socket")), found.get(("libvirt", "agent_down"), "fail")
    if socket and "$" in socket:  # of another option
        from devagent import conf  # noqa: PLC0415 - its import takes long

        socket = str(conf.load().api.unix_socket)
    return Settings(socket, down)


def _files() -> list[Path]:
    with suppress(OSError):
        return [CONFIG_FILE, *sorted(CONFIG_DIR.glob("*.conf"))]
    return [CONFIG_FILE]


def _options(text: str) -> Iterator[tuple[tuple[str, str], str]]:
    section = ""
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if line.startswith("[") and "]" in line:
            section = line[1 : line.index("]")]
        elif equals and line[:1] not in "#; \t":
            yield (section, name.strip().replace("-", "_")), value.strip().strip("\"'")
