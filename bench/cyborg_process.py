# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
# mypy: disable-error-code="import-not-found"
"""What Cyborg's agent has in memory before it does anything; run by the Python of tools/cyborg-venv.

It imports what `cyborg-agent` imports, starts its privileged daemon by the same program, and prints KiB of both.
The agent itself would want RabbitMQ and a conductor, and be larger.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

# The imports are what is measured, without what they say about each other: hence they stand below.
warnings.simplefilter("ignore")
begun = time.process_time()

import cyborg.cmd.agent  # noqa: E402, F401 - it decides between threads and eventlet before anything else does
import oslo_privsep.priv_context  # noqa: E402
from cyborg import privsep  # noqa: E402

importlib.import_module("cyborg.agent.manager")  # which the agent loads by name

imported = time.process_time() - begun


def memory(pid: int | str) -> dict[str, int]:
    """Gives the resident and the proportional memory of a process."""
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return {line[0][:-1].lower(): int(line[1]) for line in lines if line[0] in ("Pss:", "Rss:")}


def commanded(words: str) -> list[int]:
    """Gives the processes with these words in their command lines."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if words in path.read_text(errors="replace"):
                found.append(int(path.parent.name))
        except OSError:  # it has ended
            continue
    return found


def main() -> None:
    """Prints what either process holds."""
    # It is root already, or has no use for it: `env` stands where sudo would.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    oslo_privsep.priv_context.init(root_helper=["env"])
    with tempfile.TemporaryDirectory() as tempfile.tempdir:  # where its socket will be, and nobody else's
        privsep.sys_admin_pctxt.start()
        daemons = commanded(str(tempfile.tempdir))
        found = {"agent": memory("self"), "privsep": [memory(pid) for pid in daemons], "import_ms": 1000 * imported}
        print(json.dumps(found))  # noqa: T201 - its output
        sys.stdout.flush()


main()
