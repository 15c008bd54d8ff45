# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""How long it takes from what the kernel says of a device to Placement's answer, and in how many looks and requests.

    python -m bench.event [--times 20] [--host 322 4096] [--json FILE]

The daemon runs as in bench.agent: a described host's /sys is its machine's. That host has a GPU and a PF at addresses
at which this machine has devices of its own, so the kernel can be made to speak of them: `change`, written to their
`uevent`, comes back as a genuine event. The described host is changed just before. A FIFO is the kernel's log, since an
XID in the real one would be believed by whoever reads that. It needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from devagent.sources.udev import QUIET

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from hosts.generate import generate

from bench.agent import nvml, small
from bench.beside import REPOSITORY
from bench.event_host import VFS
from bench.placement import placement
from bench.scan import MEMORY, described, say, table

NAMES: Final = {"322": (2, 29), "4096": (28, 135)}
"""The hosts by how many functions they have; and how many PFs with how many VFs besides the one with its 256."""

MOST_LOOKS: Final = 2
MOST_REQUESTS: Final = 3

_HEADS: Final = (
    *("until it looks", "until the first request", "requests", "total", "look by its metric"),
    *("events", "looks", "requests"),
)
_IN_ITS_PLACE: Final = (
    'mount --bind /sys "$0/machine" && mount --bind "$0/host/sys" /sys && mount --bind "$0/log" /dev/kmsg && exec "$@"'
)


def main() -> int:
    """Measures what the arguments say; gives 1 if anything took more than it may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20, help="how often each kind happens")
    parser.add_argument("--host", nargs="+", default=list(NAMES), choices=list(NAMES))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the courses")
    args = parser.parse_args()
    found = {name: measure(name, args.times) for name in args.host}
    print_tables(found)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    for line in (lines := list(beyond(found))):
        say(f"too much: {line}")
    return 1 if lines else 0


def measure(name: str, times: int) -> Mapping[str, Any]:
    """Makes the host and gives the courses of its turn."""
    gpu, pf = addresses()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder, placement() as url:
        top = Path(folder)
        root = generate(description(name, gpu, pf), top / "host")
        for each in ("machine", "aside"):
            (top / each).mkdir()
        os.mkfifo(top / "log")
        ours = (sys.executable, "-m", "bench.event_turn", "--top", str(top), "--times", f"{times}")
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", _IN_ITS_PLACE, str(top), *ours, "--url", url, "--gpu", gpu, "--pf", pf],
            cwd=REPOSITORY,
            env={**os.environ, **nvml(root, top)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    courses: Mapping[str, Any] = json.loads(done.stdout)
    return courses


def addresses() -> tuple[str, str]:
    """Gives two addresses at which this machine has devices on its first bus."""
    found = sorted(path.name for path in Path("/sys/bus/pci/devices").glob("0000:00:*.0"))
    if len(found) < 2:
        raise SystemExit("this machine has no two PCI devices on bus 0000:00: its kernel cannot speak of any")
    return found[0], found[1]


def description(name: str, gpu: str, pf: str) -> dict[str, Any]:
    """Describes a host of so many functions, with a GPU and a PF at these addresses."""
    card = {"id": "10de:20f1", "class": "030200", "driver": "nvidia", "at": gpu[8:]}
    vfs = {"total": VFS, "count": VFS, "offset": VFS, "device": "1889", "driver": "vfio-pci"}
    nic = {"id": "8086:1592", "class": "020000", "driver": "ice", "at": pf[8:], "vfs": vfs}
    host = small()
    first = {**host["pci"][0], "devices": [card, nic, *host["pci"][0]["devices"]]}
    return {**host, "pci": [first, *described(*NAMES[name])["pci"]]}


def print_tables(found: Mapping[str, Any]) -> None:
    """Prints medians and worst, and which requests there were."""
    say(f"ms, median (worst); the debounce of {1000 * QUIET:.0f} ms is in the total alone")
    for name, kinds in found.items():
        say("")
        table([f"{name} functions", *_HEADS], ([kind, *cells(each)] for kind, each in kinds.items()))
    say("\nrequests\n")
    for name, kinds in found.items():
        for kind, each in kinds.items():
            ways = Counter(tuple(one["requests"]) for one in each["courses"])
            says = (f"{times} x [{', '.join(way)}]" for way, times in ways.most_common())
            say(f"- {name}, {kind}: {'; '.join(says)}")


def cells(each: Mapping[str, Any]) -> list[str]:
    """Gives a row of the table: each part begins where the one before ends."""
    courses, waited = each["courses"], 1000 * QUIET if each["debounced"] else 0.0
    parts = (
        [less(one["begun"], waited) for one in courses],
        [less(one["sent"], one["begun"] or 0.0) for one in courses],
        [less(one["answered"], one["sent"]) for one in courses],
        [one["answered"] for one in courses],
        [one["look"] for one in courses],
    )
    counts = ([one["events"] for one in courses], [one["looks"] for one in courses], sent(courses))
    return [*map(middle, parts), *map(ranged, counts)]


def sent(courses: Iterable[Mapping[str, Any]]) -> list[int]:
    """Gives how many requests there were each time."""
    return [len(one["requests"]) for one in courses]


def beyond(found: Mapping[str, Any]) -> Iterator[str]:
    """Says what took more looks than two or more requests than three, or a look at everything."""
    for name, kinds in found.items():
        for kind, each in kinds.items():
            courses = each["courses"]
            looks, full = (max(one[what] for one in courses) for what in ("looks", "full"))
            if looks > MOST_LOOKS or full or max(sent(courses)) > MOST_REQUESTS:
                yield f"{name}, {kind}: up to {looks} looks, {full} at everything, {max(sent(courses))} requests"


def less(value: float | None, other: float | None) -> float | None:
    """Gives the difference of what came to pass."""
    return None if value is None or other is None else value - other


def middle(values: list[float | None]) -> str:
    """Gives `41 (57)`."""
    there = [each for each in values if each is not None]
    return f"{statistics.median(there):.0f} ({max(there):.0f})" if there else "-"


def ranged(numbers: list[int]) -> str:
    """Gives `2`, or `1-2`."""
    least, most = min(numbers), max(numbers)
    return str(least) if least == most else f"{least}-{most}"


if __name__ == "__main__":
    sys.exit(main())
