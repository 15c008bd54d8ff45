# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The client of the commands: what it says when something is in the way."""

from __future__ import annotations

import grp
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devagent.api.client import Client
from devagent.errors import AgentDenied, AgentError, AgentRefused, AgentUnreachable

from .agents import GPU, Agent, serving

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
OVERRIDE = {"state": "suspect", "reason": "it smells"}


def problem(client: Client, kind: type[AgentError] = AgentUnreachable) -> str:
    with pytest.raises(kind) as caught:
        client.get("/v1/status")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@contextmanager
def answering(path: Path, answer: bytes | None) -> Iterator[None]:
    """Listens as something that is no devagent: it sends these bytes and closes, or accepts nobody."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(1)

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer or b"")

        thread = threading.Thread(target=serve) if answer is not None else None
        if thread:
            thread.start()
        yield
        if thread:
            thread.join()


def test_all_methods_reach_the_agent(agent: Agent, path: Path) -> None:
    client = Client(str(path))
    with serving(agent, path):
        assert client.get("/v1/status") == {"state": "running"}
        assert client.put(f"/v1/health/{GPU}", OVERRIDE)["state"] == "suspect"
        assert client.delete(f"/v1/health/{GPU}")["state"] == "healthy"
        assert client.post("/v1/rescan", wait=0)["done"] is False
        agent.looked.set()
        assert client.post("/v1/rescan", wait=30)["done"] is True


def test_without_an_agent_it_says_how_to_see_why(path: Path) -> None:
    wanted = f"no agent answers on {path} (not running?): systemctl status devagent"
    assert problem(Client(str(path))) == wanted
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert problem(Client(str(path))) == wanted
    assert problem(Client(f"{path}/below")) == wanted.replace(str(path), f"{path}/below")


def test_an_agent_that_does_not_answer_is_not_waited_for_for_ever(path: Path) -> None:
    with answering(path, None):
        assert problem(Client(str(path), timeout=0.1)) == (
            f"the agent on {path} did not answer within 0.1 s: systemctl status devagent"
        )


def test_an_agent_with_a_full_backlog_is_busy(path: Path) -> None:
    with answering(path, None), socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as two:
        one.connect(str(path))
        two.connect(str(path))
        assert "too many calls" in problem(Client(str(path), timeout=0.1))


def test_an_agent_that_ends_meanwhile_is_named(path: Path) -> None:
    with answering(path, b""):
        assert "ended before it answered" in problem(Client(str(path)))


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"Content-Length: 2\r\n\r\n{}",
        b"H" * 100_000,
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}",
        b'HTTP/1.1 500 Oh\r\nContent-Length: 13\r\n\r\n{"errors":[]}',
    ],
)
def test_what_is_no_devagent_is_named(path: Path, answer: bytes) -> None:
    with answering(path, answer):
        assert problem(Client(str(path))) == f"what answers on {path} is no devagent: --socket names another"


def test_what_the_agent_refuses_is_one_line_with_its_facts(agent: Agent, path: Path) -> None:
    with serving(agent, path), pytest.raises(AgentRefused) as caught:
        Client(str(path)).put("/v1/health/0000:ff:00.0", OVERRIDE)
    assert (caught.value.status, caught.value.code) == (404, "devagent.device.unknown")
    assert str(caught.value).startswith("the agent: 0000:ff:00.0: no device")
    assert str(caught.value.request_id) not in str(caught.value)


def test_what_went_wrong_in_the_agent_is_named_by_its_request_id(agent: Agent, path: Path) -> None:
    agent.broken = ZeroDivisionError()
    with serving(agent, path), pytest.raises(AgentRefused) as caught:
        Client(str(path)).get("/v1/status")
    assert str(caught.value).count(str(caught.value.request_id)) >= 1


def test_a_body_that_is_too_large_is_refused_and_not_a_broken_pipe(agent: Agent, path: Path) -> None:
    with serving(agent, path), pytest.raises(AgentRefused) as caught:
        Client(str(path)).put(f"/v1/health/{GPU}", {"reason": "x" * 5_000_000})
    assert caught.value.status == 413


@as_root
@pytest.mark.parametrize("folder", [0o755, 0o700])
def test_who_may_not_connect_is_told_who_may(agent: Agent, path: Path, folder: int) -> None:
    group = grp.getgrall()[-1].gr_name
    path.parent.chmod(folder)
    with serving(agent, path, group=group):
        os.seteuid(1234)
        try:
            text = problem(Client(str(path)), AgentDenied)
        finally:
            os.seteuid(0)
    member = f", or as a member of the group {group}" if folder == 0o755 else ""
    assert text == f"permission denied on {path}: run this as root{member}"


def test_a_path_that_is_too_long_for_a_socket_is_told_in_words(tmp_path: Path) -> None:
    assert "its path has 107 bytes at most" in problem(Client(str(tmp_path / ("x" * 120))))
