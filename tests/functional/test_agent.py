# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The daemon as it runs: its processes, its API, a real Placement, and what breaks around it."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from . import keystone
from .cloud import Cloud
from .conftest import Describe
from .descriptions import small
from .gate import Gate
from .keystone import Keystone
from .running_agent import RunningAgent, running, write_configuration
from .running_daemon import PATIENCE_S

GPU = "0000:3b:00.0"
NIC = "0000:3c:00.0"
IGNORE_ALL = "schema_version: 1\nrules:\n  - {name: nothing, match: {}, mode: ignore}\n"

Start = Callable[..., RunningAgent]


@pytest.fixture
def start(place: Path, cloud: Cloud, host: Path) -> Iterator[Start]:
    """Starts agents for the compute node, with these sections of their configuration."""
    with ExitStack() as stack:

        def begin(*arguments: str, watchdog_s: float | None = None, url: str = "", **sections: Any) -> RunningAgent:
            configuration = write_configuration(place, cloud.name, url or cloud.url, **sections)
            return stack.enter_context(running(host, configuration, *arguments, watchdog_s=watchdog_s))

        yield begin


def names(cloud: Cloud, *suffixes: str) -> set[str]:
    return {f"devagent:{cloud.name}:{suffix}" for suffix in suffixes}


def provider(cloud: Cloud, suffix: str) -> dict[str, Any]:
    found: dict[str, Any] = cloud.tree()[f"devagent:{cloud.name}:{suffix}"]
    return found


def wait_for_end(*pids: int) -> None:
    """Waits until these processes have ended; what nobody has taken leave of yet has."""
    end = time.monotonic() + PATIENCE_S
    while any(map(lives, pids)):
        assert time.monotonic() < end, [pid for pid in pids if lives(pid)]
        time.sleep(0.02)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_it_reports_what_the_host_has_and_says_so(start: Start, cloud: Cloud) -> None:
    agent = start().ready().reported()
    assert set(cloud.tree()) == {cloud.name, *names(cloud, "numa0", GPU, NIC)}
    status = agent.status()
    assert (status["state"], status["reasons"], status["host"]) == ("running", [], cloud.name)
    assert (status["scan"]["devices"], status["scan"]["given"]) == (2, 2)
    assert {loop["state"] for loop in status["loops"]} == {"ok"}
    assert {process["name"] for process in status["processes"]} == {"agent", "privileged", "look"}
    found = {device["address"]: device for device in agent.api.get("/v1/devices")["devices"]}
    assert found[GPU]["id"] == provider(cloud, GPU)["uuid"]
    assert {each["uuid"] for each in agent.api.get("/v1/providers")["providers"]} == {
        each["uuid"] for name, each in cloud.tree().items() if name != cloud.name
    }


def test_what_is_unplugged_and_plugged_again_goes_and_comes_in_placement(
    start: Start, cloud: Cloud, host: Path
) -> None:
    agent = start().reported()
    there = host / "sys/bus/pci/devices" / GPU
    away = host / "away"
    there.rename(away)
    agent.until(lambda: provider(cloud, GPU)["inventories"] == {})
    away.rename(there)
    agent.until(lambda: provider(cloud, GPU)["inventories"])
    assert "is gone" in agent.log
    assert "appeared" in agent.log


def test_what_is_unplugged_while_allocated_is_closed_and_keeps_its_consumer(
    start: Start, cloud: Cloud, host: Path
) -> None:
    agent = start().reported()
    consumer = cloud.allocate(provider(cloud, GPU)["uuid"], PGPU=1)
    (host / "sys/bus/pci/devices" / GPU).rename(host / "away")
    agent.until(lambda: provider(cloud, GPU)["inventories"]["PGPU"]["reserved"] == 1)
    assert cloud.allocations(consumer) == {provider(cloud, GPU)["uuid"]: {"PGPU": 1}}


def test_an_operators_word_fences_a_device_and_another_frees_it(start: Start, cloud: Cloud) -> None:
    agent = start().reported()
    said = agent.api.put(f"/v1/health/{GPU}", {"state": "unhealthy", "reason": "smells burnt"})
    assert said["state"] == "unhealthy"
    agent.until(lambda: provider(cloud, GPU)["inventories"]["PGPU"]["reserved"] == 1)
    assert "CUSTOM_DEVAGENT_UNHEALTHY" in provider(cloud, GPU)["traits"]
    assert [each["address"] for each in agent.status()["fenced"]] == [GPU]
    assert agent.status()["state"] == "running"
    agent.api.delete(f"/v1/health/{GPU}")
    agent.until(lambda: provider(cloud, GPU)["inventories"]["PGPU"]["reserved"] == 0)
    assert agent.status()["fenced"] == []


def test_an_operators_word_outlives_a_restart(start: Start, cloud: Cloud) -> None:
    first = start().reported()
    first.api.put(f"/v1/health/{GPU}", {"state": "unhealthy", "reason": "smells burnt"})
    first.until(lambda: provider(cloud, GPU)["inventories"]["PGPU"]["reserved"] == 1)
    assert first.stop() == 0
    again = start().reported()
    assert [each["address"] for each in again.status()["fenced"]] == [GPU]
    assert provider(cloud, GPU)["inventories"]["PGPU"]["reserved"] == 1


def test_a_restart_costs_one_request_and_changes_nothing(start: Start, cloud: Cloud) -> None:
    assert start().reported().stop() == 0
    before = cloud.tree()
    again = start().reported()
    assert again.status()["report"]["requests"] == 1
    assert cloud.tree() == before


def test_a_reload_puts_another_policy_in_force(start: Start, cloud: Cloud, place: Path) -> None:
    policy = place / "devices.yaml"
    policy.write_text("schema_version: 1\nrules:\n  - {name: all, match: {kind: gpu}, mode: whole}\n")
    agent = start(inventory={"policy_file": str(policy)}).reported()
    assert set(cloud.tree()) == {cloud.name, *names(cloud, "numa0", GPU)}
    policy.write_text(IGNORE_ALL)
    agent.reload()
    agent.until(lambda: provider(cloud, GPU)["inventories"] == {})
    assert any(line.startswith("RELOADING=1") for line in agent.told)


def test_a_reload_of_something_wrong_changes_nothing_and_says_what(start: Start, place: Path, cloud: Cloud) -> None:
    policy = place / "devices.yaml"
    policy.write_text("schema_version: 1\nrules: []\n")
    agent = start(inventory={"policy_file": str(policy)}).reported()
    before = cloud.tree()
    policy.write_text("schema_version: 1\nrules: 3\n")
    agent.reload()
    status = agent.status()
    assert status["state"] == "degraded"
    assert f"{policy}:2: rules" in status["configuration"]["error"]
    assert cloud.tree() == before
    policy.write_text("schema_version: 1\nrules: []\n")
    agent.reload()
    assert agent.status()["configuration"]["error"] is None


def test_a_call_that_is_under_way_outlives_reloads(start: Start) -> None:
    agent = start().reported()
    answers: list[dict[str, Any]] = []

    def ask() -> None:
        for _ in range(10):
            answers.append(agent.api.post("/v1/rescan", wait=30))

    calls = [threading.Thread(target=ask) for _ in range(4)]
    for call in calls:
        call.start()
    for _ in range(5):
        agent.reload()
    for call in calls:
        call.join()
    assert [answer["done"] for answer in answers] == [True] * 40


def test_it_ends_within_its_bound_and_leaves_nothing_behind(start: Start, place: Path) -> None:
    agent = start().reported()
    processes = [each["pid"] for each in agent.status()["processes"]]
    assert agent.stop() == 0
    assert not (place / "api.sock").exists()
    wait_for_end(*processes)
    assert "STOPPING=1" in agent.told


def test_killed_it_takes_its_processes_along_and_the_next_starts(start: Start, cloud: Cloud) -> None:
    agent = start().reported()
    processes = [each["pid"] for each in agent.status()["processes"]]
    agent.stop(signal.SIGKILL)
    wait_for_end(*processes)
    start().reported()


def test_a_second_agent_on_the_same_state_refuses_to_start(start: Start, place: Path, host: Path) -> None:
    start().reported()
    with running(host, place / "devagent.conf") as second:
        assert second.process.wait(60) == 1
    assert "another devagent" in (place / "log").read_text()


def test_while_placement_is_away_it_stays_up_says_so_and_catches_up(start: Start, cloud: Cloud, host: Path) -> None:
    with Gate(cloud.url) as gate:
        agent = start(url=gate.url).reported()
        gate.close()
        (host / "sys/bus/pci/devices" / GPU).rename(host / "away")
        agent.until(lambda: agent.status()["report"]["state"] == "failed")
        status = agent.status()
        assert status["state"] == "degraded"
        assert status["report"]["retry_at"] is not None
        assert status["scan"]["devices"] == 1
        assert agent.api.get("/v1/devices")["devices"][0]["address"] == NIC
        gate.open()
        agent.until(lambda: provider(cloud, GPU)["inventories"] == {})
        agent.reported()
        assert agent.status()["state"] == "running"


def test_while_keystone_is_away_it_stays_up_says_so_and_catches_up(start: Start, cloud: Cloud, host: Path) -> None:
    with keystone.serving(Keystone(cloud.url)) as identity, Gate(identity.url) as gate:
        credentials = {
            "auth_type": "password",
            "auth_url": f"{gate.url}/v3",
            "username": "devagent",
            "password": keystone.PASSWORD,
            "project_name": "service",
            "user_domain_name": "Default",
            "project_domain_name": "Default",
            "region_name": "RegionOne",
            "valid_interfaces": "internal",
        }
        agent = start(placement=credentials).reported()
        gate.close()
        identity.expire()
        (host / "sys/bus/pci/devices" / GPU).rename(host / "away")
        agent.until(lambda: agent.status()["report"]["state"] == "failed")
        assert agent.api.post("/v1/rescan", wait=30)["done"]
        assert keystone.PASSWORD not in agent.log
        gate.open()
        agent.until(lambda: provider(cloud, GPU)["inventories"] == {})


def test_a_placement_that_never_answers_holds_up_nothing_else(start: Start, cloud: Cloud) -> None:
    with Gate(cloud.url) as gate:
        gate.swallow()
        agent = start(url=gate.url, placement={"timeout": "3600", "endpoint": gate.url}).ready()
        assert agent.api.post("/v1/rescan", wait=30)["done"]
        assert agent.stop() == 0


def test_it_waits_for_novas_provider(place: Path, describe: Describe, cloud: Cloud) -> None:
    later = Cloud(cloud.url, str(uuid.uuid4()), f"later-{cloud.name}")
    root = describe(small(compute_id=later.root))
    with running(root, write_configuration(place, later.name, later.url)) as agent:
        agent.ready().until(lambda: agent.status()["report"]["state"] == "waiting")
        assert "nova-compute" in agent.status()["report"]["error"]
        later.create(later.name, None, later.root)
        agent.reported()


def test_a_look_process_that_is_killed_costs_nothing_that_is_known(start: Start, cloud: Cloud) -> None:
    agent = start().reported()
    before = cloud.tree()
    for _ in range(3):
        (pid,) = (each["pid"] for each in agent.status()["processes"] if each["name"] == "look")
        os.kill(pid, signal.SIGKILL)
        assert agent.api.post("/v1/rescan", wait=60)["done"]
    assert agent.status()["scan"]["devices"] == 2
    assert cloud.tree() == before


def test_a_look_that_hangs_costs_nothing_that_is_known(start: Start, cloud: Cloud) -> None:
    agent = start(inventory={"look_timeout": "1"}).reported()
    before = cloud.tree()
    (pid,) = (each["pid"] for each in agent.status()["processes"] if each["name"] == "look")
    os.kill(pid, signal.SIGSTOP)
    agent.until(lambda: agent.status()["state"] == "degraded")
    assert any("cannot be looked at" in reason for reason in agent.status()["reasons"])
    assert len(agent.api.get("/v1/devices")["devices"]) == 2
    agent.until(lambda: agent.status()["state"] == "running")
    assert cloud.tree() == before
    wait_for_end(pid)


def test_without_its_privileged_process_it_ends_so_that_both_are_started_anew(start: Start) -> None:
    agent = start().reported()
    (pid,) = (each["pid"] for each in agent.status()["processes"] if each["name"] == "privileged")
    os.kill(pid, signal.SIGKILL)
    assert agent.process.wait(60) == 1
    assert "privileged process has died" in agent.log


def test_the_watchdog_is_fed_while_all_loops_make_progress(start: Start) -> None:
    agent = start(watchdog_s=0.6).reported()
    agent.until(lambda: agent.told.count("WATCHDOG=1") > 5)


@pytest.mark.parametrize("damage", ["identities.json", "health.json", "placement.state"])
def test_a_damaged_state_file_is_set_aside_and_nothing_is_lost(
    start: Start, cloud: Cloud, place: Path, damage: str
) -> None:
    first = start().reported()
    first.api.put(f"/v1/health/{GPU}", {"state": "suspect", "reason": "noise"})
    first.until(lambda: "CUSTOM_DEVAGENT_SUSPECT" in provider(cloud, GPU)["traits"])
    first.stop()
    before = {name: each["uuid"] for name, each in cloud.tree().items()}
    (place / "state" / damage).write_bytes(b"\x00\xff{")
    again = start().reported()
    assert {name: each["uuid"] for name, each in cloud.tree().items()} == before
    assert again.status()["state"] == "running"
    again.until(lambda: "damaged" in again.log)


def test_a_state_directory_that_cannot_be_written_is_told_and_survived(start: Start, cloud: Cloud, place: Path) -> None:
    (place / "state").write_text("not a directory")
    agent = start().reported()
    assert set(cloud.tree()) == {cloud.name, *names(cloud, "numa0", GPU, NIC)}
    assert "state" in agent.log


@pytest.mark.parametrize(
    ("section", "option", "value", "words"),
    [
        ("inventory", "scan_intervall", "3", "scan_interval"),
        ("inventory", "scan_interval", "soon", "scan_interval"),
        ("healht", "interval", "3", "healht"),
        ("placement", "endpont", "x", "endpont"),
    ],
)
def test_a_mistake_in_the_configuration_ends_the_start_in_one_line(
    start: Start, place: Path, section: str, option: str, value: str, words: str
) -> None:
    agent = start(**{section: {option: value}})
    assert agent.process.wait(60) == 2
    (line,) = agent.log.splitlines()
    assert str(place / "devagent.conf") in line
    assert words in line


def test_metrics_and_healthcheck_answer(start: Start, place: Path) -> None:
    start().reported()
    text = ask(place, "/metrics")
    assert "devagent_devices 2.0" in text
    assert 'devagent_report_state{state="current"} 1.0' in text
    assert ask(place, "/healthcheck").endswith("OK")
    ask(place, "/v1/what/is/this")
    text = ask(place, "/metrics")
    assert 'devagent_api_requests_total{operation="healthcheck",status="200"} 1.0' in text
    assert 'devagent_api_requests_total{operation="none",status="404"} 1.0' in text


def ask(place: Path, path: str) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(place / "api.sock"))
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
        return b"".join(iter(lambda: connection.recv(1 << 16), b"")).decode()


def test_eventlet_is_not_there(start: Start) -> None:
    agent = start().reported()
    maps = Path(f"/proc/{agent.process.pid}/maps").read_text()
    assert "greenlet" not in maps
