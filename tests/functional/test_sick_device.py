# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A sick device in the real Placement: who has it keeps it, nobody new gets it, and it comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from devagent.cli.look import look
from devagent.inventory.build import build
from devagent.inventory.condition import Rules, follow, settled
from devagent.model.device import Decision
from devagent.model.health import Book, Health, State
from devagent.model.provider import ProviderTree

from .cloud import Cloud, assert_is
from .conftest import Describe, Devagent, Write
from .descriptions import small

GPU, NIC = "0000:3b:00.0", "0000:3c:00.0"
SICK = Health(State.UNHEALTHY, ("its driver asks for a reset",))
FENCED = "CUSTOM_DEVAGENT_UNHEALTHY"

Want = Callable[..., ProviderTree]


@pytest.fixture
def want(cloud: Cloud, describe: Describe) -> Want:
    """Gives the tree of a host with one GPU and one PF with VFs, of which those named are sick."""
    devices = look(describe(small())).found.devices

    def wanted(*addresses: str, health: Health = SICK) -> ProviderTree:
        told = [replace(each, health=health) if each.address in addresses else each for each in devices]
        return build(told, cloud.root, cloud.name)

    return wanted


def candidates(cloud: Cloud, query: str) -> set[str]:
    """Gives the providers of this cloud that a scheduler may use for what it asks."""
    own = {raw["uuid"] for raw in cloud.tree().values()}
    found = cloud.call("GET", f"/allocation_candidates?{query}")["allocation_requests"]
    return {uid for request in found for uid in request["allocations"]} & own


def uuid_of(cloud: Cloud, address: str) -> str:
    return str(cloud.tree()[f"devagent:{cloud.name}:{address}"]["uuid"])


@pytest.mark.parametrize(("address", "query"), [(GPU, "resources=PGPU:1"), (NIC, "resources=SRIOV_NET_VF:1")])
def test_a_fence_keeps_what_is_held_and_gives_nothing_new(cloud: Cloud, want: Want, address: str, query: str) -> None:
    well, sick = want(), want(address)
    cloud.report(well)
    uid = uuid_of(cloud, address)
    name = query.removeprefix("resources=").split(":")[0]
    holder = cloud.allocate(uid, **{name: 1})
    if address == NIC:
        assert candidates(cloud, query) == {uid}

    assert cloud.report(sick).failures == {}
    assert_is(cloud, sick)
    assert cloud.allocations(holder) == {uid: {name: 1}}
    assert candidates(cloud, query) == set()

    cloud.report(well)
    assert_is(cloud, well)
    cloud.call("DELETE", f"/allocations/{holder}")
    assert candidates(cloud, query) == {uid}


def test_a_fence_costs_the_listing_the_traits_and_one_put(cloud: Cloud, want: Want) -> None:
    cloud.report(want())
    keeper = cloud.wire()
    cloud.report(want(GPU), keeper)
    path = f"/resource_providers/{uuid_of(cloud, GPU)}"
    writes = [(method, url) for method, url in keeper.writes if not url.startswith("/traits")]
    assert writes == [("PUT", f"{path}/traits"), ("PUT", f"{path}/inventories")]
    again = cloud.wire()
    cloud.report(want(GPU), again)
    assert again.writes == []


@pytest.mark.parametrize("state", [State.SUSPECT, State.UNMONITORED])
def test_what_is_only_suspect_is_given_unless_a_flavor_forbids_it(cloud: Cloud, want: Want, state: State) -> None:
    cloud.report(want(GPU, health=Health(state, ("a reason",))))
    asked = "resources=PGPU:1"
    assert candidates(cloud, asked) == {uuid_of(cloud, GPU)}
    assert candidates(cloud, f"{asked}&required=!CUSTOM_DEVAGENT_{state.upper()}") == set()


def test_a_gpu_that_recovers_is_given_again_after_its_clean_checks(cloud: Cloud, describe: Describe) -> None:
    devices = look(describe(small())).found.devices
    book: Book = {}
    offered = []
    for health in (Health(State.HEALTHY), SICK, *[Health(State.HEALTHY)] * 3):
        told = [replace(each, claim=replace(each.claim, health=health)) for each in devices]
        book = follow(told, book, (), 1.0, Rules())
        cloud.report(build(settled(told, book, 1.0), cloud.root, cloud.name))
        offered.append(bool(candidates(cloud, "resources=PGPU:1")))
    assert offered == [True, False, False, False, True]


def test_a_gpu_that_fell_off_the_bus_is_closed_though_it_cannot_be_read(cloud: Cloud, describe: Describe) -> None:
    """How it is divided, NVML no longer says: what was reported of it stays, but closed."""
    unread = Decision(False, "unknown: nvml could not be read", unknown=True)
    devices = look(describe(small())).found.devices
    dead = [
        replace(each, decision=unread, claim=replace(each.claim, health=Health(State.LOST, ("off the bus",))))
        if each.address == GPU
        else each
        for each in devices
    ]
    book: Book = {}
    for seen in (devices, dead):
        book = follow(seen, book, (), 1.0, Rules())
        cloud.report(build(settled(seen, book, 1.0), cloud.root, cloud.name))
    inventory = cloud.provider(uuid_of(cloud, GPU))["inventories"]["PGPU"]
    assert (inventory["total"], inventory["reserved"]) == (1, 1)
    assert candidates(cloud, "resources=PGPU:1") == set()


@pytest.fixture
def configuration(cloud: Cloud, write: Write, tmp_path: Path) -> Path:
    return write(
        "devagent.conf",
        f"[DEFAULT]\nhost = {cloud.name}\nstate_path = {tmp_path / 'state'}\n"
        f"[placement]\nauth_type = admin_token\nendpoint = {cloud.url}\ntoken = admin\n",
    )


def lines(text: str) -> Iterable[str]:
    return [line for line in text.splitlines() if "closed to new consumers" in line]


def test_report_says_what_it_closes_and_why(
    cloud: Cloud, describe: Describe, configuration: Path, devagent: Devagent, tmp_path: Path
) -> None:
    dead = describe(small())
    for name in ("current_link_width", "max_link_width"):
        (dead / "sys/bus/pci/devices" / GPU / name).write_text("63\n")
    arguments = ("report", "--root", dead, "--config-file", configuration)
    said = f"devagent: {GPU}: closed to new consumers: lost: it does not answer on PCIe"
    for ran in (devagent(*arguments, "--dry-run"), devagent(*arguments)):
        (line,) = lines(ran.err)
        assert line.startswith(said)
        assert f"+ devagent:{cloud.name}:{GPU}  PGPU 1 (1 reserved)" in ran.out
    assert "CUSTOM_DEVAGENT_LOST" in cloud.tree()[f"devagent:{cloud.name}:{GPU}"]["traits"]
    # What a captured host has is no news of this machine.
    assert not (tmp_path / "state" / "health.json").exists()


def test_report_on_this_machine_keeps_the_health_of_its_devices(
    cloud: Cloud, configuration: Path, devagent: Devagent, tmp_path: Path
) -> None:
    arguments = ("report", "--once", "--config-file", configuration)
    devagent(*arguments, "--dry-run")
    assert not (tmp_path / "state" / "health.json").exists()
    devagent(*arguments)
    assert (tmp_path / "state" / "health.json").exists()
