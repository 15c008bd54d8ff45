# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""One host's turn of bench.event: makes things happen to it, and times what the daemon does about each.

    python -m bench.event_turn --top FOLDER --url http://127.0.0.1:8778 --gpu 0000:00:00.0 --pf 0000:00:01.0

bench.event has made the folder: `host` is the described host, whose /sys is this process's /sys, `machine` the /sys of
the machine itself, `log` the FIFO that this process has for /dev/kmsg.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import selectors
import socket
import sys
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from devagent.sources.udev import QUIET

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from functional.cloud import Cloud
from functional.running_agent import running, write_configuration
from functional.running_daemon import folder

from bench.agent_turn import SETTLED_S, Measured
from bench.event_host import Host, Kind

QUIET_S: Final = 0.6
"""So long after the last look began, and the last answer, nothing more comes of what happened."""

_KINDS: Final = ("partial", "full")
_IN_OPEN: Final = 0x20  # inotify(7)
_REQUEST: Final = re.compile(rb"(GET|PUT|POST|DELETE) (\S+) HTTP")
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")


@dataclass(frozen=True, slots=True)
class Course:
    """What became of something, in ms from the last word: a look begins, the first request is sent, the last answered.

    `look` is how long the looks took as the agent's metrics have it; None is what did not come to pass.
    """

    begun: float | None
    look: float | None
    sent: float | None
    answered: float | None
    events: int
    looks: int
    full: int
    requests: tuple[str, ...]


class Recorder:
    """Passes connections on to `url`, and notes when each request came and when the end of its answer went back."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname or "", parts.port or 80)
        self._door = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        self.requests: list[tuple[float, str]] = []
        self.answered = 0.0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            threading.Thread(target=self._pass, args=self._door.accept()[:1], daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(self._server) as server:
            selector = selectors.SelectSelector()
            for one, other in ((client, server), (server, client)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(one, selectors.EVENT_READ, other)
            while all(self._moved(key, client) for key, _ in selector.select()):
                pass

    def _moved(self, key: selectors.SelectorKey, client: socket.socket) -> bool:
        one, other = key.fileobj, key.data
        assert isinstance(one, socket.socket)
        now, data = time.monotonic(), one.recv(1 << 20)
        other.sendall(data)
        if one is not client:
            self.answered = time.monotonic()
        elif found := _REQUEST.match(data):
            what = _UUID.sub("UUID", urlsplit(found[2].decode()).path)
            self.requests.append((now, f"{found[1].decode()} {what}"))
        return bool(data)


class Eyes:
    """Notes when somebody opens the directory of all functions: with that each look begins."""

    def __init__(self, path: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_CLOEXEC)
        if libc.inotify_add_watch(self._fd, os.fsencode(path), _IN_OPEN) < 0:
            raise OSError(ctypes.get_errno(), "inotify", str(path))
        self.opened: list[float] = []
        threading.Thread(target=self._note, daemon=True).start()

    def _note(self) -> None:
        while os.read(self._fd, 1 << 16):
            self.opened.append(time.monotonic())


class Turn:
    """The measurements on one host."""

    def __init__(self, measured: Measured, recorder: Recorder, cloud: Cloud) -> None:
        self._measured, self._recorder, self._cloud = measured, recorder, cloud
        listed = cloud.call("GET", f"/resource_providers?in_tree={cloud.root}")["resource_providers"]
        self._uuids = {each["name"].rpartition(f"{cloud.name}:")[2]: each["uuid"] for each in listed}
        self._eyes = Eyes(Path("/sys/bus/pci/devices"))

    def course(self, kind: Kind) -> Course:
        """Lets it happen, and waits until Placement is right and all is quiet."""
        before, seen, asked = self._counts(), len(self._eyes.opened), len(self._recorder.requests)
        kind.change()
        told = self._recorder.answered = time.monotonic()
        kind.tell()
        self._until_quiet()
        self._measured.agent.until(lambda: self._offered(kind.address) == kind.offered)
        self._until_quiet()
        events, partial, full, seconds = (now - then for now, then in zip(self._counts(), before, strict=True))
        opened, requests = self._eyes.opened[seen:], self._recorder.requests[asked:]
        return Course(
            begun=1000 * (opened[0] - told) if opened else None,
            look=1000 * seconds if opened else None,
            sent=1000 * (requests[0][0] - told) if requests else None,
            answered=1000 * (self._recorder.answered - told) if requests else None,
            events=round(events),
            looks=round(partial + full),
            full=round(full),
            requests=tuple(what for _, what in requests),
        )

    def _until_quiet(self) -> None:
        while time.monotonic() < max(self._recorder.answered, *self._eyes.opened[-1:], 0.0) + QUIET_S:
            time.sleep(QUIET_S / 20)

    def _offered(self, address: str) -> int:
        inventories = self._cloud.call("GET", f"/resource_providers/{self._uuids[address]}/inventories")["inventories"]
        return sum(each["total"] - each["reserved"] for each in inventories.values())

    def _counts(self) -> tuple[float, float, float, float]:
        names = (f'devagent_look_seconds_{what}{{kind="{kind}"}}' for what in ("count", "sum") for kind in _KINDS)
        partial, full, *seconds = map(self._measured.counted, names)
        return self._measured.counted("devagent_uevents_total"), partial, full, sum(seconds)


def turn(top: Path, url: str, gpu: str, pf: str, times: int) -> dict[str, Any]:
    """Runs the daemon on the host below `top`, which is this process's machine, and gives the courses by kind."""
    host, recorder = Host(top, gpu, pf), Recorder(url)
    with folder() as place:
        cloud = Cloud(url, str(uuid.uuid4()), f"bench-{uuid.uuid4().hex[:12]}")
        cloud.create(cloud.name, None, cloud.root)
        configuration = write_configuration(place, cloud.name, recorder.url, inventory={"debounce": f"{QUIET}"})
        with running("/", configuration) as agent:
            measured = Measured(agent.ready().reported())
            time.sleep(SETTLED_S)
            once = Turn(measured, recorder, cloud)
            kinds = list(host.kinds(lambda: agent.api.delete(f"/v1/health/{gpu}")))
            rounds = [[once.course(kind) for kind in kinds] for _ in range(times + 1)][1:]  # the first is to get warm
    return {
        kind.name: {"debounced": kind.debounced, "courses": [asdict(one) for one in courses]}
        for kind, courses in zip(kinds, zip(*rounds, strict=True), strict=True)
    }


def main() -> None:
    """Measures what the arguments say, and prints it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--top", type=Path, required=True, help="the folder")
    parser.add_argument("--url", required=True, help="of a Placement")
    parser.add_argument("--gpu", required=True, help="the address of the GPU")
    parser.add_argument("--pf", required=True, help="that of the PF")
    parser.add_argument("--times", type=int, default=20, help="how often each kind happens")
    args = parser.parse_args()
    print(json.dumps(turn(args.top, args.url, args.gpu, args.pf, args.times)))  # noqa: T201 - its output


if __name__ == "__main__":
    main()
