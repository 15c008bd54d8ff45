# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The daemon's API on a TCP port: tokens, certificates, what is configured wrongly, and a port that is taken."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from keystoneauth1.identity import v3
from keystoneauth1.session import Session
from unit.api.authority import RELAY, Authority

from devagent.api.remote_client import RemoteClient, Tokens
from devagent.errors import AgentDenied, AgentError, AgentRefused

from . import keystone
from .cloud import Cloud
from .conftest import Describe
from .descriptions import small
from .keystone import PASSWORD, Keystone
from .running_agent import RunningAgent, running, write_configuration
from .running_daemon import PATIENCE_S

Start = Callable[..., RunningAgent]
GPU = "0000:3b:00.0"
OVERRIDE = {"state": "suspect", "reason": "it smells"}


class Given:
    """A token that somebody else got."""

    def __init__(self, token: str | None) -> None:
        self.token = token

    def get_token(self) -> str | None:
        return self.token

    def invalidate(self) -> bool:
        return False


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


@pytest.fixture
def identity(placement: str) -> Iterator[Keystone]:
    with keystone.serving(Keystone(placement)) as running_one:
        yield running_one


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        found: int = free.getsockname()[1]
        return found


@pytest.fixture
def api(authority: Authority, port: int, place: Path) -> dict[str, str]:
    cert, key = authority.issue("127.0.0.1")
    files = {"tls_cert": shutil.copy(cert, place / "cert.pem"), "tls_key": shutil.copy(key, place / "key.pem")}
    return {"listen": f"127.0.0.1:{port}", "unix_socket": str(place / "api.sock"), **map_str(files)}


def map_str(files: dict[str, Any]) -> dict[str, str]:
    return {name: str(path) for name, path in files.items()}


@pytest.fixture
def by_certificate(api: dict[str, str], authority: Authority) -> dict[str, str]:
    return {**api, "auth": "certificate", "tls_client_ca": authority.cacert, "client_names": f"other,{RELAY}"}


@pytest.fixture
def by_token(api: dict[str, str], identity: Keystone) -> dict[str, dict[str, str]]:
    service = {"auth_type": "password", "auth_url": f"{identity.url}/v3", "username": "devagent", "password": PASSWORD}
    names = {"user_domain_name": "Default", "project_name": "service", "project_domain_name": "Default"}
    return {"api": {**api, "auth": "keystone"}, "keystone_authtoken": {**service, **names}}


@pytest.fixture
def start(place: Path, cloud: Cloud, describe: Describe) -> Iterator[Start]:
    """Starts an agent with these sections in its configuration."""
    agents = []

    def begin(**sections: dict[str, str]) -> RunningAgent:
        configuration = write_configuration(place, cloud.name, cloud.url, **sections)
        context = running(describe(small(compute_id=cloud.root)), configuration)
        agents.append(context)
        return context.__enter__()

    yield begin
    for context in agents:
        context.__exit__(None, None, None)


@pytest.fixture
def client(authority: Authority, port: int) -> Callable[..., RemoteClient]:
    def make(tokens: Tokens | None = None, name: str | None = None) -> RemoteClient:
        cert, key = authority.issue(name) if name else (None, None)
        url = f"https://127.0.0.1:{port}"
        return RemoteClient(url, cacert=authority.cacert, cert=cert, key=key, tokens=tokens, timeout=PATIENCE_S)

    return make


def refused(call: Callable[[], object], status: int, code: str, said: str) -> None:
    with pytest.raises(AgentRefused, match=said) as caught:
        call()
    assert (caught.value.status, caught.value.code) == (status, code)


def test_a_certificate_that_is_allowed_is_enough(start: Start, by_certificate: dict[str, str], client: Any) -> None:
    agent = start(api=by_certificate).ready()
    client(name=RELAY).put(f"/v1/health/{GPU}", OVERRIDE)
    (found,) = (each for each in agent.api.get("/v1/health")["devices"] if each["address"] == GPU)
    assert found["override"]["by"] == f"certificate {RELAY}, from 127.0.0.1"
    refused(lambda: client(name="guest").get("/v1/status"), 403, "devagent.forbidden", "guest.*client_names")
    assert agent.stop() == 0


def test_a_token_with_the_role_is_enough_and_one_without_is_not(
    start: Start, by_token: dict[str, dict[str, str]], client: Any, identity: Keystone
) -> None:
    agent = start(**by_token).ready()
    nova = client(Given(identity.issue("nova", "service")))
    nova.put(f"/v1/health/{GPU}", OVERRIDE)
    (found,) = (each for each in agent.api.get("/v1/health")["devices"] if each["address"] == GPU)
    assert found["override"]["by"] == "user nova (project service), from 127.0.0.1"
    admin = client(Given(identity.issue("root", "admin", project="admin")))
    assert admin.get("/v1/status")["state"] in ("running", "starting")
    wanted = r"user root \(project admin\).*roles admin do not meet devagent:health:set: role:service"
    refused(lambda: admin.put(f"/v1/health/{GPU}", OVERRIDE), 403, "devagent.forbidden", wanted)
    guest = client(Given(identity.issue("guest", "member", "reader", project="demo")))
    refused(lambda: guest.get("/v1/devices"), 403, "devagent.forbidden", "role:service or role:admin")
    assert agent.stop() == 0
    assert not any(token in agent.log for token in identity.tokens)


def test_without_a_valid_token_only_the_versions_are_told(
    start: Start, by_token: dict[str, dict[str, str]], client: Any, identity: Keystone
) -> None:
    start(**by_token).ready()
    assert client().get("/")["versions"][0]["id"] == "v1.0"
    for tokens in (None, Given("none-at-all"), Given("x" * 300)):
        for path in ("/healthcheck", "/metrics", "/v1/status", "/v1/preparations"):
            refused(lambda: client(tokens).get(path), 401, "devagent.unauthenticated", "X-Auth-Token")  # noqa: B023
    late = identity.issue("nova", "service")
    identity.expire()
    refused(lambda: client(Given(late)).get("/v1/status"), 401, "devagent.unauthenticated", "X-Auth-Token")


def test_headers_of_a_caller_do_not_make_them_somebody(
    start: Start, by_token: dict[str, dict[str, str]], authority: Authority, port: int
) -> None:
    start(**by_token).ready()
    faked = {"X-Identity-Status": "Confirmed", "X-Roles": "service,admin", "X-User-Name": "nova", "X-User-Id": "1"}
    session = Session(verify=authority.cacert)
    answer = session.get(f"https://127.0.0.1:{port}/v1/status", headers=faked, raise_exc=False)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Keystone uri=")


def test_a_session_of_keystoneauth_gives_tokens_and_another_one_when_one_is_refused(
    start: Start, by_token: dict[str, dict[str, str]], client: Any, identity: Keystone
) -> None:
    start(**by_token).ready()

    class Issued(v3.Password):  # the stand-in knows callers by who was issued a token
        def get_token(self, session: Any) -> str | None:
            found: str | None = super().get_token(session)
            if found is not None and found in identity.tokens and found not in identity.callers:
                identity.callers[found] = identity.callers[identity.issue("relay", "service")]
            return found

    names: dict[str, Any] = {"user_domain_name": "Default", "project_name": "service", "project_domain_name": "Default"}
    relay = client(Session(Issued(f"{identity.url}/v3", username="relay", password=PASSWORD, **names)))
    assert relay.get("/v1/preparations")["preparations"] == []
    identity.expire()
    assert relay.get("/v1/preparations")["preparations"] == []


def test_without_keystone_it_is_503_and_the_socket_goes_on(
    start: Start, by_token: dict[str, dict[str, str]], client: Any
) -> None:
    by_token["keystone_authtoken"]["auth_url"] = "http://127.0.0.1:1/v3"
    agent = start(**by_token).ready()
    refused(
        lambda: client(Given("some-token")).get("/v1/status"), 503, "devagent.keystone.unreachable", "Keystone does not"
    )
    assert agent.status()["version"]


def test_a_port_that_is_taken_is_loud_and_taken_once_it_is_free(
    start: Start, by_certificate: dict[str, str], client: Any, port: int
) -> None:
    with socket.create_server(("127.0.0.1", port)):
        agent = start(api=by_certificate).reported()
        agent.until(lambda: agent.status().get("state") == "degraded")
        assert f"the api-tls loop fails: 127.0.0.1:{port}: address already in use" in agent.status()["reasons"][0]
        assert "other hosts cannot reach the API" in agent.log
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            client(name=RELAY).get("/v1/status")
            break
        except AgentError:
            time.sleep(0.1)
    agent.until(lambda: agent.status()["state"] == "running")
    assert agent.stop() == 0


def test_a_reload_takes_new_certificates_and_names_and_refuses_broken_ones(
    start: Start, by_certificate: dict[str, str], client: Any, place: Path, tmp_path: Path, port: int
) -> None:
    agent = start(api=by_certificate).ready()
    others = Authority(tmp_path / "others")
    for source, target in zip(others.issue("127.0.0.1"), ("cert.pem", "key.pem"), strict=True):
        shutil.copy(source, place / target)
    agent.reload()
    with pytest.raises(AgentDenied, match="not to be trusted"):
        client(name=RELAY).get("/v1/status")
    (place / "key.pem").write_text("no key")
    agent.reload()
    assert "[api] tls_cert" in agent.status()["configuration"]["error"]
    with pytest.raises(AgentDenied, match="not to be trusted"):
        client(name=RELAY).get("/v1/status")
    assert agent.stop() == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"auth": ""}, "[api] auth: Valid values are"),
        ({"auth": None}, "[api] auth: needed with [api] listen: certificate or keystone"),
        ({"tls_cert": None}, "[api] tls_cert: needed with [api] listen"),
        ({"tls_key": None}, "[api] tls_key: needed with [api] listen"),
        ({"tls_client_ca": None}, "[api] tls_client_ca: needed with [api] listen"),
        ({"client_names": None}, "[api] client_names: needed with [api] listen"),
        ({"auth": "keystone"}, "[api] client_names: has no effect with auth = keystone"),
        ({"listen": "9443"}, "[api] listen: '9443' is no HOST:PORT"),
        ({"listen": "127.0.0.1:99999"}, "[api] listen: '127.0.0.1:99999' is no HOST:PORT"),
        ({"tls_key": "/nowhere/key.pem"}, "[api] tls_key: /nowhere/key.pem: no such file or directory"),
        ({"tls_client_ca": "/dev/null"}, "[api] tls_client_ca: /dev/null: "),
    ],
)
def test_what_would_be_open_to_anybody_or_to_nobody_does_not_start(
    start: Start, by_certificate: dict[str, str], change: dict[str, str | None], said: str
) -> None:
    options = {name: value for name, value in {**by_certificate, **change}.items() if value is not None}
    agent = start(api=options)
    assert agent.process.wait(PATIENCE_S) == 2
    assert said in agent.log


def test_the_end_waits_once_for_calls_at_both_doors(start: Start, by_certificate: dict[str, str], client: Any) -> None:
    agent = start(api={**by_certificate, "drain_timeout": "2"}).ready()
    assert client(name=RELAY).get("/v1/status")
    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(PATIENCE_S) == 0
    assert os.path.lexists(by_certificate["unix_socket"]) is False


def test_what_keystone_needs_is_not_imported_where_it_is_not_configured() -> None:
    script = "import sys, devagent.service.parts; print({'keystonemiddleware', 'oslo_policy'} & {*sys.modules})"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "set()\n"
