# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Steps of a plan in the guest, carried out with the user and the capabilities that the unit gives, and no others."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from .guest import NOBODY, Guest
from .payload import REPOSITORY

SCRIPT = "/tmp/executing.py"
PATIENCE_S = 200
Said = dict[str, Any]


def executing(guest: Guest, *arguments: str, more: str = "") -> list[Said]:
    guest.put(SCRIPT, Path(__file__).with_name("executing.py").read_text())
    unit = (REPOSITORY / "etc/systemd/devagent.service").read_text()
    match = re.search("^AmbientCapabilities=(.*)$", unit, re.MULTILINE)
    assert match is not None
    kept = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in [*match[1].split(), *more.split()])
    rights = ["--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "--bounding-set", f"-all,{kept}"]
    rights += ["--inh-caps", f"-all,{kept}", "--ambient-caps", f"-all,{kept}"]
    ran = guest.run("setpriv", *rights, "python3", SCRIPT, *arguments, timeout=PATIENCE_S)
    said: list[Said] = json.loads(ran.out)
    return said


def steps(guest: Guest, *steps: Said) -> list[Said]:
    return executing(guest, "steps", json.dumps(steps))


def step(verb: str, target: str, **arguments: str | int | None) -> Said:
    return {"verb": verb, "target": target, "arguments": arguments}


def bind(target: str, driver: str | None) -> Said:
    return step("bind", target, driver=driver)


UNDO: Said = {"undo": True}
