# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What libvirt's hook costs each domain that starts: one without devices, and one with a VF that is prepared.

    .venv/bin/python -m bench.hook

The script is that of etc/libvirt, called as libvirt calls it; the agent, its processes and its journal are real, the
host is a tree of files that binds drivers.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from functional.cloud import Cloud
from functional.load import load

from bench.placement import placement
from bench.scan import MEMORY, say

REPOSITORY: Final = Path(__file__).parents[1]
SCRIPT: Final = REPOSITORY / "etc/libvirt/hooks/qemu.d/devagent"
TIMES: Final = 31
_PROGRAM: Final = """#!{python} -I
import sys
sys.path[:0] = [{repository!r}]
from pathlib import Path
from devagent.cli.libvirt_hook import run
sys.exit(run(sys.argv[1:], sys.stdin.buffer, root={root!r}, configuration=[Path({configuration!r})]))
"""
_DOMAIN: Final = "<domain><name>one</name><uuid>{uid}</uuid><devices>{disks}{devices}</devices></domain>"
_DISK: Final = "<disk type='file'><source file='/var/lib/nova/instances/x/disk'/></disk>\n"
_HOSTDEV: Final = (
    "<hostdev mode='subsystem' type='pci' managed='no'><source>"
    "<address domain='0x{0}' bus='0x{1}' slot='0x{2}' function='0x{3}'/></source></hostdev>"
)


def main() -> int:
    """Runs it and prints one table."""
    # The root's files lie in memory where there is one.
    with placement() as url, tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as top:
        name = f"bench-{uuid.uuid4().hex[:12]}"
        cloud = Cloud(url, str(uuid.uuid4()), name)
        cloud.create(name, None, cloud.root)
        with load(Path(top), cloud, pfs=1, vfs=4) as life:
            script = _install(Path(top), life.host, life.agent.folder / "devagent.conf")
            _measure(script, next(iter(life.drivers())))
    return 0


def _install(top: Path, root: Path, configuration: Path) -> Path:
    program, script = top / "hook", top / "script"
    said = {"repository": str(REPOSITORY), "root": str(root), "configuration": str(configuration)}
    program.write_text(_PROGRAM.format(python=Path(sys.executable).resolve(), **said))
    script.write_text(SCRIPT.read_text().replace("/usr/bin/devagent-libvirt-hook", str(program)))
    for each in (program, script):
        each.chmod(0o755)
    return script


def _measure(script: Path, vf: str) -> None:
    plain = _DOMAIN.format(uid=uuid.uuid4(), disks=_DISK * 40, devices="")
    device = _HOSTDEV.format(*vf.replace(".", ":").split(":"))
    full = _DOMAIN.format(uid=uuid.uuid4(), disks=_DISK * 40, devices=device)
    hook = partial(_call, script, "one")
    python = str(Path(sys.executable).resolve())
    say("| what libvirt waits for | ms, median (90th percentile) | CPU ms |\n| --- | --- | --- |")
    _row("sh -c true", lambda: _call("/bin/sh", "-c", "true", xml=plain))
    _row("started begin, as of all other operations", lambda: hook("started", "begin", "-", xml=full))
    _row("prepare begin, no device of the host", lambda: hook("prepare", "begin", "-", xml=plain))
    _row("python3 -I -c pass", lambda: _call(python, "-I", "-c", "pass", xml=plain))
    # In turns, so that each preparation is a first one.
    _row(
        "prepare begin, a VF, which it makes ready",
        lambda: hook("prepare", "begin", "-", xml=full),
        lambda: hook("release", "end", "-", xml=full),
    )
    hook("prepare", "begin", "-", xml=full)
    _row("prepare begin, a VF that is ready", lambda: hook("prepare", "begin", "-", xml=full))
    _row(
        "release end, the VF is given back",
        lambda: hook("release", "end", "-", xml=full),
        lambda: hook("prepare", "begin", "-", xml=full),
    )


def _row(what: str, call: Callable[[], object], then: Callable[[], object] = int) -> None:
    walls, cpus = [], []
    for _ in range(TIMES):
        before, began = _cpu(), time.perf_counter()
        call()
        walls.append(1000 * (time.perf_counter() - began))
        cpus.append(1000 * (_cpu() - before))
        then()
    say(f"| {what} | {statistics.median(walls):.1f} ({_ninetieth(walls):.1f}) | {statistics.median(cpus):.1f} |")


def _call(*command: str | Path, xml: str) -> None:
    ran = subprocess.run(command, input=xml, capture_output=True, text=True, check=False)
    if ran.returncode or ran.stdout:
        raise SystemExit(f"{command}: {ran.returncode} {ran.stdout} {ran.stderr}")


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _ninetieth(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=10)[-1]


if __name__ == "__main__":
    sys.exit(main())
