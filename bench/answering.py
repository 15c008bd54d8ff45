# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Has a peer's own code answer line by line, in the peer's environment: python -P answering.py PROGRAM ARGUMENT...

PROGRAM stands in this folder and has `peer(folder, *arguments)`, which gives an object with a folder of its own. A line
in names one of the object's methods, a line out is an `Answer` of `beside`:

    {"call": "periodic", "with": {}}
    {"gives": null, "raised": null, "text": "", "seconds": 0.07, "requests": [["GET", "/traits"]], "logged": []}

Nothing of devagent is imported here, nor there.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from importlib import util
from pathlib import Path
from typing import Any, Protocol


class Peer(Protocol):
    """What is asked, and keeps what it asked of Placement meanwhile, and what was logged."""

    requests: list[tuple[str, str]]
    logged: list[str]


def main() -> None:
    """Answers until there are no more questions."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not stand among the answers
    warnings.simplefilter("ignore")  # what the peer's libraries say about each other while they load
    with tempfile.TemporaryDirectory() as folder:
        asked = _made(Path(__file__).with_name(sys.argv[1]))(Path(folder), *sys.argv[2:])
        out.write("ready\n")
        for line in sys.stdin:
            out.write(json.dumps(_answer(asked, json.loads(line))) + "\n")


def _made(program: Path) -> Callable[..., Peer]:
    spec = util.spec_from_file_location(program.stem, program)
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: Callable[..., Peer] = module.peer
    return made


def _answer(peer: Peer, asked: Mapping[str, Any]) -> dict[str, Any]:
    peer.requests.clear()
    peer.logged.clear()
    gives, raised, text = None, None, ""
    begun = time.perf_counter()
    try:
        gives = getattr(peer, asked["call"])(**asked["with"])
    except Exception as error:  # the other side judges it
        raised, text = type(error).__name__, str(error)
    seconds = time.perf_counter() - begun
    told = {"requests": list(peer.requests), "logged": list(peer.logged)}
    return {"gives": gives, "raised": raised, "text": text, "seconds": seconds, **told}


if __name__ == "__main__":
    main()
