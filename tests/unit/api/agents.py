# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A small agent behind the real API: honest about what it was told, and as slow as a test wants."""

from __future__ import annotations

import io
import json
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from webob import Request

from devagent.api.app import CALLER, Application
from devagent.api.caller import Local
from devagent.api.doors import Door, UnixDoor
from devagent.api.server import Server
from devagent.errors import DevagentError, NoSuchDevice, NoSuchPreparation, NotReady, PreparedOtherwise

Document = dict[str, Any]

GPU, NIC = "0000:3b:00.0", "0000:3c:00.0"
GPU_ID, NIC_ID = "6a4f2c7e-1b1d-5c55-9f3e-0d9b7a4a3c11", "0d9b7a4a-1b1d-5c55-9f3e-6a4f2c7e3c11"
AT = "2026-11-21T17:00:00Z"
ROOT = Local(0, 0, 123, operator=True)
GUEST = Local(1234, 1234, 124, operator=False)
SCAN: Document = {"devices": 2, "problems": []}


class Agent:
    """Implements Backend; `looked` ends a look, `broken` is raised by whatever only reads."""

    def __init__(self, found: Document | None = None, now: Document | None = None) -> None:
        self.found, self.now = found, now or {}
        self.overrides: dict[str, Document] = {}
        self.prepared: dict[str, Document] = {}
        self.looked, self.asked = threading.Event(), threading.Semaphore(0)
        self.waits: list[float] = []
        self.hinted: list[dict[str, str]] = []
        self.broken: BaseException | None = None
        self.failing: list[tuple[str, bool, str | None]] = []

    def devices(self) -> Document:
        self._fail()
        if self.found is None:
            raise NotReady("the agent has not looked at this host yet")
        return self.found

    def providers(self) -> Document:
        provider = {
            "uuid": GPU_ID,
            "name": f"devagent:host:{GPU}",
            "parent": NIC_ID,
            "inventories": {},
            "traits": ["CUSTOM_DEVAGENT"],
            "devices": [GPU],
            "generation": 3,
            "known": True,
        }
        differs = [{"provider": provider["name"], "what": "PGPU 1 is missing"}]
        return {
            "schema_version": 1,
            "root": {"uuid": NIC_ID, "name": "host"},
            "providers": [provider],
            "differs": differs,
        }

    def status(self) -> Document:
        self._fail()
        return self.now

    def health(self) -> Document:
        return {"schema_version": 1, "devices": [self._entry(address, uid) for address, uid in self._known()]}

    def set_health(self, target: str, state: str, reason: str, expires_in: int | None, by: str) -> Document:
        address, uid = self._find(target)
        until = None if expires_in is None else "2026-11-21T19:00:00Z"
        self.overrides[address] = {"state": state, "reason": reason, "by": by, "until": until}
        return self._entry(address, uid)

    def clear_health(self, target: str, by: str) -> Document:
        address, uid = self._find(target)
        self.overrides.pop(address, None)
        return self._entry(address, uid)

    def rescan(self, wait_s: float) -> Document:
        self.waits.append(wait_s)
        self.asked.release()
        return {"done": True, **SCAN} if self.looked.wait(wait_s) else {"done": False}

    def prepare(self, consumer: str, body: Document, wait_s: float) -> tuple[Document, int]:
        self._fail()
        self.waits.append(wait_s)
        made = self.prepared.setdefault(consumer, {"asked": body, **_preparation(consumer)})
        if made["asked"] != body:
            raise PreparedOtherwise(consumer)
        found = {key: value for key, value in made.items() if key != "asked"}
        return (found, 200) if wait_s else ({**found, "state": "preparing"}, 202)

    def unprepare(self, consumer: str, wait_s: float) -> tuple[Document | None, int]:
        self._fail()
        left = self.prepared.pop(consumer, None)
        return (None, 204) if wait_s or left is None else ({**_preparation(consumer), "state": "releasing"}, 202)

    def forget(self, consumer: str, reason: str, offer: bool, by: str) -> Document:
        self._fail()
        if self.prepared.pop(consumer, None) is None:
            raise NoSuchPreparation(consumer)
        device = {"provider": GPU_ID, "functions": [GPU], "address": GPU, "withheld": not offer}
        if not offer:
            self.set_health(GPU, "unhealthy", reason, None, by)
        return {"consumer": consumer, "devices": [device]}

    def preparation(self, consumer: str) -> Document:
        if consumer not in self.prepared:
            raise NoSuchPreparation(consumer)
        return _preparation(consumer)

    def preparations(self) -> Document:
        self._fail()
        return {"schema_version": 1, "preparations": [_preparation(each) for each in sorted(self.prepared)]}

    def hint(self, events: Mapping[str, str]) -> int:
        self._fail()
        self.hinted.append(dict(events))
        return len(self.prepared.keys() & events.keys())

    def checks(self) -> Sequence[tuple[str, bool, str | None]]:
        return [("report", True, None), *self.failing]

    def metrics(self) -> bytes:
        return b"devagent_devices 2\n"

    def _fail(self) -> None:
        if self.broken is not None:
            raise self.broken

    def _known(self) -> tuple[tuple[str, str], ...]:
        return (GPU, GPU_ID), (NIC, NIC_ID)

    def _find(self, target: str) -> tuple[str, str]:
        for known in self._known():
            if target in known:
                return known
        raise NoSuchDevice(target)

    def _entry(self, address: str, uid: str) -> Document:
        override = self.overrides.get(address)
        return {
            "id": uid,
            "address": address,
            "kind": "gpu" if address == GPU else "nic",
            "model": "NVIDIA A100" if address == GPU else "Mellanox ConnectX-6",
            "state": override["state"] if override else "healthy",
            "reasons": [override["reason"]] if override else [],
            "since": AT,
            "clean_checks": 3,
            "flaps": 0,
            "evidence": [],
            "override": override,
        }


def _preparation(consumer: str) -> Document:
    empty: Document = {"groups": [], "handles": [], "steps": [], "timings": {}, "progress": None}
    times = {"created": AT, "deadline": AT, "expires": None}
    return {"consumer": consumer, "project_id": None, "state": "prepared", **empty, **times, "error": None}


class Failed(DevagentError):
    """What an agent may fail with on purpose."""


def ask(application: Application, method: str, path: str, body: Any = None, **more: Any) -> Any:
    """Asks without a server, and gives webob's response."""
    headers = {key.replace("_", "-"): value for key, value in more.pop("headers", {}).items()}
    environ = {CALLER: more.pop("caller", ROOT)}
    if body is not None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers.setdefault("Content-Type", "application/json")
        more = {"body_file": io.BytesIO(content), "content_length": len(content), **more}
    return Request.blank(path, environ=environ, method=method, headers=headers, **more).get_response(application)


@contextmanager
def place() -> Iterator[Path]:
    """Gives a path for a socket, short enough to be one."""
    with tempfile.TemporaryDirectory(prefix="devagent-") as folder:
        yield Path(folder) / "devagent.sock"


@contextmanager
def serving(agent: Agent, path: Path, *, waiting: int = 8, group: str | None = None, **more: Any) -> Iterator[Server]:
    """Serves the agent on a socket, in a thread, for the time of a `with`."""
    with serving_at(UnixDoor(path, group), agent, waiting=waiting, **more) as server:
        yield server


@contextmanager
def serving_at(
    door: Door, agent: Agent, *, waiting: int = 8, beat: Callable[[], object] = int, **more: Any
) -> Iterator[Server]:
    """Serves the agent at a door, in a thread, for the time of a `with`."""
    server = Server(Application(agent, waiting=waiting), door, **more)
    server.listen()
    thread = threading.Thread(target=server.serve, args=(beat,), name="api")
    thread.start()
    try:
        yield server
    finally:
        agent.looked.set()
        server.stop(5)
        thread.join()


def connected(path: Path) -> socket.socket:
    """Connects, with a limit on every wait: a test that would hang fails."""
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    opened.settimeout(30)
    opened.connect(os.fspath(path))
    return opened


def exchange(path: Path, request: bytes) -> bytes:
    """Sends bytes and gives all that comes back until the other end closes."""
    with connected(path) as opened:
        try:
            opened.sendall(request)
            opened.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):  # it has answered already
            pass
        return received(opened)


def received(opened: socket.socket) -> bytes:
    """Gives all that comes until the other end closes."""
    found = bytearray()
    try:
        while part := opened.recv(1 << 16):
            found += part
    except ConnectionResetError:
        pass
    return bytes(found)
