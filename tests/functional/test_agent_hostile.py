# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is done to the daemon by bad luck and bad hands: signals, disks, files, clients, and a Placement that errs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from .cloud import Cloud
from .running_agent import RunningAgent, running, write_configuration

GPU = "0000:3b:00.0"
NIC = "0000:3c:00.0"
FENCED = {"state": "unhealthy", "reason": "smells burnt"}


@contextmanager
def full_disk(folder: Path) -> Iterator[Path]:
    """Gives a file system of its own for the state; the file in it takes all the room while it is there."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder / "filler"
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(file: Path) -> None:
    """Takes all the room that there is."""
    with file.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(b"x" * 512)
        except OSError:
            pass


def fenced(agent: RunningAgent) -> list[str]:
    return [each["address"] for each in agent.status()["fenced"]]


def state_of(agent: RunningAgent, address: str) -> str:
    (found,) = (each for each in agent.api.get("/v1/health")["devices"] if each["address"] == address)
    return str(found["state"])


def fatal_errors(host: Path, count: int) -> None:
    """Has the kernel have counted so many fatal PCIe errors of the NIC."""
    (host / "sys/bus/pci/devices" / NIC / "aer_dev_fatal").write_text(f"TOTAL_ERR_FATAL {count}\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a file system")
def test_a_word_that_a_full_disk_did_not_take_is_kept_once_there_is_room(place: Path, host: Path, cloud: Cloud) -> None:
    configuration = write_configuration(place, cloud.name, cloud.url)
    with full_disk(place / "state") as filler:
        with running(host, configuration) as agent:
            agent.reported()
            fill(filler)
            agent.api.put(f"/v1/health/{GPU}", FENCED)
            agent.until(lambda: "cannot be written" in agent.log)
            filler.unlink()
            agent.api.post("/v1/rescan", wait=60)
            agent.stop(signal.SIGKILL)
        with running(host, configuration) as again:
            assert fenced(again.reported()) == [GPU]


def test_looks_that_somebody_asks_for_are_no_clean_checks(place: Path, host: Path, cloud: Cloud) -> None:
    fatal_errors(host, 0)
    with running(host, write_configuration(place, cloud.name, cloud.url)) as agent:
        agent.reported()
        fatal_errors(host, 2)
        agent.api.post("/v1/rescan", wait=60)
        assert state_of(agent, NIC) == "unhealthy"
        for _ in range(5):
            agent.api.post("/v1/rescan", wait=60)
        assert state_of(agent, NIC) == "unhealthy"


def test_without_a_word_of_placement_it_does_not_start_and_says_so_in_one_line(
    place: Path, host: Path, cloud: Cloud
) -> None:
    configuration = write_configuration(place, cloud.name, cloud.url)
    text = configuration.read_text()
    configuration.write_text(text[: text.index("[placement]")])
    with running(host, configuration) as agent:
        assert agent.process.wait(60) == 2
        (line,) = agent.log.splitlines()
        assert "[placement] auth_type is not set" in line


def test_a_socket_that_cannot_be_had_ends_the_start_before_anything_is_touched(
    place: Path, host: Path, cloud: Cloud
) -> None:
    configuration = write_configuration(place, cloud.name, cloud.url, api={"unix_socket_group": "no-such-group"})
    with running(host, configuration) as agent:
        assert agent.process.wait(60) == 2
        assert "no group no-such-group" in agent.log
        assert "the host has" not in agent.log


def test_fifty_signals_neither_end_it_nor_keep_it_from_its_end(place: Path, host: Path, cloud: Cloud) -> None:
    with running(host, write_configuration(place, cloud.name, cloud.url)) as agent:
        agent.reported()
        for number in [signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGCONT, signal.SIGWINCH] * 10:
            agent.process.send_signal(number)
        agent.reload()
        assert agent.status()["state"] == "running"
        for _ in range(20):
            agent.process.send_signal(signal.SIGHUP)
        agent.process.send_signal(signal.SIGTERM)
        assert agent.stop(signal.SIGINT) == 0
        assert "Traceback" not in agent.log


@pytest.mark.parametrize("who", ["privileged", "look"])
def test_it_ends_though_one_of_its_processes_stands_still(place: Path, host: Path, cloud: Cloud, who: str) -> None:
    with running(host, write_configuration(place, cloud.name, cloud.url)) as agent:
        agent.reported()
        (pid,) = (each["pid"] for each in agent.status()["processes"] if each["name"] == who)
        os.kill(pid, signal.SIGSTOP)
        assert agent.stop() == 0


@pytest.mark.parametrize("file", ["health.json", "placement.state"])
@pytest.mark.parametrize("what", ["folder", "loop", "nowhere", "deep"])
def test_no_state_file_whatever_it_is_stops_it(place: Path, host: Path, cloud: Cloud, file: str, what: str) -> None:
    path = place / "state" / file
    path.parent.mkdir()
    match what:
        case "folder":
            path.mkdir()
        case "loop":
            path.symlink_to(path)
        case "nowhere":
            path.symlink_to("/nonexistent/file")
        case "deep":
            path.write_bytes(b"[" * 1_000_000)
    with running(host, write_configuration(place, cloud.name, cloud.url)) as agent:
        agent.reported().api.put(f"/v1/health/{GPU}", FENCED)
        agent.until(lambda: fenced(agent) == [GPU])
        assert "Traceback" not in agent.log


def test_vfs_and_devices_that_come_and_go_during_looks_are_right_in_the_end(
    place: Path, host: Path, cloud: Cloud
) -> None:
    there = host / "sys/bus/pci/devices"
    moved = [path for path in there.iterdir() if path.name.startswith("0000:3c:") and path.name != NIC]
    moved.append(there / GPU)
    ended = threading.Event()

    def flap() -> None:
        while not ended.is_set():
            for path in moved:
                path.rename(host / path.name)
            for path in moved:
                (host / path.name).rename(path)

    with running(host, write_configuration(place, cloud.name, cloud.url)) as agent:
        agent.reported()
        before = cloud.tree()
        wanted = {name: _totals(each) for name, each in before.items()}
        thread = threading.Thread(target=flap)
        thread.start()
        try:
            for _ in range(30):
                assert agent.api.post("/v1/rescan", wait=60)["done"]
        finally:
            ended.set()
            thread.join()
        agent.api.post("/v1/rescan", wait=60)
        agent.until(lambda: {name: _totals(cloud.tree()[name]) for name in before} == wanted)
        assert "Traceback" not in agent.log


def _totals(provider: dict[str, Any]) -> dict[str, tuple[int, int]]:
    return {name: (each["total"], each["reserved"]) for name, each in provider["inventories"].items()}


class _Errant(BaseHTTPRequestHandler):
    """Answers every request with what `said` holds."""

    protocol_version = "HTTP/1.1"
    said: tuple[int, bytes, dict[str, str]] = (500, b"", {})

    def do_GET(self) -> None:
        status, body, headers = self.said
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), "Content-Type": "application/json", **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def errant() -> Iterator[ThreadingHTTPServer]:
    """Runs a server that is no Placement."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Errant) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (200, b"", {}),
        (200, b"[]", {}),
        (200, b'{"resource_providers": null}', {}),
        (302, b"", {"Location": "file:///etc/passwd"}),
        (400, b'{"errors": [{"detail": "\\u001b[2J"}]}', {}),
        (429, b"", {"Retry-After": "99999999999"}),
    ],
)
def test_a_placement_that_errs_is_told_and_asked_again_before_long(
    place: Path,
    host: Path,
    cloud: Cloud,
    errant: ThreadingHTTPServer,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    body: bytes,
    headers: dict[str, str],
) -> None:
    monkeypatch.setattr(_Errant, "said", (status, body, headers))
    url = f"http://127.0.0.1:{errant.server_port}"
    with running(host, write_configuration(place, cloud.name, url)) as agent:
        agent.until(lambda: agent.status().get("report", {}).get("state") == "failed")
        document = agent.status()
        assert document["state"] == "degraded"
        assert document["report"]["retry_at"][:4] == document["started"][:4]
        assert "Traceback" not in agent.log
        assert "\x1b" not in agent.log


def test_a_client_may_say_anything_and_many_may_be_silent(place: Path, host: Path, cloud: Cloud) -> None:
    path = str(place / "api.sock")
    with running(host, write_configuration(place, cloud.name, cloud.url)) as agent, ExitStack() as open_ones:
        agent.reported()
        for _ in range(300):
            open_ones.enter_context(socket.socket(socket.AF_UNIX)).connect(path)
        for said in (
            b"\r\n\r\n",
            b"GARBAGE\r\n\r\n",
            b"GET /\xff HTTP/9.9\r\n\r\n",
            b"PUT / HTTP/1.1\r\nHost: \r\n\r\n",
        ):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                client.sendall(said)
                client.shutdown(socket.SHUT_WR)
                client.recv(1 << 16)
        assert agent.status()["state"] == "running"
        assert "Traceback" not in agent.log
