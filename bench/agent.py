# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the daemon costs on hosts of three sizes: memory, rest, start, stop, reload, looks; and Cyborg's agent's memory.

    python -m bench.agent [--seconds 60] [--starts 3] [--host 64 gpu8 4096] [--json FILE]

Each host has its turn in a mount namespace in which its /sys is the machine's, so that the daemon runs as on a real
one: with the kernel's events, its log, and NVML, of which the library of the tests stands for NVIDIA's. /proc is the
machine's own, with its processes. It needs root for that.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from functional.nvml.library import NEWEST, Nvml, build
from hosts.generate import generate

from bench import cyborg_beside
from bench.beside import REPOSITORY
from bench.placement import placement
from bench.scan import HOSTS, MEMORY, PCI, described, say, table

NAMES: Final = {"64": "64 functions", "gpu8": "gpu8 (8 GPUs)", "4096": "4,096 functions"}
_MINUTE_MS: Final = 60_000
_FULL_EVERY: Final = 5  # minutes, by default
_DISK: Final = {"id": "144d:a80a", "class": "010802", "driver": "nvme", "disk": {"name": "nvme0n1", "partitions": 2}}
_IN_ITS_SYS: Final = 'mount --bind "$1/sys" /sys && shift && exec "$@"'

Figures = Mapping[str, Any]
Row = tuple[str, Callable[[Figures], str]]


def main() -> None:
    """Measures what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="of rest on each host")
    parser.add_argument("--starts", type=int, default=3, help="two at least")
    parser.add_argument("--host", nargs="+", default=list(NAMES), choices=list(NAMES))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        figures = {name: turn(name, Path(folder), args.seconds, args.starts) for name in args.host}
    beside = cyborg()
    print_tables(figures, beside)
    if args.json:
        args.json.write_text(json.dumps({"devagent": figures, "cyborg": beside}, indent=2) + "\n")


def turn(name: str, top: Path, seconds: float, starts: int) -> Figures:
    """Runs the daemon on one host."""
    root = generate(small() if name == "64" else HOSTS / f"{'big' if name == '4096' else name}.yaml", top / name)
    ours = (sys.executable, "-m", "bench.agent_turn", "--seconds", f"{seconds}", "--starts", f"{starts}")
    with placement() as url:
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", _IN_ITS_SYS, "sh", str(root), *ours, "--url", url],
            cwd=REPOSITORY,
            env={**os.environ, **nvml(root, top)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    shutil.rmtree(root)
    figures: Figures = json.loads(done.stdout)
    return figures


def small() -> dict[str, Any]:
    """Describes a host of 64 functions: two PFs with 29 VFs each, a disk, and the ports above them."""
    host = described(2, 29)
    bus = {"bus": "0000:00", "node": 0, "devices": [{**host["pci"][0]["devices"][0], "behind": [_DISK]}]}
    return {**host, "root": "nvme0n1p2", "pci": [bus, *host["pci"]]}


def nvml(root: Path, top: Path) -> dict[str, str]:
    """Gives the environment in which NVML knows the host's GPUs; nothing where there is none, or no compiler."""
    gpus = [entry.name for entry in sorted((root / PCI / "devices").iterdir()) if _is_nvidia(entry)]
    if not gpus or shutil.which("gcc") is None:
        return {}
    known = Nvml(top)
    known.says(*(f"gpu {each} GPU-{each[5:7]}000000-2222-3333-4444-555555555555 40960 20f110de A100" for each in gpus))
    return {"LD_LIBRARY_PATH": str(build(NEWEST)), "FAKE_NVML_STATE": str(known.state)}


def _is_nvidia(function: Path) -> bool:
    return (function / "driver").is_symlink() and (function / "driver").readlink().name == "nvidia"


def cyborg() -> Mapping[str, Any] | None:
    """Gives what Cyborg's agent holds after its imports, with its privileged daemon; None where it is not installed."""
    if not cyborg_beside.PYTHON.exists():
        say(cyborg_beside.MISSING)
        return None
    command = [str(cyborg_beside.PYTHON), str(REPOSITORY / "bench/cyborg_process.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: Mapping[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def print_tables(figures: Mapping[str, Figures], beside: Mapping[str, Any] | None) -> None:
    """Prints memory, costs, and what the loops do at rest."""
    rows: Sequence[Row] = (
        ("PSS, MiB: all processes", lambda f: mib(sum(f["pss"].values()))),
        ("  agent, privileged, look", lambda f: ", ".join(mib(each) for each in f["pss"].values())),
        ("RSS, MiB: agent, privileged, look", lambda f: ", ".join(mib(each) for each in f["rss"].values())),
        ("rest, % of a core, watched", lambda f: percent(sum(f["rest"]["cpu"].values()))),
        ("  with a full look each 300 s", lambda f: percent(resting(f))),
        ("  requests in a minute", lambda f: f"{f['rest']['requests']:.1f}"),
        ("start to READY, s (ms of CPU)", lambda f: took(f["ready"], 1)),
        ("SIGHUP, s (ms of CPU)", lambda f: took(f["reload"], 2)),
        ("SIGTERM to the end, s", lambda f: f"{f['stop']['seconds']:.2f}"),
        ("full look, ms as the status says", lambda f: f"{f['full_took']:.0f}"),
        ("  ms of CPU: look process, agent", lambda f: look(f["full"])),
        ("  requests", lambda f: f"{f['full']['requests']:.1f}"),
        ("partial look, ms as the status says", lambda f: f"{f['partial_took']:.0f}"),
        ("  ms of CPU: look process, agent", lambda f: look(f["partial"])),
        ("  requests", lambda f: f"{f['partial']['requests']:.1f}"),
        ("  of", lambda f: f["partial_of"]),
        ("first report, requests", lambda f: str(f["first_requests"])),
        ("report after a restart, requests", lambda f: str(f["restart_requests"])),
    )
    table(["", *(NAMES[name] for name in figures)], ([text, *map(of, figures.values())] for text, of in rows))
    if beside:
        both = [beside["agent"], *beside["privsep"]]
        say(
            f"\nCyborg's agent, imported, and its privsep daemon: PSS {mib(sum(each['pss'] for each in both))} MiB "
            f"({', '.join(mib(each['pss']) for each in both)}); its imports take {beside['import_ms']:.0f} ms of CPU"
        )
    say("\nthreads of the agent in a minute of rest: wake-ups (ms of CPU)")
    table(["", *(NAMES[name] for name in figures)], awake(list(figures.values())))


def resting(figures: Figures) -> float:
    """Gives the ms of CPU of a mean minute: the watched one has a check of the health in it, but no full look."""
    watched, full = (sum(map(float, figures[name]["cpu"].values())) for name in ("rest", "full"))
    return watched + full / _FULL_EVERY


def awake(figures: Sequence[Figures]) -> list[list[str]]:
    """Gives the rows of the threads that did something."""
    by_name = [{each["name"]: each for each in one["threads"]} for one in figures]
    names = [name for name in by_name[0] if any(one.get(name, {}).get("wakeups") for one in by_name)]
    return [
        [name, *(f"{one[name]['wakeups']:.0f} ({one[name]['cpu']:.1f})" if name in one else "" for one in by_name)]
        for name in names
    ]


def took(cost: Mapping[str, Any], digits: int) -> str:
    """Gives `1.2 (345)`."""
    return f"{cost['seconds']:.{digits}f} ({sum(cost['cpu'].values()):.0f})"


def look(cost: Mapping[str, Any]) -> str:
    """Gives the ms of CPU of the two processes that a look keeps busy."""
    return f"{cost['cpu']['look']:.1f}, {cost['cpu']['agent']:.1f}"


def mib(kib: float) -> str:
    """Gives MiB."""
    return f"{kib / 1024:.1f}"


def percent(ms: float) -> str:
    """Gives how much of a core so many ms in a minute are."""
    return f"{100 * ms / _MINUTE_MS:.3f}"


if __name__ == "__main__":
    main()
