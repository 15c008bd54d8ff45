# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Preparing through the agent's API and commands, against a real Placement, on a host with all VFs on vfio-pci.

A tree of files binds nothing: what the verbs do to a kernel is tested in tests/kernel.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from devagent.api.schemas import mistake
from devagent.errors import AgentRefused

from .captures import looked
from .cloud import Cloud
from .conftest import Describe
from .descriptions import small
from .running_agent import RunningAgent, command, running, write_configuration

NIC = "0000:3c:00.0"
VF = "SRIOV_NET_VF"
WIPED = """
schema_version: 1
rules:
  - {name: all, match: {has_vfs: true}, mode: vf, prepare: {scrub: gpu-reset}}
"""
PLAIN = WIPED.replace(", prepare: {scrub: gpu-reset}", "")

Start = Callable[..., RunningAgent]


@pytest.fixture
def host(cloud: Cloud, describe: Describe) -> Path:
    """Gives a host with a NIC of four VFs that are on vfio-pci, in IOMMU groups of their own."""
    return describe(on_vfio(small(compute_id=cloud.root)))


@pytest.fixture
def start(place: Path, cloud: Cloud, host: Path) -> Iterator[Start]:
    """Starts agents for the host."""
    with ExitStack() as stack:

        def begin(**sections: Any) -> RunningAgent:
            configuration = write_configuration(place, cloud.name, cloud.url, **sections)
            return stack.enter_context(running(host, configuration)).reported()

        yield begin


def on_vfio(description: dict[str, Any]) -> dict[str, Any]:
    nic = description["pci"][0]["devices"][1]["behind"][0]
    nic["vfs"] = {**nic["vfs"], "driver": "vfio-pci"}
    return {**description, "drivers": ["vfio-pci"]}


def provider(cloud: Cloud) -> str:
    return str(cloud.tree()[f"devagent:{cloud.name}:{NIC}"]["uuid"])


def body(cloud: Cloud, count: int = 1, **more: Any) -> dict[str, Any]:
    return {"groups": [{"provider": provider(cloud), "resources": {VF: count}, **more}]}


def prepare(agent: RunningAgent, consumer: str, asked: dict[str, Any]) -> dict[str, Any]:
    return agent.api.put(f"/v1/preparations/{consumer}", asked, wait=60)


def listed(agent: RunningAgent) -> dict[str, Any]:
    found = agent.api.get("/v1/preparations")
    assert mistake("preparations", found) is None
    return {each["consumer"]: each for each in found["preparations"]}


def test_a_consumer_gets_handles_of_what_it_holds_in_placement_and_gives_them_back(start: Start, cloud: Cloud) -> None:
    agent = start()
    consumer = cloud.allocate(provider(cloud), **{VF: 2})
    found = prepare(agent, consumer, body(cloud, 2))
    assert mistake("preparations#preparation", found) is None
    assert found["state"] == "prepared"
    addresses = [handle["address"] for handle in found["handles"]]
    assert len(set(addresses)) == 2
    assert all(address.startswith("0000:3c:") for address in addresses)
    assert {"placement", "looking", "planning", "locks"} <= found["timings"].keys()
    assert prepare(agent, consumer, body(cloud, 2)) == found
    assert listed(agent) == {consumer: found}
    assert agent.api.delete(f"/v1/preparations/{consumer}") == {}
    assert agent.api.delete(f"/v1/preparations/{consumer}") == {}
    assert listed(agent) == {}
    assert cloud.tree()[f"devagent:{cloud.name}:{NIC}"]["inventories"][VF]["reserved"] == 0


def test_two_consumers_never_get_the_same(start: Start, cloud: Cloud) -> None:
    agent = start()
    consumers = [cloud.allocate(provider(cloud), **{VF: 1}) for _ in range(4)]
    handles = [prepare(agent, consumer, body(cloud))["handles"] for consumer in consumers]
    assert len({handle["address"] for each in handles for handle in each}) == 4


def test_what_is_not_allocated_is_invalid_and_prepared_only_where_nobody_checks(start: Start, cloud: Cloud) -> None:
    stranger = str(uuid.uuid4())
    agent = start()
    with pytest.raises(AgentRefused, match="holds 0 SRIOV_NET_VF of resource provider") as refused:
        prepare(agent, stranger, body(cloud))
    assert (refused.value.status, refused.value.code) == (400, "devagent.preparation.invalid")
    assert agent.api.get(f"/v1/preparations/{stranger}")["error"]["type"] == "invalid"
    assert agent.stop() == 0
    assert prepare(start(prepare={"check_allocations": "false"}), stranger, body(cloud))["state"] == "prepared"


def test_another_request_for_the_same_consumer_is_refused(start: Start, cloud: Cloud) -> None:
    agent = start()
    consumer = cloud.allocate(provider(cloud), **{VF: 2})
    prepare(agent, consumer, body(cloud, 1))
    with pytest.raises(AgentRefused, match="release it first") as refused:
        prepare(agent, consumer, body(cloud, 2))
    assert (refused.value.status, refused.value.code) == (409, "devagent.preparation.other_request")


def test_a_device_that_somebody_has_is_refused_with_who_that_is(start: Start, cloud: Cloud) -> None:
    agent = start()
    first, second = (cloud.allocate(provider(cloud), **{VF: 1}) for _ in range(2))
    address = prepare(agent, first, body(cloud))["handles"][0]["address"]
    with pytest.raises(AgentRefused, match=f"held by consumer {first}") as refused:
        prepare(agent, second, body(cloud, address=address))
    assert (refused.value.status, refused.value.code) == (503, "devagent.preparation.retry")
    (holder,) = agent.api.get(f"/v1/preparations/{second}")["error"]["holders"]
    assert holder["consumer"] == first


def test_what_could_not_be_wiped_is_refused_before_anybody_has_it(start: Start, cloud: Cloud, place: Path) -> None:
    policy = place / "devices.yaml"
    policy.write_text(WIPED)
    agent = start(inventory={"policy_file": str(policy)})
    consumer = cloud.allocate(provider(cloud), **{VF: 1})
    with pytest.raises(AgentRefused, match=r"is no GPU .* it cannot be wiped by gpu-reset") as refused:
        prepare(agent, consumer, body(cloud))
    assert refused.value.status == 422
    (left,) = listed(agent).values()
    assert (left["state"], left["handles"]) == ("failed", [])


def test_what_is_prepared_outlives_the_agent(start: Start, cloud: Cloud) -> None:
    first = start()
    consumer = cloud.allocate(provider(cloud), **{VF: 1})
    found = prepare(first, consumer, body(cloud))
    first.process.kill()
    first.process.wait()
    again = start()
    assert listed(again) == {consumer: found}
    assert prepare(again, consumer, body(cloud)) == found


def test_on_a_captured_host_nothing_can_be_prepared(cloud: Cloud, place: Path, describe: Describe) -> None:
    looked(describe(on_vfio(small(compute_id=cloud.root))), place / "host.tar.xz")
    configuration = write_configuration(place, cloud.name, cloud.url)
    with running(place / "host.tar.xz", configuration) as agent:
        agent.reported()
        consumer = cloud.allocate(provider(cloud), **{VF: 1})
        with pytest.raises(AgentRefused, match=r"as it was when it was captured in .*host\.tar\.xz") as refused:
            prepare(agent, consumer, body(cloud))
        assert (refused.value.status, listed(agent)) == (422, {})
        assert agent.api.delete(f"/v1/preparations/{consumer}") == {}
        assert agent.stop() == 0


def test_a_journal_that_cannot_be_opened_stops_preparing_and_nothing_else(
    start: Start, cloud: Cloud, place: Path
) -> None:
    (place / "state").mkdir()
    with sqlite3.connect(place / "state" / "preparations.db") as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    agent = start()
    consumer = cloud.allocate(provider(cloud), **{VF: 1})
    with pytest.raises(AgentRefused, match="start the newer devagent") as refused:
        prepare(agent, consumer, body(cloud))
    assert refused.value.status == 503
    assert any("the prepare loop fails: nothing is prepared" in reason for reason in agent.status()["reasons"])
    assert agent.status()["report"]["state"] == "current"


def test_a_damaged_journal_gives_only_what_is_provably_free(start: Start, cloud: Cloud, place: Path) -> None:
    (place / "state").mkdir()
    (place / "state" / "preparations.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 8192)
    agent = start()
    consumer = cloud.allocate(provider(cloud), **{VF: 1})
    with pytest.raises(AgentRefused, match="the journal was damaged") as refused:
        prepare(agent, consumer, body(cloud))
    assert refused.value.code == "devagent.preparation.retry"
    assert any("the journal of preparations was damaged" in reason for reason in agent.status()["reasons"])


def hint(agent: RunningAgent, consumer: str) -> None:
    body = {"hints": [{"consumer": consumer, "event": "instance.delete.end"}]}
    assert agent.api.post("/v1/hints", body=body) == {"known": 1}


def move(cloud: Cloud, old: str, new: str) -> None:
    """Moves an allocation to another consumer, as Nova does for a migration and back."""
    found = cloud.call("GET", f"/allocations/{old}")
    common = {"project_id": "p", "user_id": "u", "consumer_type": "INSTANCE"}
    known = cloud.call("GET", f"/allocations/{new}").get("consumer_generation")
    there = {uid: {"resources": each["resources"]} for uid, each in found["allocations"].items()}
    body = {
        new: {"allocations": there, "consumer_generation": known, **common},
        old: {"allocations": {}, "consumer_generation": found["consumer_generation"], **common},
    }
    cloud.call("POST", "/allocations", body)


def test_after_a_hint_what_nobody_holds_any_more_is_released_within_seconds(start: Start, cloud: Cloud) -> None:
    agent = start()
    consumers = [cloud.allocate(provider(cloud), **{VF: 1}) for _ in range(2)]
    for consumer in consumers:
        prepare(agent, consumer, body(cloud))
    hint(agent, consumers[0])
    cloud.call("DELETE", f"/allocations/{consumers[0]}")
    hint(agent, consumers[0])
    agent.until(lambda: listed(agent).keys() == {consumers[1]})


def test_what_is_moved_to_a_migration_is_kept_until_that_is_confirmed(start: Start, cloud: Cloud) -> None:
    agent = start()
    server, migration = cloud.allocate(provider(cloud), **{VF: 2}), str(uuid.uuid4())
    found = prepare(agent, server, body(cloud, 2))
    other = cloud.allocate(provider(cloud), **{VF: 2})
    prepare(agent, other, body(cloud, 2))
    move(cloud, server, migration)
    hint(agent, server)
    time.sleep(4.0)  # two looks at Placement, after 0 and 2 s
    assert listed(agent)[server] == found
    move(cloud, migration, server)
    assert prepare(agent, server, body(cloud, 2)) == found
    move(cloud, server, migration)
    cloud.call("DELETE", f"/allocations/{migration}")
    hint(agent, server)
    agent.until(lambda: listed(agent).keys() == {other})


def test_the_commands_prepare_show_and_release(start: Start, cloud: Cloud) -> None:
    agent = start()
    consumer = cloud.allocate(provider(cloud), **{VF: 1})
    made = command(agent, "prepare", consumer, "--group", f"{provider(cloud)}:{VF}=1", "--expires-in", "2h")
    assert made.returncode == 0, made.stderr
    address = listed(agent)[consumer]["handles"][0]["address"]
    assert address in made.stdout
    shown = command(agent, "preparations")
    assert (shown.returncode, consumer in shown.stdout, address in shown.stdout) == (0, True, True)
    one = command(agent, "preparations", "show", consumer, "-o", "json")
    assert json.loads(one.stdout)["handles"][0]["address"] == address
    assert command(agent, "unprepare", consumer).returncode == 0
    assert listed(agent) == {}
    assert command(agent, "prepare", consumer, "--group", f"{provider(cloud)}:{VF}=1").returncode == 0
    assert command(agent, "preparations", "abort", consumer).returncode == 0
    assert listed(agent) == {}


def unasked(*arguments: str) -> str:
    """Runs a command without an agent and gives the one line in which it says how it is used wrongly."""
    own = [sys.executable, "-m", "devagent", *arguments, "--socket", "/nowhere"]
    ran = subprocess.run(own, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    return ran.stderr


@pytest.mark.parametrize("what", ["", ":", ":vlan=3", ":SRIOV_NET_VF=two", ":SRIOV_NET_VF=0", ":SRIOV_NET_VF"])
def test_a_group_that_says_nothing_is_refused_before_anybody_is_asked(what: str) -> None:
    group = f"{uuid.uuid4()}{what}"
    assert f"--group {group}" in unasked("prepare", str(uuid.uuid4()), "--group", group)


@pytest.mark.parametrize(
    "command", [("prepare", "server-7"), ("unprepare", "server-7"), ("preparations", "abort", "server-7")]
)
def test_a_consumer_that_is_no_uuid_is_refused_before_anybody_is_asked(command: tuple[str, ...]) -> None:
    group = ("--group", f"{uuid.uuid4()}:{VF}=1") if command[0] == "prepare" else ()
    assert "'server-7' is not a consumer" in unasked(*command, *group)


def test_a_provider_that_is_no_uuid_is_refused_before_anybody_is_asked() -> None:
    said = unasked("prepare", str(uuid.uuid4()), "--group", f"0000:3b:00.0:{VF}=1")
    assert "'0000' is not a resource provider" in said


def test_a_command_that_is_refused_says_why(start: Start, cloud: Cloud) -> None:
    refused = command(start(), "prepare", str(uuid.uuid4()), "--group", f"{provider(cloud)}:{VF}=3")
    assert refused.returncode == 1
    assert "holds 0 SRIOV_NET_VF" in refused.stderr


def test_what_novas_own_tracking_gave_is_made_ready_and_never_reported(
    start: Start, cloud: Cloud, place: Path, host: Path
) -> None:
    policy = place / "devices.yaml"
    policy.write_text("schema_version: 1\nrules:\n  - {name: nics, match: {kind: nic}, mode: vf, owner: nova}\n")
    nova = host / "etc/nova/nova.conf"
    nova.parent.mkdir(parents=True)
    nova.write_text('[pci]\ndevice_spec = {"vendor_id": "15b3"}\n')
    agent = start(inventory={"policy_file": str(policy)})
    device = agent.api.get(f"/v1/devices/{NIC}")
    assert (device["decision"]["managed"], device["decision"]["owner"], device["placement"]) == (False, "nova", None)
    vf = device["sriov"]["vfs"][2]["address"]
    group = {"provider": device["id"], "resources": {"CUSTOM_PCI_15B3_101E": 1}, "owner": "nova", "address": vf}
    compute = cloud.create(f"{cloud.name}-cpu", None)
    cloud.set(compute, {"VCPU": 8})
    server = cloud.allocate(compute, VCPU=2)
    assert [each["address"] for each in prepare(agent, server, {"groups": [group]})["handles"]] == [vf]
    with pytest.raises(AgentRefused, match="holds nothing in Placement"):
        prepare(agent, str(uuid.uuid4()), {"groups": [group]})
    for missing, said in (("address", "say by its address"), ("owner", "holds 0 CUSTOM_PCI_15B3_101E")):
        asked = {key: value for key, value in group.items() if key != missing}
        with pytest.raises(AgentRefused, match=said):
            prepare(agent, cloud.allocate(compute, VCPU=1), {"groups": [asked]})
    hint(agent, server)
    cloud.call("DELETE", f"/allocations/{server}")
    agent.until(lambda: server not in listed(agent))


def test_what_cannot_be_wiped_is_no_longer_offered_once_its_allocation_is_gone(
    start: Start, cloud: Cloud, place: Path
) -> None:
    """The policy wants a wipe that a NIC can never have, and wants it only once somebody has the NIC's VFs."""
    policy = place / "devices.yaml"
    policy.write_text(PLAIN)
    agent = start(inventory={"policy_file": str(policy)})
    consumer, other = (cloud.allocate(provider(cloud), **{VF: count}) for count in (2, 1))
    prepare(agent, consumer, body(cloud, 2))
    prepare(agent, other, body(cloud))
    policy.write_text(WIPED)
    agent.reload()
    with pytest.raises(AgentRefused, match=r"is no GPU"):
        agent.api.delete(f"/v1/preparations/{consumer}", wait=60)
    assert listed(agent)[consumer]["state"] == "releasing"
    assert reserved(cloud) == 0
    cloud.call("DELETE", f"/allocations/{consumer}")
    agent.until(lambda: reserved(cloud) == 2)
    agent.process.kill()
    agent.process.wait()
    agent = start(inventory={"policy_file": str(policy)})
    assert reserved(cloud) == 2
    policy.write_text(PLAIN)
    agent.reload()
    assert agent.api.delete(f"/v1/preparations/{consumer}", wait=60) == {}
    agent.until(lambda: reserved(cloud) == 0)
    assert listed(agent).keys() == {other}


def test_an_operator_ends_what_can_never_be_wiped_and_nobody_gets_it_before_he_says_so(
    start: Start, cloud: Cloud, place: Path
) -> None:
    policy = place / "devices.yaml"
    policy.write_text(PLAIN)
    agent = start(inventory={"policy_file": str(policy)})
    consumer = cloud.allocate(provider(cloud), **{VF: 1})
    prepare(agent, consumer, body(cloud))
    early = command(agent, "preparations", "forget", consumer, "--reason", "dead")
    assert (early.returncode, "is prepared: release it first" in early.stderr) == (1, True)
    policy.write_text(WIPED)
    agent.reload()
    with pytest.raises(AgentRefused, match=r"is no GPU"):
        agent.api.delete(f"/v1/preparations/{consumer}", wait=60)
    cloud.call("DELETE", f"/allocations/{consumer}")
    assert command(agent, "preparations", "forget", consumer).returncode == 2
    ended = command(agent, "preparations", "forget", consumer, "--reason", "dead, ticket 4711")
    assert ended.returncode == 0, ended.stderr
    assert f"devagent health clear {NIC}" in ended.stdout
    assert listed(agent) == {}
    assert f"{consumer} is forgotten, by uid " in agent.log
    agent.until(lambda: reserved(cloud) == 4)
    assert command(agent, "health", "clear", NIC).returncode == 0
    agent.until(lambda: reserved(cloud) == 0)
    again = command(agent, "preparations", "forget", consumer, "--reason", "dead")
    assert (again.returncode, "nothing is" in again.stderr or consumer in again.stderr) == (1, True)


def reserved(cloud: Cloud) -> int:
    return int(cloud.tree()[f"devagent:{cloud.name}:{NIC}"]["inventories"][VF]["reserved"])
