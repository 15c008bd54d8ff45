# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The server on a real socket: clients that are silent, slow, broken or many, and its end."""

from __future__ import annotations

import logging
import os
import re
import resource
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from devagent.api.client import Client
from devagent.api.server import CONNECTIONS

from .agents import GPU, Agent, connected, exchange, received, serving
from .wire import CLOSE, GET, RESCAN, error, one_answer, status

CHUNKED = f"PUT /v1/health/{GPU} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()


def test_a_call_is_answered_and_the_connection_stays(agent: Agent, path: Path) -> None:
    with serving(agent, path), connected(path) as opened:
        for _ in range(3):
            opened.sendall(GET)
            assert one_answer(opened).endswith(b'{"state": "running"}')


def test_calls_that_come_at_once_are_answered_one_after_the_other(agent: Agent, path: Path) -> None:
    with serving(agent, path):
        answer = exchange(path, GET * 4 + CLOSE)
    assert answer.count(b"HTTP/1.1 200 OK") == 5


def test_the_caller_is_known_by_the_kernels_word(agent: Agent, path: Path) -> None:
    with serving(agent, path):
        Client(str(path)).put(f"/v1/health/{GPU}", {"state": "suspect", "reason": "it smells"})
    assert re.fullmatch(rf"uid {os.geteuid()} \(\S+\), pid {os.getpid()}", agent.overrides[GPU]["by"])


def test_silent_clients_keep_no_thread_from_others(agent: Agent, path: Path) -> None:
    with serving(agent, path, threads=2), ExitStack() as silent:
        for _ in range(50):
            silent.enter_context(connected(path))
        assert status(exchange(path, CLOSE)) == 200


def test_a_silent_client_is_shown_the_door(agent: Agent, path: Path) -> None:
    with serving(agent, path, patience=0.1), connected(path) as silent:
        assert silent.recv(1) == b""


def test_half_a_request_is_408_and_frees_its_thread(agent: Agent, path: Path) -> None:
    with serving(agent, path, threads=1, patience=0.1), connected(path) as slow:
        slow.sendall(b"GET /v1/sta")
        error(received(slow), 408, "devagent.request.timeout")
        assert status(exchange(path, CLOSE)) == 200


def test_half_a_body_is_408_and_frees_its_thread(agent: Agent, path: Path) -> None:
    with serving(agent, path, threads=1, patience=0.1), connected(path) as slow:
        slow.sendall(f"PUT /v1/health/{GPU} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode())
        error(received(slow), 408, "devagent.request.timeout")
        assert status(exchange(path, CLOSE)) == 200
    assert agent.overrides == {}


def test_a_client_that_goes_away_frees_its_thread(agent: Agent, path: Path) -> None:
    with serving(agent, path, threads=1):
        for part in (GET[:10], GET[:-2], RESCAN[:-1], b"PUT / HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"):
            with connected(path) as gone:
                gone.sendall(part)
        assert status(exchange(path, CLOSE)) == 200


def test_a_client_that_does_not_read_frees_its_thread(agent: Agent, path: Path) -> None:
    agent.now = {"state": "x" * 8_000_000}
    with serving(agent, path, threads=1, patience=0.1), connected(path) as deaf:
        deaf.sendall(GET)
        assert deaf.recv(1) == b"H"
        with connected(path) as other:
            other.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert status(received(other)) == 200


@pytest.mark.parametrize(
    ("request_bytes", "wanted", "code"),
    [
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 10_000_000 + b"\r\n\r\n", 413, "devagent.request.too_large"),
        (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 100_000 + b"\r\n", 413, "devagent.request.too_large"),
        (b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n", 414, "devagent.request.too_large"),
        (b"PUT / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n" + b"a" * 100_000, 413, "devagent.request.too_large"),
        (b"PUT / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400, "devagent.request.malformed"),
        (b"PUT / HTTP/1.1\r\nContent-Length: many\r\n\r\n", 400, "devagent.request.malformed"),
        (CHUNKED + b"zz\r\n", 400, "devagent.request.malformed"),
        (
            CHUNKED + b"ffff\r\n" + b"a" * 65535 + b"\r\n" + b"ffffff\r\n",
            413,
            "devagent.request.too_large",
        ),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "devagent.request.malformed"),
        (b"GET / HTTP/9.9\r\n\r\n", 505, "devagent.request.malformed"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", 400, "devagent.request.malformed"),
        (bytes(range(256)) * 8, 400, "devagent.request.malformed"),
        (b"\r\n\r\n\r\n", 400, "devagent.request.malformed"),
        (b"GET / HTTP/1.1\r\nno header\r\n\r\n", 400, "devagent.request.malformed"),
        (b"GET nowhere HTTP/1.1\r\n\r\n", 400, "devagent.request.malformed"),
        (b"\xff\xfe / HTTP/1.1\r\n\r\n", 405, "devagent.method.unknown"),
    ],
)
def test_what_is_no_request_is_refused_in_the_form_of_all_errors(
    agent: Agent, path: Path, request_bytes: bytes, wanted: int, code: str
) -> None:
    with serving(agent, path, threads=1):
        error(exchange(path, request_bytes), wanted, code)
        assert status(exchange(path, CLOSE)) == 200


def test_a_body_in_chunks_is_a_body(agent: Agent, path: Path) -> None:
    body = b'{"state": "suspect", "reason": "it smells"}'
    kind = "Content-Type: application/json\r\nTransfer-Encoding: chunked"
    head = f"PUT /v1/health/{GPU} HTTP/1.1\r\n{kind}\r\n\r\n".encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:10], body[10:], b""))
    with serving(agent, path):
        answer = exchange(path, head + chunks + CLOSE)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert agent.overrides[GPU]["reason"] == "it smells"


def test_a_body_that_nobody_wants_is_not_taken_for_the_next_request(agent: Agent, path: Path) -> None:
    hidden = f"DELETE /v1/health/{GPU} HTTP/1.1\r\n\r\n".encode()
    with serving(agent, path):
        answer = exchange(
            path, b"GET /nowhere HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(hidden), hidden) + CLOSE
        )
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"404", b"200"]


def test_three_hundred_calls_at_once_are_all_answered_by_few_threads(agent: Agent, path: Path) -> None:
    before = threading.active_count()
    with serving(agent, path, threads=4), ExitStack() as stack:
        clients = [stack.enter_context(connected(path)) for _ in range(300)]
        for client in clients:
            client.sendall(CLOSE)
        assert {status(received(client)) for client in clients} == {200}
        names = sorted(each.name for each in threading.enumerate() if each.name.startswith("api"))
        assert names == ["api", "api-0", "api-1", "api-2", "api-3", "api-refusals"]
        assert threading.active_count() == before + 6
    assert threading.active_count() == before


def test_calls_that_wait_leave_threads_for_others(agent: Agent, path: Path) -> None:
    with serving(agent, path, threads=4, waiting=2), ExitStack() as stack:
        waiting = [stack.enter_context(connected(path)) for _ in range(20)]
        for client in waiting:
            client.sendall(RESCAN)
            assert agent.asked.acquire(timeout=30)
        assert status(exchange(path, CLOSE)) == 200
        agent.looked.set()
        assert sorted(status(received(client)) for client in waiting) == [200] * 2 + [202] * 18


def test_who_comes_over_the_bound_has_the_place_of_who_was_silent_for_longest(agent: Agent, path: Path) -> None:
    with serving(agent, path), ExitStack() as stack:
        crowd = [stack.enter_context(connected(path)) for _ in range(CONNECTIONS)]
        assert status(exchange(path, CLOSE)) == 200
        assert crowd[0].recv(1) == b""
        crowd[-1].sendall(CLOSE)
        assert status(received(crowd[-1])) == 200


@pytest.mark.parametrize(
    "half", [GET[:-2], b"POST /v1/rescan HTTP/1.1\r\nContent-Length: 9\r\n\r\n{", CHUNKED + b"9\r\n{"]
)
def test_two_hundred_half_requests_keep_no_thread_from_others(agent: Agent, path: Path, half: bytes) -> None:
    with serving(agent, path, threads=2, patience=600), ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(connected(path)).sendall(half)
        assert status(exchange(path, CLOSE)) == 200


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length : 5000",
        b"Content-Length: 0000005000",
        b"Content-Length: 0\r\nContent-Length: 5000",
        b"Content-Length: +5000",
        b"Content-Length: 5_000",
        b"Content-Length:\r\n 5000",
        b"\x0bContent-Length: 5000",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding:\r\n chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5000",
    ],
)
@pytest.mark.parametrize("before", [b"", GET * 3], ids=["first", "after others"])
def test_a_body_whose_length_is_said_in_an_odd_way_keeps_no_thread_from_others(
    agent: Agent, path: Path, framing: bytes, before: bytes
) -> None:
    """What the accept loop takes for a whole request, and cheroot for half of one, would hold a thread for nothing."""
    half = b"PUT / HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\n"
    with serving(agent, path, threads=1, patience=600):
        with connected(path) as opened:
            opened.sendall(before + half)
            assert b"400 Bad Request" in received(opened)
        assert status(exchange(path, CLOSE)) == 200


def test_a_request_that_comes_byte_by_byte_is_answered(agent: Agent, path: Path) -> None:
    body = b'{"state": "suspect", "reason": "it smells"}'
    head = f"PUT /v1/health/{GPU} HTTP/1.1\r\nConnection: close\r\nContent-Type: application/json\r\n".encode()
    whole = head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    with serving(agent, path), connected(path) as slow:
        for number in range(len(whole)):
            slow.sendall(whole[number : number + 1])
        assert status(received(slow)) == 200


def test_who_dribbles_has_no_more_time_than_who_is_silent(agent: Agent, path: Path) -> None:
    with serving(agent, path, patience=0.1), connected(path) as slow, suppress(OSError):
        slow.settimeout(0.05)
        answer = b""
        while not answer:
            slow.sendall(b"G")
            with suppress(TimeoutError):
                answer = slow.recv(1 << 16)
        error(answer, 408, "devagent.request.timeout")


@contextmanager
def few_files(more: int) -> Iterator[None]:
    """Lets this process open that many files more."""
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Path(os.devnull).open() as lowest:
        limit = lowest.fileno() + more
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)


def test_without_descriptors_it_waits_for_better_times(
    agent: Agent, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = threading.Event()

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.set()

    logger, handler = logging.getLogger("devagent.api.server"), Listening()
    with serving(agent, path), ExitStack() as stack:
        logger.addHandler(handler)
        stack.callback(logger.removeHandler, handler)
        with few_files(1), connected(path) as waiting:
            assert said.wait(30)
            waiting.sendall(CLOSE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            assert status(received(waiting)) == 200
    assert "cannot take a connection" in caplog.text
    assert len(caplog.records) < 10


def test_each_turn_of_the_accept_loop_is_a_beat(agent: Agent, path: Path) -> None:
    beats = threading.Semaphore(0)
    with serving(agent, path, beat=beats.release):
        for _ in range(2):
            assert beats.acquire(timeout=30)


def test_beats_go_on_under_load(agent: Agent, path: Path) -> None:
    beats, enough = threading.Semaphore(0), threading.Event()

    def load() -> None:
        while not enough.is_set():
            exchange(path, CLOSE)

    with serving(agent, path, threads=2, beat=beats.release), ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            pool.submit(load)
        for _ in range(2):
            assert beats.acquire(timeout=30)
        enough.set()


def test_a_call_under_way_ends_and_what_comes_meanwhile_is_503(agent: Agent, path: Path) -> None:
    with serving(agent, path, threads=1) as server, connected(path) as early, connected(path) as kept:
        kept.sendall(GET)
        assert status(one_answer(kept)) == 200
        early.sendall(RESCAN)
        assert agent.asked.acquire(timeout=30)
        with ThreadPoolExecutor(1) as pool:
            ending = pool.submit(server.stop, 30)
            while status(answer := exchange(path, CLOSE)) == 200:
                pass
            assert "Retry-After" in error(answer, 503, "devagent.unavailable")
            kept.sendall(GET)
            error(received(kept), 503, "devagent.unavailable")
            agent.looked.set()
            assert status(received(early)) == 200
            assert ending.result(30) is True
    assert not path.exists()


def test_what_does_not_end_in_time_is_cut(agent: Agent, path: Path) -> None:
    with serving(agent, path, threads=2) as server, connected(path) as stuck:
        stuck.sendall(RESCAN)
        assert agent.asked.acquire(timeout=30)
        assert server.stop(0.1) is False
        assert received(stuck) == b""
        assert not path.exists()


def test_stop_closes_clients_that_say_nothing(agent: Agent, path: Path) -> None:
    with serving(agent, path) as server, connected(path) as silent, connected(path) as idle:
        idle.sendall(GET)
        one_answer(idle)
        assert server.stop(5) is True
        assert (silent.recv(1), idle.recv(1)) == (b"", b"")
        assert server.stop(5) is True


def test_a_server_starts_again_on_the_same_path(agent: Agent, path: Path) -> None:
    for _ in range(2):
        with serving(agent, path):
            assert Client(str(path)).get("/v1/status") == {"state": "running"}
