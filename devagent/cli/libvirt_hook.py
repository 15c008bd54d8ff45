# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Is the program that libvirt's hook script calls; what it does is told in devagent/integration/libvirt_hook.py."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from devagent.api.client import Client
from devagent.integration import libvirt_hook
from devagent.places import SOCKET


def main() -> int:
    """Is the command `devagent-libvirt-hook`."""
    return run(sys.argv[1:], sys.stdin.buffer)


def run(
    arguments: Sequence[str], xml: BinaryIO, *, root: str = "/", configuration: Iterable[Path] | None = None
) -> int:
    """Does what one call of libvirt's is for, on the machine at `root`; gives the exit code."""
    return libvirt_hook.run(arguments, xml, lambda path: Client(path or SOCKET), root=root, configuration=configuration)
