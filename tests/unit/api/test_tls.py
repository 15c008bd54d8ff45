# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The API on a TCP port: who gets in with a certificate, and that who does not keeps nobody out."""

from __future__ import annotations

import re
import socket
import ssl
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from keystoneauth1.discover import Discover
from keystoneauth1.session import Session

from devagent.api import certificate
from devagent.api.certificate import names
from devagent.api.doors import TcpDoor
from devagent.api.remote_client import RemoteClient
from devagent.api.server import CONNECTIONS
from devagent.errors import AgentDenied, AgentRefused, AgentUnreachable, ConfigurationError, ListenError

from .agents import GPU, ROOT, Agent, received, serving_at
from .authority import RELAY, Authority, Reached, reached
from .wire import CLOSE, GET, RESCAN, error, one_answer, status

OVERRIDE = {"state": "suspect", "reason": "it smells"}
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
"""How a handshake begins (RFC 8446, 5.1), and does not go on."""

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours")


def asked(agent: Reached, request: bytes = CLOSE) -> bytes:
    with agent.secured() as opened:
        opened.sendall(request)
        return received(opened)


def test_who_has_an_allowed_certificate_may_do_everything(agent: Agent, authority: Authority) -> None:
    with reached(agent, authority) as found:
        client = found.client()
        assert client.get("/v1/status") == {"state": "running"}
        client.put(f"/v1/health/{GPU}", OVERRIDE)
    assert agent.overrides[GPU]["by"] == f"certificate {RELAY}, from 127.0.0.1"


def test_who_has_a_certificate_that_is_not_allowed_may_do_nothing(agent: Agent, authority: Authority) -> None:
    with reached(agent, authority) as found:
        client = found.client("guest.example.org")
        for path in ("/", "/healthcheck", "/v1/status"):
            with pytest.raises(AgentRefused, match=r"guest\.example\.org.* client_names") as caught:
                client.get(path)
            assert (caught.value.status, caught.value.code) == (403, "devagent.forbidden")


def test_without_a_certificate_there_is_no_tls_and_no_answer(agent: Agent, authority: Authority) -> None:
    with reached(agent, authority) as found:
        with pytest.raises(AgentDenied, match="it wants a certificate of this client"):
            RemoteClient(found.url, cacert=authority.cacert).get("/")
        assert status(asked(found)) == 200


def test_a_certificate_of_another_authority_is_none(agent: Agent, authority: Authority, tmp_path: Path) -> None:
    cert, key = Authority(tmp_path / "others").issue(RELAY)
    with reached(agent, authority) as found, pytest.raises(AgentDenied, match="of no authority"):
        RemoteClient(found.url, cacert=authority.cacert, cert=cert, key=key).get("/v1/status")


def test_an_agent_that_cannot_be_trusted_is_told_nothing(agent: Agent, authority: Authority, tmp_path: Path) -> None:
    others = Authority(tmp_path / "others")
    with reached(agent, authority) as found, pytest.raises(AgentDenied, match="not to be trusted"):
        RemoteClient(found.url, cacert=others.cacert).put(f"/v1/health/{GPU}", OVERRIDE)
    assert agent.overrides == {}


def test_who_speaks_no_tls_is_told_nothing(agent: Agent, authority: Authority) -> None:
    with reached(agent, authority) as found, found.connected() as plain:
        plain.sendall(CLOSE)
        assert b"running" not in received(plain)
        assert status(asked(found)) == 200


def test_a_body_comes_through_tls_byte_by_byte_and_in_parts_larger_than_a_record(
    agent: Agent, authority: Authority
) -> None:
    body = b'{"state": "suspect", "reason": "%s"}'
    head = "PUT /v1/health/{} HTTP/1.1\r\nConnection: close\r\nContent-Type: application/json\r\n"
    with reached(agent, authority) as found:
        small, large = body % b"it smells", body % (b"x" * 300_000)
        for content, step, wanted in ((small, 1, 200), (large, 100_000, 400)):
            whole = head.format(GPU).encode() + b"Content-Length: %d\r\n\r\n%s" % (len(content), content)
            with found.secured() as opened:
                for at in range(0, len(whole), step):
                    opened.sendall(whole[at : at + step])
                assert status(received(opened)) == wanted


def test_calls_that_come_in_one_record_are_answered_one_after_the_other(agent: Agent, authority: Authority) -> None:
    with reached(agent, authority, threads=1) as found:
        answer = asked(found, GET * 4 + CLOSE)
    assert answer.count(b"HTTP/1.1 200 OK") == 5


def test_silent_clients_and_half_a_handshake_keep_no_thread_from_others(agent: Agent, authority: Authority) -> None:
    with reached(agent, authority, threads=1, patience=600) as found, ExitStack() as stack:
        for number in range(100):
            opened = stack.enter_context(found.connected())
            opened.sendall(HELLO[: 1 + number % len(HELLO)] if number % 2 else b"")
        for _ in range(20):
            stack.enter_context(found.secured())  # and then nothing
        for _ in range(20):
            stack.enter_context(found.secured()).sendall(GET[:-2])
        assert status(asked(found)) == 200


def test_who_comes_over_the_bound_has_the_place_of_who_was_silent_for_longest(
    agent: Agent, authority: Authority
) -> None:
    with reached(agent, authority, patience=600) as found, ExitStack() as stack:
        for number in range(CONNECTIONS + 20):
            stack.enter_context(found.connected()).sendall(HELLO[: 1 + number % 3])
        for _ in range(3):
            assert status(asked(found)) == 200


def test_clients_that_go_away_in_the_middle_stop_nothing(agent: Agent, authority: Authority) -> None:
    reset = struct.pack("ii", 1, 0)
    with reached(agent, authority, threads=1) as found:
        for said in (b"", HELLO[:3], HELLO):
            with found.connected() as gone:
                gone.sendall(said)
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        for said in (b"", GET[:-2], GET):
            with found.secured() as late:
                late.sendall(said)
                late.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        assert status(asked(found)) == 200


def test_half_a_request_is_408_over_tls_too(agent: Agent, authority: Authority) -> None:
    with reached(agent, authority, threads=1, patience=0.1) as found, found.secured() as slow:
        slow.sendall(GET[:-2])
        error(received(slow), 408, "devagent.request.timeout")


def test_the_kernel_is_asked_to_keep_silent_connections_and_a_long_queue(agent: Agent, authority: Authority) -> None:
    with reached(agent, authority) as found:
        listening = found.door._socket
        assert listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT) > 0
        # struct tcp_info of a listener has the length of its queue where others have tcpi_sacked: tcp(7).
        assert struct.unpack_from("I", listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 28)[0] == 512


def test_a_call_under_way_ends_and_the_end_has_a_bound(agent: Agent, authority: Authority) -> None:
    with reached(agent, authority, threads=2) as found, found.secured() as early:
        early.sendall(RESCAN)
        assert agent.asked.acquire(timeout=30)
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(asked, found)
            agent.looked.set()
            assert status(received(early)) == 200
            assert status(late.result(30)) in (200, 503)


def test_what_does_not_end_in_time_is_cut(agent: Agent, authority: Authority) -> None:
    context = authority.server()
    door = TcpDoor("127.0.0.1", 0, lambda: context, lambda *_: ROOT)
    with serving_at(door, agent, threads=2) as server, Reached(door, authority).secured() as stuck:
        stuck.sendall(RESCAN)
        assert agent.asked.acquire(timeout=30)
        assert server.stop(0.1) is False
        assert received(stuck) == b""


def test_connections_stay_and_new_ones_get_the_certificate_that_is_in_force(
    agent: Agent, authority: Authority, tmp_path: Path
) -> None:
    contexts = [authority.server()]
    door = TcpDoor("127.0.0.1", 0, lambda: contexts[-1], certificate.identified_by(lambda: frozenset({RELAY})))
    with serving_at(door, agent):
        found = Reached(door, authority)
        with found.secured() as old:
            old.sendall(GET)
            assert status(one_answer(old)) == 200
            others = Authority(tmp_path / "others")
            contexts.append(others.server())
            old.sendall(GET)
            assert status(one_answer(old)) == 200
            with pytest.raises(AgentDenied):
                found.client().get("/v1/status")
            assert Reached(door, others).client().get("/v1/status") == {"state": "running"}


def test_a_port_that_is_taken_is_told_with_what_to_do(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        door = TcpDoor("127.0.0.1", port, authority.server, lambda *_: None)  # type: ignore[arg-type]
        with pytest.raises(ListenError, match=rf"127.0.0.1:{port}: address already in use: .*ss -ltnp"):
            door.open()


def test_an_address_of_another_host_is_told_with_what_to_do(authority: Authority) -> None:
    for host in ("192.0.2.1", "nowhere.invalid"):
        door = TcpDoor(host, 9443, authority.server, lambda *_: None)  # type: ignore[arg-type]
        with pytest.raises(ListenError, match="an address of this host"):
            door.open()


def test_keystoneauth_finds_the_version_and_where_it_is(agent: Agent, authority: Authority) -> None:
    with reached(agent, authority) as found:
        session = Session(verify=authority.cacert, cert=authority.issue(RELAY))
        (version,) = Discover(session, found.url).version_data()
        assert (version["version"], version["url"]) == ((1, 0), f"{found.url}/v1")
        assert session.get(f"{version['url']}/status").json() == {"state": "running"}


def test_the_names_of_a_certificate_are_its_cn_and_its_dns_names() -> None:
    found = {
        "subject": ((("organizationName", "Example"),), (("commonName", "nova-compute"),)),
        "subjectAltName": (("DNS", "a.example.org"), ("IP Address", "192.0.2.7"), ("DNS", "nova-compute")),
    }
    assert names(found) == ("nova-compute", "a.example.org")
    assert names({}) == ()


@pytest.mark.parametrize("url", ["http://a:1", "https://a", "https://a:x", "https://a:1/v1", "a:1", "https://[a:1"])
def test_an_agent_elsewhere_is_named_by_host_and_port(url: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"{url}: ") + ".*https://HOST:PORT"):
        RemoteClient(url)


def test_certificates_that_are_none_are_told_with_their_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"ca\.pem: no such file"):
        RemoteClient("https://a:1", cacert=str(tmp_path / "ca.pem"))


def test_a_certificate_of_the_client_that_is_not_whole_is_told_with_its_file(
    authority: Authority, tmp_path: Path
) -> None:
    cert, key = authority.issue(RELAY)
    missing = str(tmp_path / "none.pem")
    for files in ((missing, key), (cert, missing)):
        with pytest.raises(ConfigurationError, match=r"^[^,]*none\.pem: no such file"):
            RemoteClient("https://a:1", cacert=authority.cacert, cert=files[0], key=files[1])
    with pytest.raises(ConfigurationError, match=re.escape(f"{cert}: ") + ".*the key that fits"):
        RemoteClient("https://a:1", cacert=authority.cacert, cert=cert)
    with pytest.raises(ConfigurationError, match="a key needs its certificate: --cert"):
        RemoteClient("https://a:1", cacert=authority.cacert, key=key)


def test_a_certificate_that_has_expired_is_told(agent: Agent, authority: Authority, tmp_path: Path) -> None:
    old = authority.ca.issue_cert(RELAY, not_before=LONG_AGO, not_after=LONG_AGO + timedelta(days=1))
    path = tmp_path / "old.pem"
    old.private_key_and_cert_chain_pem.write_to_path(str(path))
    with reached(agent, authority) as found, pytest.raises(AgentDenied, match="certificate has expired"):
        RemoteClient(found.url, cacert=authority.cacert, cert=str(path)).get("/v1/status")


def test_nobody_there_is_one_sentence(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"https://127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(AgentUnreachable, match=rf"no agent answers on {url}.*connection refused"):
        RemoteClient(url, cacert=authority.cacert).get("/")


def test_resumed_sessions_know_their_certificate(agent: Agent, authority: Authority) -> None:
    context = authority.client()
    with reached(agent, authority) as found:
        session: ssl.SSLSession | None = None
        for _ in range(2):
            with context.wrap_socket(found.connected(), server_hostname="127.0.0.1", session=session) as opened:
                opened.sendall(CLOSE)
                assert status(received(opened)) == 200
                session = opened.session
                reused = opened.session_reused
        assert reused
