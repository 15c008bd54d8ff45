# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Measures devagent and its peers side by side, in small, and writes the table that README.md shows.

    python -m bench.compare [--devices 1x64] [--rounds 2] [--functions 512] [--only PART ...] [--write]

It is bench.placement, bench.scan, bench.agent and bench.prepare, with small defaults. A peer whose environment is not
there, and what needs root where there is none, stands in the table as not measured.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from bench import agent, cyborg_beside, nova_beside, placement, prepare, scan
from bench.beside import REPOSITORY
from bench.compare_table import UNMEASURED, Row, replaced, table
from bench.reporters import AGAIN, CHANGE, FIRST, OLD, RESTART, ByCyborg, ByNova, Contestant, Cost, Devagent, Devices
from bench.scan import MEMORY, say

PAGES: Final = (REPOSITORY / "README.md", REPOSITORY / "docs/comparison.md")
CYBORG_LOOKS: Final = "Cyborg's pci_driver"
VENDOR: Final = "15b3"
"""The vendor of the NICs that `scan.described` describes."""

_STEPS: Final = {
    FIRST: "first report",
    AGAIN: "at rest",
    OLD: "at rest, once in 301 s",
    RESTART: "after a restart",
    CHANGE: "after half of a PF's VFs went",
}
_SEES_NOTHING: Final = {AGAIN: " (verifies nothing)", OLD: "never looks", RESTART: " (verifies nothing)"}
_ROOT: Final = f"{UNMEASURED} (needs root)"
_BY_LIBVIRT: Final = "left to libvirt"


def main() -> None:
    """Measures what the arguments say, prints the table, and writes it if told."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=Devices.parse, default=Devices(1, 64), help="PFs x VFs each (1x64)")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--functions", type=int, default=512, choices=[64, 512, 4096])
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--write", action="store_true", help="into README.md and docs/comparison.md")
    args = parser.parse_args()
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as bytecode:
        # As installed: with bytecode that is there, though this checkout may have none.
        os.environ.update(PYTHONDONTWRITEBYTECODE="", PYTHONPYCACHEPREFIX=bytecode)
        rows = [row for name in args.only for row in PARTS[name](args)]
    block = f"{table(heads(), rows)}\n\n{taken(args, before, os.getloadavg()[0])}"
    say(block)
    for page in PAGES if args.write else ():
        page.write_text(replaced(page.read_text(), block))


def heads() -> tuple[str, str, str]:
    """Gives who is compared, with the versions that are there."""
    peers = (
        ("Nova's PCI tracking", nova_beside.PYTHON, "nova"),
        ("Cyborg", cyborg_beside.PYTHON, "openstack-cyborg"),
    )
    nova, cyborg = (f"{name} {version(python, package)}".rstrip() for name, python, package in peers)
    return "devagent", nova, cyborg


def version(python: Path, package: str) -> str:
    """Gives the version of a package in another environment, nothing where there is none."""
    if not python.exists():
        return ""
    code = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
    return subprocess.check_output([str(python), "-c", code, package], text=True).strip()


def taken(args: argparse.Namespace, before: float, after: float) -> str:
    """Gives on what the table was taken."""
    devices = f"{args.devices.pfs}x{args.devices.vfs}"
    command = f"python -m bench.compare --devices {devices} --rounds {args.rounds} --functions {args.functions}"
    return (
        f"Taken by `{command}` on {os.cpu_count()} cores with Python {platform.python_version()}, nice {os.nice(0)}, "
        f"load {before:.1f} before and {after:.1f} after. Counts are the same on every machine; times are of this one, "
        "as busy as it was."
    )


def reports(args: argparse.Namespace) -> Iterator[Row]:
    """Measures the reports to Placement: requests and median ms."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours: Contestant = Devagent(args.devices, folder)
        nova: Contestant | None = None
        cyborg: Contestant | None = None
        if nova_beside.PYTHON.exists():
            nova = ByNova(args.devices, stack.enter_context(nova_beside.running()))
        if cyborg_beside.PYTHON.exists():
            cyborg = ByCyborg(args.devices, stack.enter_context(cyborg_beside.running()))
        costs = placement.run([one for one in (ours, nova, cyborg) if one], args.devices, args.rounds)
    command = f"bench.placement --devices {args.devices.pfs}x{args.devices.vfs} --cyborg"
    size = f"{args.devices.pfs} x {args.devices.vfs} VFs"
    for step, what in _STEPS.items():
        here, at_nova, at_cyborg = (spent(costs[step][one.name]) if one else UNMEASURED for one in (ours, nova, cyborg))
        said = _SEES_NOTHING.get(step, "") if cyborg else ""
        yield Row(f"{size}, {what}: requests / ms", here, at_nova, at_cyborg + said, command)


def spent(costs: list[Cost]) -> str:
    """Gives requests and median ms, nothing where there is no such step."""
    return placement.cell(placement.middle(costs)) if costs else ""


def looks(args: argparse.Namespace) -> Iterator[Row]:
    """Measures a look at all functions, beside C and lspci."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        top = Path(folder)
        root = scan.host(args.functions, top / "host")
        wanted = (scan.C_UEVENTS, scan.SCAN, scan.DISCOVER, scan.LSPCI)
        contestants = [one for one in scan.scanning(root, scan.compiled(top)) if one.name in wanted]
        found = scan.compared([*contestants, *cyborg_looking(root)], args.rounds)
    shown = {name: f"{took.cpu:.0f}" for name, took in found.items()}
    yield Row(
        f"a look at {args.functions} functions, ms of CPU (C that reads each `uevent`: "
        f"{shown.get(scan.C_UEVENTS, UNMEASURED)}; `lspci -vmmnnk`: {shown.get(scan.LSPCI, UNMEASURED)})",
        f"{shown[scan.SCAN]}, with drivers and policy {shown[scan.DISCOVER]}",
        f"{UNMEASURED} (asks libvirt)",
        shown.get(CYBORG_LOOKS, UNMEASURED),
        f"bench.compare --only scan --functions {args.functions}",
    )


def cyborg_looking(root: Path) -> Iterator[scan.Contestant]:
    """Gives Cyborg's look at a host, if Cyborg, lspci and root rights are there."""
    if cyborg_beside.PYTHON.exists() and scan.may_unshare() and scan.has_lspci():
        turn = (str(cyborg_beside.PYTHON), "-P", str(REPOSITORY / "bench/cyborg_turn.py"), "2", VENDOR)
        yield scan.Contestant(CYBORG_LOOKS, scan.in_its_sys(root, *turn))


def weights(args: argparse.Namespace) -> Iterator[Row]:  # noqa: ARG001 - as all parts
    """Measures the processes on a host of 64 functions."""
    seconds, starts = 60, 2
    command = f"bench.agent --host 64 --seconds {seconds} --starts {starts}"
    pss = rest = _ROOT
    if scan.may_unshare():
        with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
            figures = agent.turn("64", Path(folder), seconds, starts)
        pss, rest = agent.mib(sum(figures["pss"].values())), agent.percent(agent.resting(figures))
    beside = agent.cyborg()
    theirs = f"{imported(beside)} (imports alone)" if beside else UNMEASURED
    inside = "part of nova-compute"
    yield Row("memory of all processes, PSS in MiB", pss, inside, theirs, command)
    yield Row(
        "CPU at rest, a full look each 300 s included, % of a core",
        rest,
        inside,
        f"{UNMEASURED} (wants RabbitMQ)",
        command,
    )


def imported(beside: Any) -> str:
    """Gives the PSS of Cyborg's agent before it does anything, with its privileged daemon."""
    return agent.mib(beside["agent"]["pss"] + sum(each["pss"] for each in beside["privsep"]))


def preparations(args: argparse.Namespace) -> Iterator[Row]:  # noqa: ARG001 - as all parts
    """Measures what a preparation takes beyond its verbs."""
    with tempfile.TemporaryDirectory() as folder:
        medians = prepare.overhead(Path(folder), rounds=50)
    over = medians[prepare.PREPARE] - medians[prepare.VERBS]
    yield Row("preparing a VF, ms beyond the verbs", f"{over:.1f}", _BY_LIBVIRT, _BY_LIBVIRT, "bench.prepare")


PARTS: Final[dict[str, Callable[[argparse.Namespace], Iterator[Row]]]] = {
    "placement": reports,
    "scan": looks,
    "memory": weights,
    "prepare": preparations,
}


if __name__ == "__main__":
    main()
