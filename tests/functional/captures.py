# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Captures of hosts: those of real machines as they were published, and what is found when one is taken."""

from __future__ import annotations

import os
from pathlib import Path

from devagent import registry
from devagent.cli.render import json as rendered
from devagent.discovery import discover
from devagent.inventory.build import Nest
from devagent.inventory.default_policy import DEFAULT
from devagent.sources import roots
from devagent.sources.captures.packing import pack
from devagent.sources.captures.recorder import Recorder
from devagent.view import Look

from .conftest import REPOSITORY

FOLDER = Path(os.environ.get("DEVAGENT_RECORDED_HOSTS", REPOSITORY.parent / "shared/hosts"))
N6000 = FOLDER / "fpga-n6000-pf-3vfs.tar.gz"
NEC = FOLDER / "nec-8-vector-engines-x722.tar.bz2"


def looked(root: Path, into: Path | None = None, *, redact: bool = False) -> str:
    """Gives the JSON, and captures what was read for it."""
    with roots.open_root(root) as tree:
        recorder = Recorder(tree)
        found = discover(recorder, registry.load(), DEFAULT, every=True)
        name = roots.kept_name(tree) or found.host.hostname or roots.name_of(root)
        if into is not None:
            pack(recorder, into, name, redact=redact)
    return rendered.render(Look(found, name, Nest.NUMA))
