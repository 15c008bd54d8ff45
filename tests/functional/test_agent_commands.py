# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent status`, `health` and `rescan` as an operator runs them, with the real API in between."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from unit.api.agents import GPU, GPU_ID, NIC, ROOT, SCAN, Agent, place, serving
from unit.api.authority import RELAY, Authority, reached, reached_by
from unit.cli.agent_documents import DEGRADED, RUNNING, STARTING

from devagent.api.schemas import validator

from .conftest import Devagent, Ran, Write
from .imports import HEAVY, imported

Run = Callable[..., Ran]


@pytest.fixture
def path() -> Iterator[Path]:
    with place() as found:
        yield found


@pytest.fixture
def agent(path: Path) -> Iterator[Agent]:
    """Serves an agent that is well."""
    found = Agent(now=RUNNING)
    with serving(found, path):
        yield found


@pytest.fixture
def run(devagent: Devagent, path: Path) -> Run:
    return lambda *arguments: devagent(*arguments, "--socket", path)


def test_status_of_an_agent_that_is_well_is_0_and_one_line_says_it(agent: Agent, run: Run) -> None:
    ran = run("status")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("gpu8.example.org · running for ")
    assert " · 14 devices, 12 given · Placement current " in ran.out.splitlines()[0]


@pytest.mark.parametrize("document", [DEGRADED, STARTING, {**RUNNING, "differs": DEGRADED["differs"]}])
@pytest.mark.parametrize("form", ["table", "json"])
def test_status_of_any_other_is_4(agent: Agent, run: Run, document: dict[str, Any], form: str) -> None:
    agent.now = document
    assert run("status", "-o", form).code == 4


def test_status_as_json_is_what_the_agent_says(agent: Agent, run: Run) -> None:
    document = json.loads(run("status", "-o", "json").out)
    assert document == RUNNING
    validator("status").validate(document)


@pytest.mark.parametrize("command", [("status",), ("health",), ("rescan",), ("health", "clear", GPU)])
def test_without_an_agent_every_command_is_1_and_says_how_to_see_why(run: Run, path: Path, command: tuple[str]) -> None:
    message = f"devagent: error: no agent answers on {path} (not running?): systemctl status devagent\n"
    assert run(*command) == Ran(1, "", message)


def test_health_alone_shows_all_devices(agent: Agent, run: Run) -> None:
    alone, shown = run("health"), run("health", "show")
    assert (alone.code, alone.err) == (0, "")
    assert alone.out == shown.out
    assert GPU in alone.out and NIC in alone.out


def test_health_as_json_is_a_document(agent: Agent, run: Run) -> None:
    for arguments, count in ((("-o", "json"), 2), (("show", "-o", "json"), 2), (("show", GPU, "-o", "json"), 1)):
        document = json.loads(run("health", *arguments).out)
        validator("health").validate(document)
        assert len(document["devices"]) == count


@pytest.mark.parametrize("name", [GPU, "3b:00.0", GPU_ID])
def test_an_operators_word_is_set_shown_and_cleared(agent: Agent, run: Run, name: str) -> None:
    ran = run("health", "set", name, "unhealthy", "--reason", "the burn-in failed", "--for", "2h")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"{GPU}  NVIDIA A100  unhealthy: uid ")
    assert "the burn-in failed" in run("health", "show", name).out
    assert "devagent health clear" in run("health", "show", name).out
    assert run("health", "clear", name).out == f"{GPU}  NVIDIA A100  healthy\n"
    assert agent.overrides == {}


@pytest.mark.parametrize(
    "command", [("show", "ff:00.0"), ("clear", "ff:00.0"), ("set", "ff:00.0", "healthy", "--reason", "x")]
)
def test_a_device_that_is_not_there_is_named(agent: Agent, run: Run, command: tuple[str]) -> None:
    ran = run("health", *command)
    assert (ran.code, ran.out) == (1, "")
    assert "0000:ff:00.0: no device of this host has that id or address" in ran.err


@pytest.mark.parametrize("name", ["../status", "a/b", "a?b", "a b", "\x1b[2J", "\udcff"])
def test_no_name_reaches_another_path(agent: Agent, run: Run, name: str) -> None:
    ran = run("health", "clear", name)
    assert (ran.code, ran.out) == (1, "")
    assert "no device of this host" in ran.err
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("time", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("7d", 604800), ("366d", 31622400), (None, None)]
)
def test_the_time_of_an_override_is_sent_in_seconds(
    agent: Agent, run: Run, monkeypatch: pytest.MonkeyPatch, time: str | None, seconds: int | None
) -> None:
    told = []

    def set_health(target: str, state: str, reason: str, expires_in: int | None, by: str) -> dict[str, Any]:
        told.append(expires_in)
        return Agent.set_health(agent, target, state, reason, expires_in, by)

    monkeypatch.setattr(agent, "set_health", set_health)
    assert run("health", "set", GPU, "suspect", "--reason", "x", *(["--for", time] if time else [])).code == 0
    assert told == [seconds]


@pytest.mark.parametrize("time", ["", "0s", "2", "h", "2 h", "-2h", "2w", "367d", "1.5h", "99999999999d", "\u0662h"])
def test_a_time_that_is_none_is_wrong_use(run: Run, time: str) -> None:
    ran = run("health", "set", GPU, "suspect", "--reason", "x", f"--for={time}")
    assert ran.code == 2
    assert "say for example 90s, 30m, 2h or 7d" in ran.err


@pytest.mark.parametrize(
    "command",
    [
        ("health", "set", GPU, "lost", "--reason", "x"),
        ("health", "set", GPU, "suspect"),
        ("health", "set", GPU),
        ("health", "clear"),
        ("rescan", "--wait", "301"),
        ("rescan", "--wait", "-1"),
        ("rescan", "--wait", "soon"),
        ("status", "-o", "yaml"),
    ],
)
def test_wrong_use_is_2(run: Run, command: tuple[str]) -> None:
    assert run(*command).code == 2


def test_a_reason_that_is_none_is_refused_by_the_agent_in_one_line(agent: Agent, run: Run) -> None:
    ran = run("health", "set", GPU, "suspect", "--reason", "\n")
    assert (ran.code, ran.out) == (1, "")
    assert (
        ran.err
        == 'devagent: error: the agent: reason: is "\\n"; expected is a line of 1 to 255 characters that says why\n'
    )


def test_rescan_tells_what_was_found(agent: Agent, run: Run) -> None:
    agent.looked.set()
    assert run("rescan") == Ran(0, "2 devices\n", "")


def test_rescan_that_takes_longer_is_4_and_says_where_to_look(agent: Agent, run: Run) -> None:
    ran = run("rescan", "--wait", "0")
    assert (ran.code, ran.out) == (4, "")
    assert "devagent status" in ran.err


def test_rescan_with_problems_is_4_and_says_which(agent: Agent, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    agent.looked.set()
    monkeypatch.setitem(SCAN, "problems", [{"source": "nvml", "device": GPU, "problem": "did not answer"}])
    ran = run("rescan")
    assert ran.code == 4
    assert ran.out.splitlines()[2:] == ["Problems (1), everything else was read:", f"  {GPU}: did not answer [nvml]"]


def test_the_socket_is_the_configured_one(agent: Agent, devagent: Devagent, path: Path, write: Write) -> None:
    file = write("devagent.conf", f"[api]\nunix_socket = {path}\n")
    assert devagent("status", "--config-file", file).code == 0
    assert devagent("status", "--config-dir", file.parent).code == 0
    assert devagent("health", "--config-file", file, "show", GPU).code == 0
    assert devagent("health", "show", GPU, "--config-file", file).code == 0


def test_a_configuration_that_is_wrong_about_the_socket_is_2(devagent: Devagent, write: Write) -> None:
    file = write("devagent.conf", "unix_socket\n")
    ran = devagent("status", "--config-file", file)
    assert (ran.code, ran.out) == (2, "")
    assert str(file) in ran.err


def test_what_only_another_hosts_agent_asks_for_is_wrong_use_without_it(run: Run) -> None:
    ran = run("status", "--cacert", "ca.pem")
    assert (ran.code, ran.out) == (2, "")
    assert "go with --url" in ran.err


def test_a_configuration_that_says_nothing_of_the_socket_or_cannot_be_read_stands_in_no_ones_way(
    devagent: Devagent, write: Write, tmp_path: Path
) -> None:
    for file in (write("devagent.conf", "[placement]\npassword = x\n"), tmp_path / "missing.conf"):
        ran = devagent("status", "--config-file", file)
        assert ran.code == 1
        assert "/run/devagent/devagent.sock" in ran.err


def test_they_import_nothing_heavy(agent: Agent, path: Path) -> None:
    for command in (("status",), ("health",), ("health", "set", GPU, "suspect", "--reason", "x")):
        found = imported(*command, "--socket", str(path))
        assert "socket" in found
        assert found & (HEAVY | {"http", "webob", "cheroot", "stevedore", "oslo_log"}) == set()
    for name in ("status", "health", "rescan", "agent"):
        assert imported(name, "--help") & (HEAVY | {"http", "webob"}) == set()


def test_another_hosts_agent_is_asked_with_a_certificate(devagent: Devagent, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    cert, key = authority.issue(RELAY)
    with reached(Agent(now=RUNNING), authority) as found:
        where = ("--url", found.url, "--cacert", authority.cacert)
        ran = devagent("status", *where, "--cert", cert, "--key", key)
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.startswith("gpu8.example.org")
        ran = devagent("status", *where)
        assert (ran.code, ran.out) == (1, "")
        assert "it wants a certificate of this client" in ran.err
    assert devagent("status", "--url", "http://compute7:9443").code == 2


def test_another_hosts_agent_is_asked_with_a_token(
    devagent: Devagent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []

    def identify(_: object, environ: dict[str, Any]) -> Any:
        sent.append(environ.get("HTTP_X_AUTH_TOKEN"))
        return ROOT

    authority = Authority(tmp_path / "tls")
    monkeypatch.setenv("OS_TOKEN", "a-token")
    with reached_by(Agent(now=RUNNING), authority, identify, asks=False) as found:
        assert (
            devagent(
                "health",
                "set",
                GPU,
                "suspect",
                "--reason",
                "it smells",
                "--url",
                found.url,
                "--cacert",
                authority.cacert,
            ).code
            == 0
        )
    assert sent == ["a-token"]
