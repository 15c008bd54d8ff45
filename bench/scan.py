# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Scans the same hosts with devagent, with C that reads the same files, with lspci and with pyudev, by turns.

    python -m bench.scan [--functions 64 512 4096] [--rounds 7] [--json FILE]

The hosts are described trees in memory, warm. In each round each contestant has one turn in a process of its
own; what is printed are the medians. lspci is taken as a whole process, beside `devagent discover -o json`.
Contestants that this machine has not are left out with a word: a C compiler, lspci, root rights (pyudev).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
HOSTS: Final = HERE.parent / "tests/hosts"
MEMORY: Final = Path("/dev/shm")  # noqa: S108 - trees of files that nobody else has to do with
PCI: Final = "sys/bus/pci"

C_UEVENTS, C_SAME = "C, each uevent", "C, the same calls"
SCAN, DISCOVER, PYUDEV = "scan", "discover", "pyudev"
LSPCI, PROCESS = "lspci -vmmnnk", "devagent discover -o json"
PASS, IMPORTS = "python3 -c pass", "the same and what devagent imports of others"

# What every start of `discover` needs of the standard library, and stevedore for the drivers.
_FOREIGN: Final = "argparse dataclasses enum fnmatch json logging pathlib pickle re selectors stevedore uuid"
_INNER: Final = 5


@dataclass(frozen=True, slots=True)
class Took:
    """Milliseconds of wall-clock and of CPU time."""

    wall: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Contestant:
    """One that takes turns: it measures itself (`itself`), or is measured as a whole process."""

    name: str
    command: tuple[str, ...]
    itself: bool = True
    reads: Path | None = None
    more: tuple[tuple[str, str], ...] = ()

    def turn(self) -> Took:
        """Takes one turn and gives its median."""
        before, start = _children(), time.perf_counter()
        with (self.reads or Path(os.devnull)).open() as reads:
            done = subprocess.run(
                self.command,
                stdin=reads,
                capture_output=True,
                text=True,
                check=True,
                env={**os.environ, **dict(self.more)},
            )
        after, end = _children(), time.perf_counter()
        if not self.itself:
            return Took((end - start) * 1e3, (after - before) * 1e3)
        rounds = [line.split() for line in done.stdout.splitlines()]
        return Took(*(statistics.median(int(each[column]) for each in rounds) / 1e6 for column in (0, 1)))


def _children() -> float:
    """Gives the seconds of CPU time of all processes that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measures what the arguments say."""
    parser = argparse.ArgumentParser(description="The scan of a host, beside what there is.")
    parser.add_argument("--functions", type=int, nargs="+", default=[64, 512, 4096], choices=[64, 512, 4096])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    args = parser.parse_args()
    results: dict[str, Mapping[str, Took]] = {}
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        top = Path(folder)
        # As installed: with bytecode that is there, though this checkout may have none.
        os.environ.update(PYTHONDONTWRITEBYTECODE="", PYTHONPYCACHEPREFIX=str(top / "bytecode"))
        program = compiled(top)
        for functions in args.functions:
            root = host(functions, top / str(functions))
            results[str(functions)] = compared(list(scanning(root, program)), args.rounds)
            shutil.rmtree(root)
        small = generated(HOSTS / "vm.yaml", top / "vm")
        results["start"] = compared(list(starting(small)), 3 * args.rounds)
        print_tables(results, args.functions)
        print_imports(small)
    if args.json:
        figures = {name: {who: asdict(took) for who, took in each.items()} for name, each in results.items()}
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


def compared(contestants: Sequence[Contestant], rounds: int) -> dict[str, Took]:
    """Lets the contestants take turns and gives the medians."""
    turns: dict[str, list[Took]] = {each.name: [] for each in contestants}
    for each in contestants:  # what is read for the first time is read from the disk
        each.turn()
    for _ in range(rounds):
        for each in contestants:
            turns[each.name].append(each.turn())
    return {
        name: Took(statistics.median(took.wall for took in each), statistics.median(took.cpu for took in each))
        for name, each in turns.items()
    }


def scanning(root: Path, program: str | None) -> Iterator[Contestant]:
    """Gives those who scan the host below `root`."""
    ours = (sys.executable, "-m", "bench.scan_turn")
    rounds = str(_INNER)
    yield Contestant(SCAN, (*ours, "scan", rounds, str(root)))
    yield Contestant(DISCOVER, (*ours, "discover", rounds, str(root)))
    if program:
        asked = root.with_suffix(".asked")
        asked.write_text(subprocess.check_output([*ours, "record", "1", str(root)], text=True))
        yield Contestant(C_UEVENTS, (program, "uevents", rounds, str(root / PCI / "devices")))
        yield Contestant(C_SAME, (program, "list", rounds, str(root)), reads=asked)
    yield whole(PROCESS, *discovering(root))
    if has_lspci():
        yield whole(LSPCI, "lspci", "-vmmnnk", "-O", f"sysfs.path={root / PCI}")
    else:
        say("lspci is not installed (package pciutils): left out")
    if may_unshare():
        command = in_its_sys(root, *ours, PYUDEV, rounds, "/")
        yield Contestant(PYUDEV, command, more=(("SYSTEMD_DEVICE_VERIFY_SYSFS", "0"),))
    else:
        say("pyudev needs a mount namespace, which only root may make: left out")


def starting(root: Path) -> Iterator[Contestant]:
    """Gives the whole processes: the command on a small host, and what it cannot be quicker than."""
    yield whole(PASS, sys.executable, "-c", "pass")
    yield whole(IMPORTS, sys.executable, "-c", f"import {', '.join(_FOREIGN.split())}")
    yield whole(PROCESS, *discovering(root))


def whole(name: str, *command: str) -> Contestant:
    """Gives a contestant that is measured from outside."""
    return Contestant(name, command, itself=False)


def has_lspci() -> bool:
    """Says whether pciutils are installed."""
    return shutil.which("lspci") is not None


def may_unshare() -> bool:
    """Says whether this process may make mount namespaces, as root may."""
    return subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode == 0


def in_its_sys(root: Path, *command: str) -> tuple[str, ...]:
    """Gives a command for which the described host's /sys is the machine's, as whoever reads /sys itself needs it."""
    return (
        "unshare",
        "--mount",
        "sh",
        "-c",
        'mount --bind "$1/sys" /sys && shift && exec "$@"',
        "sh",
        str(root),
        *command,
    )


def discovering(root: Path) -> tuple[str, ...]:
    """Gives the command that discovers the host below `root`."""
    return (sys.executable, "-m", "devagent", "discover", "--root", str(root), "-o", "json")


def compiled(top: Path) -> str | None:
    """Compiles scan.c; without a compiler its two rows are left out."""
    compiler = shutil.which("cc")
    if compiler is None:
        say("there is no C compiler (cc): its rows are left out")
        return None
    subprocess.run([compiler, "-O2", "-o", str(top / "scan"), str(HERE / "scan.c")], check=True)
    return str(top / "scan")


def host(functions: int, dest: Path) -> Path:
    """Writes a host with so many functions, and what lspci wants of each besides."""
    if functions == 4096:
        root = generated(HOSTS / "big.yaml", dest)
    else:
        ports, vfs = {64: (2, 30), 512: (8, 62)}[functions]
        description = dest.with_suffix(".yaml")
        description.write_text(json.dumps(described(ports, vfs)))  # which YAML is, too
        root = generated(description, dest)
    devices = [Path(entry.path) for entry in os.scandir(root / PCI / "devices")]
    if len(devices) != functions:
        raise SystemExit(f"the described host has {len(devices)} functions, not {functions}")
    for device in devices:
        for name, content in configuration(device).items():
            (device / name).write_bytes(content)
    return root


def described(ports: int, vfs: int) -> dict[str, Any]:
    """Describes a host of root ports with one PF each; half of the VFs are with vfio-pci, half without a driver."""
    drivers = {f"0-{vfs // 2 - 1}": "vfio-pci", f"{vfs // 2}-{vfs - 1}": None}
    nic = {
        "id": "15b3:101d",
        "class": "020000",
        "driver": "mlx5_core",
        "vfs": {"total": vfs, "count": vfs, "device": "101e", "driver": drivers},
    }
    port = {"id": "8086:352a", "class": "060400", "driver": "pcieport", "behind": [nic]}
    bus = {"bus": "0000:20", "node": 0, "devices": [port] * ports}
    names = {"host": "bench", "hostname": "bench", "machine_id": "1", "boot_id": "2"}
    return {**names, "nodes": ["0-3"], "pci": [bus]}


def generated(description: Path, dest: Path) -> Path:
    """Writes a described host."""
    subprocess.run([sys.executable, "-m", "tests.hosts.generate", str(description), str(dest)], check=True)
    return dest


def configuration(device: Path) -> dict[str, bytes]:
    """Gives the files of a function that lspci fails without: configuration space, interrupt and resources."""
    numbers = [int((device / name).read_text(), 16) for name in ("vendor", "device", "class")]
    vendor, number, code = numbers
    header = vendor.to_bytes(2, "little") + number.to_bytes(2, "little") + bytes(5) + code.to_bytes(3, "little")
    return {
        "config": header.ljust(256, b"\0"),
        "irq": b"0\n",
        "resource": b"0x0000000000000000 0x0000000000000000 0x0000000000000000\n" * 13,
    }


def print_tables(results: Mapping[str, Mapping[str, Took]], sizes: Sequence[int]) -> None:
    """Prints the medians and what they are to each other."""
    say("\nmilliseconds of CPU time (of wall-clock time)")
    names = [C_UEVENTS, C_SAME, SCAN, DISCOVER, PYUDEV, PROCESS, LSPCI]
    table(
        ["", *(f"{size} functions" for size in sizes)],
        ([name, *(shown(results[str(size)].get(name)) for size in sizes)] for name in names),
    )
    say("\nratios of CPU time")
    pairs = [(SCAN, C_UEVENTS), (SCAN, C_SAME), (DISCOVER, C_UEVENTS), (PYUDEV, SCAN), (LSPCI, SCAN), (LSPCI, PROCESS)]
    table(
        ["", *(f"{size} functions" for size in sizes)],
        ([f"{one} / {other}", *(ratio(results[str(size)], one, other) for size in sizes)] for one, other in pairs),
    )
    say("\nthe start, on a small host")
    start = results["start"]
    table(
        ["", "ms of CPU time (wall-clock)", "to the first"],
        ([n, shown(start[n]), ratio(start, n, PASS)] for n in start),
    )
    say(f"to {IMPORTS}: {ratio(start, PROCESS, IMPORTS)}")


def print_imports(root: Path) -> None:
    """Prints who has which share of the time that imports take."""
    command = [sys.executable, "-X", "importtime", *discovering(root)[1:]]
    noted = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    shares: dict[str, int] = {}
    for line in noted.splitlines():
        # import time:       123 |        456 |   package.module
        own, _, name = line.removeprefix("import time:").rpartition("|")
        if line.startswith("import time:") and own.split("|")[0].strip().isdigit():
            package = whose(name.strip())
            shares[package] = shares.get(package, 0) + int(own.split("|")[0])
    total = sum(shares.values())
    say("\nof the time that imports take (-X importtime): " + "; ".join(
        f"{package} {100 * spent / total:.0f} %" for package, spent in sorted(shares.items(), key=lambda x: -x[1])
    ))  # fmt: skip


def whose(module: str) -> str:
    """Gives the part of devagent, stevedore, or all else: the standard library."""
    parts = module.split(".")
    if parts[0] == "devagent":
        return ".".join(parts[:2]) if len(parts) > 2 else "devagent"
    return "stevedore" if parts[0] == "stevedore" else "standard library"


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Prints a table as Markdown has it."""
    heads = list(headings)
    for row in (heads, ["---"] * len(heads), *rows):
        say(f"| {' | '.join(row)} |")


def shown(took: Took | None) -> str:
    """Gives `24.5 (25.1)`."""
    return f"{took.cpu:.1f} ({took.wall:.1f})" if took else "not here"


def ratio(results: Mapping[str, Took], one: str, other: str) -> str:
    """Gives how many times as much CPU time `one` takes as `other`."""
    if one not in results or other not in results:
        return "not here"
    return f"{results[one].cpu / max(results[other].cpu, 0.001):.1f}"


def say(text: str) -> None:
    """Prints a line."""
    print(text, flush=True)  # noqa: T201 - the result


if __name__ == "__main__":
    main()
