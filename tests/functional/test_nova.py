# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Beside a real Nova: its resource tracker and report client work on the same tree, and neither disturbs the other."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from bench import nova_beside, placement, reporters
from bench.nova_beside import Answer, Nova
from devagent.errors import RootProviderMissing
from devagent.model.provider import ProviderTree
from devagent.placement.reporter import Report

from .cloud import Cloud, assert_is, reporter
from .conftest import REPOSITORY, Describe
from .descriptions import small
from .flavors import flavors, query, read

pytestmark = pytest.mark.skipif(not nova_beside.PYTHON.exists(), reason=nova_beside.MISSING)

GPU, NIC = "0000:3b:00.0", "0000:3c:00.0"
GONE = "ResourceProviderAllocationRetrievalFailed"
ONE_GPU = {"resources1:PGPU": "1", "group_policy": "none"}
GPU_AND_VFS = {"resources1:PGPU": "1", "resources2:SRIOV_NET_VF": "2", "group_policy": "none"}


class Beside:
    """One compute node on which both work; each step checks that it left alone what is the other's."""

    def __init__(self, nova: Nova, cloud: Cloud) -> None:
        self.nova, self.cloud = nova, cloud
        self.wire = cloud.wire()
        self.reporter = reporter(self.wire)

    def start(self, **options: object) -> Answer:
        """Starts nova-compute, or starts it again."""
        return self.does("start", url=self.cloud.url, uuid=self.cloud.root, name=self.cloud.name, **options)

    def does(self, method: str, **arguments: object) -> Answer:
        """Lets Nova do something: it may not fail, nor write to a provider of ours, nor change what one has."""
        before = self._ours()
        answer = self.nova.call(method, **arguments)
        assert (answer.raised, answer.text, answer.logged) == (None, "", [])
        assert not [url for _, url in answer.writes if any(uid in url for uid in before)]
        after = self._ours()
        if any("/allocations" in url for _, url in answer.writes):
            # Placement itself raises the generation of what is allocated.
            before = {uid: (*entry[:2], after[uid][2]) for uid, entry in before.items()}
        assert after == before
        return answer

    def report(self, desired: ProviderTree) -> Report:
        """Lets devagent report: it may neither fail nor touch the compute node's own provider."""
        before, sent = self.cloud.provider(self.cloud.root), len(self.wire.sent)
        report = self.reporter.report(desired)
        assert report.failures == {}
        assert self.cloud.provider(self.cloud.root) == before
        assert not [url for method, url in self.wire.sent[sent:] if method != "GET" and self.cloud.root in url]
        return report

    def rest(self, desired: ProviderTree) -> list[str]:
        """Gives the methods of the requests of a cycle in which devagent has nothing to do."""
        sent = len(self.wire.sent)
        assert self.report(desired).changes == []
        return [method for method, _ in self.wire.sent[sent:]]

    def _ours(self) -> dict[str, tuple[str, str, int]]:
        """Gives name, parent and generation, which every write of inventories, traits or aggregates raises."""
        listed = self.cloud.call("GET", f"/resource_providers?in_tree={self.cloud.root}")["resource_providers"]
        entries = {raw["uuid"]: (raw["name"], raw["parent_provider_uuid"], raw["generation"]) for raw in listed}
        return {uid: entry for uid, entry in entries.items() if entry[0].startswith("devagent:")}


@pytest.fixture(scope="module")
def nova() -> Iterator[Nova]:
    """Runs the one Nova of these tests."""
    with nova_beside.running() as running:
        yield running


@pytest.fixture
def beside(nova: Nova, empty_cloud: Cloud) -> Beside:
    """Gives a compute node on which nothing has started yet."""
    return Beside(nova, empty_cloud)


def uuid_of(tree: ProviderTree, address: str) -> str:
    return next(uid for uid, found in tree.devices.items() if found[0] == address)


def pci(address: str, product: str, parent: str | None = None) -> dict[str, Any]:
    """Gives a device as libvirt's driver describes it to Nova."""
    return {
        "address": address,
        "vendor_id": "15b3" if product.startswith("101") else "10de",
        "product_id": product,
        "dev_type": "type-VF" if parent else "type-PF",
        "parent_addr": parent,
        "status": "available",
        "numa_node": 0,
        "label": f"label_{product}",
    }


def in_placement(tree: ProviderTree, address: str) -> dict[str, Any]:
    """Gives the options with which Nova reports a NIC's VFs, or a GPU, as PCI in Placement."""
    vfs = tree.devices[uuid_of(tree, address)][1:]
    listed = [pci(address, "101d" if vfs else "20f1"), *(pci(vf, "101e", address) for vf in vfs)]
    specs = [{"vendor_id": listed[-1]["vendor_id"], "product_id": listed[-1]["product_id"]}]
    return {"report_pci": True, "devices": listed, "specs": specs}


@pytest.mark.parametrize(("refresh", "report_pci"), [(300, False), (300, True), (0, False)])
def test_neither_disturbs_the_other(beside: Beside, describe: Describe, refresh: int, report_pci: bool) -> None:
    cloud = beside.cloud
    desired = cloud.want(describe(small()))
    with pytest.raises(RootProviderMissing):
        beside.reporter.survey(cloud.root, cloud.name)
    beside.start(refresh=refresh, report_pci=report_pci)
    assert beside.reporter.survey(None, cloud.name).root.uuid == cloud.root
    beside.report(desired)
    assert_is(cloud, desired)

    def nova_goes_on(known: ProviderTree) -> None:
        """Nova's next minutes: with fresh caches, with stale ones, with no caches; none of them writes."""
        assert beside.does("periodic").writes == []
        beside.does("later")
        assert beside.does("periodic").writes == []
        beside.start(refresh=refresh, report_pci=report_pci)
        names = {provider.name for provider in known.providers}
        assert names <= set(beside.does("known").gives)
        assert beside.rest(known) == ["GET"]

    nova_goes_on(desired)

    fewer = cloud.want(describe(small(vfs=2)))
    assert len(beside.report(fewer).changes) == 1
    nova_goes_on(fewer)

    vacant = cloud.want(describe(small(vfs=2, gpu=None)))
    assert [change.action for change in beside.report(vacant).changes] == ["-"]
    nova_goes_on(vacant)
    beside.report(desired)

    before = cloud.provider(cloud.root)
    beside.does("resize", vcpus=16)
    assert beside.does("periodic").writes == [("PUT", f"/resource_providers/{cloud.root}/inventories")]
    assert cloud.provider(cloud.root)["generation"] == before["generation"] + 1
    assert beside.rest(desired) == ["GET"]

    server = str(uuid.uuid4())
    gpu, nic = uuid_of(desired, GPU), uuid_of(desired, NIC)
    held = beside.does("boot", uuid=server, extra_specs=GPU_AND_VFS).gives
    assert (held[gpu], held[nic]) == ({"PGPU": 1}, {"SRIOV_NET_VF": 2})
    assert held[cloud.root] == {"VCPU": 2, "MEMORY_MB": 512, "DISK_GB": 1}
    assert set(beside.rest(desired)) == {"GET"}
    assert beside.rest(desired) == ["GET"]
    assert beside.does("periodic").writes == []

    assert [provider.uuid for provider in beside.report(vacant).held] == [gpu]
    assert cloud.provider(gpu)["inventories"]["PGPU"]["reserved"] == 1
    assert cloud.allocations(server) == held
    assert beside.does("periodic").writes == []
    beside.does("later")
    beside.does("periodic")

    assert beside.does("delete", uuid=server).writes == [("DELETE", f"/allocations/{server}")]
    beside.report(vacant)
    assert cloud.provider(gpu)["inventories"] == {}
    nova_goes_on(vacant)


def test_what_our_providers_cost_nova(beside: Beside, hosts: dict[str, Path]) -> None:
    """Nova asks for the allocations of each provider that it knows, and reads each in full every five minutes."""
    desired = beside.cloud.want(hosts["gpu8"])
    number = len(desired.providers)
    beside.start()
    alone = [beside.does("periodic"), beside.does("later"), beside.does("periodic")]
    beside.report(desired)
    beside.does("later")
    stale, fresh = beside.does("periodic"), beside.does("periodic")
    assert [len(answer.requests) for answer in alone] == [2, 0, 6]
    assert number == 14
    assert len(fresh.requests) == 2 + number
    assert len(stale.requests) == 6 + 4 * number
    assert (fresh.writes, stale.writes) == ([], [])


def test_nova_learns_of_us_when_its_cache_is_stale_and_not_before(beside: Beside, describe: Describe) -> None:
    beside.start()
    beside.report(beside.cloud.want(describe(small())))
    beside.does("periodic")
    assert list(beside.does("known").gives) == [beside.cloud.name]
    beside.does("later")
    beside.does("periodic")
    assert beside.does("known").gives == beside.cloud.generations()


def test_a_provider_deleted_while_nova_has_it_cached_breaks_nova_until_the_cache_is_stale(
    beside: Beside, describe: Describe
) -> None:
    """The fact for which devagent keeps what is gone, and for which `--purge` warns."""
    desired, vacant = beside.cloud.want(describe(small())), beside.cloud.want(describe(small(gpu=None)))
    beside.start()
    beside.report(desired)
    beside.does("later")
    beside.does("periodic")
    beside.report(vacant)
    beside.does("periodic")  # emptied and kept: no harm

    purged = beside.reporter.purge(vacant)
    assert [change.after.uuid for change in purged.changes] == [uuid_of(desired, GPU)]
    assert beside.nova.call("periodic").raised == GONE
    assert beside.nova.call("boot", uuid=str(uuid.uuid4()), extra_specs={}).raised == GONE
    beside.does("later")
    beside.does("periodic")
    beside.does("boot", uuid=str(uuid.uuid4()), extra_specs={})


def test_a_deleted_provider_breaks_nova_until_its_restart_where_it_never_refreshes(
    beside: Beside, describe: Describe
) -> None:
    desired, vacant = beside.cloud.want(describe(small())), beside.cloud.want(describe(small(gpu=None)))
    beside.start(refresh=0)
    beside.report(desired)
    beside.start(refresh=0)
    beside.reporter.purge(vacant)
    beside.does("later")
    assert beside.nova.call("periodic").raised == GONE
    beside.start(refresh=0)


@pytest.mark.parametrize("address", [GPU, NIC])
def test_what_nova_reports_already_is_left_to_nova(beside: Beside, describe: Describe, address: str) -> None:
    cloud = beside.cloud
    desired = cloud.want(describe(small()))
    beside.start(**in_placement(desired, address))
    name = f"{cloud.name}_{address.upper()}"
    theirs = cloud.tree()[name]
    assert {"COMPUTE_MANAGED_PCI_DEVICE", "OWNER_NOVA"} <= set(theirs["traits"])

    report = beside.report(desired)
    assert [(owned.address, owned.service, owned.provider) for owned in report.owned] == [(address, "Nova", name)]
    assert set(cloud.ours()) == set(desired.by_uuid()) - {uuid_of(desired, address)}
    assert beside.rest(desired) == ["GET"]
    beside.does("later")
    assert beside.does("periodic").writes == []
    assert cloud.tree()[name] == theirs

    beside.start(report_pci=True)  # the operator takes it out of nova.conf: Nova deletes its provider
    assert name not in cloud.tree()
    report = beside.report(desired)
    assert report.owned == []
    assert_is(cloud, desired)


def test_what_nova_begins_to_report_is_retired(beside: Beside, describe: Describe) -> None:
    cloud, address = beside.cloud, NIC
    desired = cloud.want(describe(small()))
    beside.start()
    beside.report(desired)
    beside.start(**in_placement(desired, address))

    report = beside.report(desired)
    assert [(owned.address, owned.service) for owned in report.owned] == [(address, "Nova")]
    assert [(change.action, change.after.uuid) for change in report.changes] == [("-", uuid_of(desired, address))]
    assert cloud.provider(uuid_of(desired, address))["inventories"] == {}
    assert beside.rest(desired) == ["GET"]
    assert beside.does("periodic").writes == []
    beside.does("later")
    assert beside.does("periodic").writes == []


def test_what_nova_begins_to_report_while_it_is_in_use_is_closed_until_it_is_free(
    beside: Beside, describe: Describe
) -> None:
    cloud = beside.cloud
    desired = cloud.want(describe(small()))
    beside.start()
    beside.report(desired)
    server = str(uuid.uuid4())
    held = beside.does("boot", uuid=server, extra_specs=ONE_GPU).gives
    gpu = next(uid for uid, resources in held.items() if "PGPU" in resources)
    address = desired.devices[gpu][0]
    # Nova does not know that its server has this device by way of our provider.
    beside.start(**in_placement(desired, address))
    report = beside.report(desired)
    assert [provider.uuid for provider in report.held] == [gpu]
    assert cloud.provider(gpu)["inventories"]["PGPU"]["reserved"] == 1
    beside.does("periodic")
    beside.does("delete", uuid=server)
    beside.report(desired)
    assert cloud.provider(gpu)["inventories"] == {}


@pytest.mark.parametrize("first", ["cyborg", "devagent"])
def test_what_cyborg_reports_is_left_to_cyborg(beside: Beside, describe: Describe, first: str) -> None:
    """Cyborg 17 names and marks a provider so: drivers/gpu/nvidia/sysinfo.py, conductor/manager.py."""
    cloud = beside.cloud
    desired = cloud.want(describe(small()))
    name = f"{cloud.name}_{GPU}"
    beside.start()
    if first == "devagent":
        beside.report(desired)
    theirs = cloud.create(name, cloud.root, str(uuid.uuid3(uuid.NAMESPACE_DNS, name)))
    cloud.set(theirs, {"PGPU": 1}, ("OWNER_CYBORG",))
    before = cloud.provider(theirs)

    report = beside.report(desired)
    assert [(owned.address, owned.service, owned.provider) for owned in report.owned] == [(GPU, "Cyborg", name)]
    assert not any(provider.inventories for uid, provider in cloud.ours().items() if uid == uuid_of(desired, GPU))
    assert beside.rest(desired) == ["GET"]
    beside.does("later")
    assert beside.does("periodic").writes == []
    assert cloud.provider(theirs) == before

    cloud.set(theirs, {})  # Cyborg's driver is switched off: what offers nothing owns nothing
    assert beside.report(desired).owned == []
    assert_is(cloud, desired)


def test_a_migration_that_holds_a_device_keeps_it(beside: Beside, describe: Describe) -> None:
    cloud = beside.cloud
    desired, vacant = cloud.want(describe(small())), cloud.want(describe(small(gpu=None)))
    server, migration = str(uuid.uuid4()), str(uuid.uuid4())
    beside.start()
    beside.report(desired)
    held = beside.does("boot", uuid=server, extra_specs=ONE_GPU).gives
    assert beside.does("move", uuid=server, migration=migration).gives
    beside.report(vacant)
    assert cloud.allocations(migration) == held
    assert beside.does("move", uuid=migration, migration=server).gives
    beside.report(desired)
    assert cloud.allocations(server) == held
    assert_is(cloud, desired)
    beside.does("delete", uuid=server)


def test_allocations_that_devagent_carries_over_stay_novas(beside: Beside, describe: Describe) -> None:
    """A device whose identity is known better than before gets another provider, with its server on it."""
    cloud = beside.cloud
    desired = cloud.want(describe(small()))
    old, new, server = uuid_of(desired, GPU), str(uuid.uuid4()), str(uuid.uuid4())
    beside.start()
    beside.report(desired)
    beside.does("later")
    beside.does("periodic")
    held = beside.does("boot", uuid=server, extra_specs=ONE_GPU).gives

    def nova_changes_the_root(vcpus: int) -> None:
        """Its generation has moved with an allocation: that costs Nova a conflict and a second try."""
        beside.does("resize", vcpus=vcpus)
        answer = beside.nova.call("periodic")
        assert (answer.raised, len(answer.logged)) == (None, 1)
        assert cloud.provider(cloud.root)["inventories"]["VCPU"]["total"] == vcpus

    nova_changes_the_root(16)
    better = renewed(desired, old, new)
    before = cloud.provider(cloud.root)
    assert beside.reporter.report(better).failures == {}
    # Only the generation: Placement raises it on each provider of an allocation that is written.
    assert {**cloud.provider(cloud.root), "generation": 0} == {**before, "generation": 0}
    assert cloud.allocations(server) == {new if uid == old else uid: resources for uid, resources in held.items()}
    assert set(beside.rest(better)) == {"GET"}
    assert beside.rest(better) == ["GET"]

    beside.does("periodic")
    nova_changes_the_root(24)
    beside.does("delete", uuid=server)
    beside.does("later")
    beside.does("periodic")


def renewed(tree: ProviderTree, old: str, new: str) -> ProviderTree:
    """Gives a tree in which one provider has another UUID."""
    providers = tuple(replace(one, uuid=new) if one.uuid == old else one for one in tree.providers)
    devices: Mapping[str, tuple[str, ...]] = {new if uid == old else uid: own for uid, own in tree.devices.items()}
    return replace(tree, providers=providers, devices=devices)


def test_a_compute_service_that_is_deleted_takes_our_providers_along_and_they_come_back(
    beside: Beside, describe: Describe
) -> None:
    """`openstack compute service delete` deletes the whole tree; a new nova-compute makes the root again."""
    cloud = beside.cloud
    desired = cloud.want(describe(small()))
    beside.start()
    beside.report(desired)
    assert beside.nova.call("remove").raised is None
    with pytest.raises(RootProviderMissing):
        beside.reporter.report(desired)
    # Nova itself logs as an error that the root is not there before it makes it.
    assert beside.nova.call("start", url=cloud.url, uuid=cloud.root, name=cloud.name).raised is None
    beside.report(desired)
    assert_is(cloud, desired)
    assert beside.rest(desired) == ["GET"]


def test_the_same_devices_cost_fewer_requests_than_by_novas_client(nova: Nova, tmp_path: Path) -> None:
    devices = reporters.Devices(8, 64)
    ours, novas = reporters.Devagent(devices, tmp_path), reporters.ByNova(devices, nova)
    costs = placement.run([ours, novas], devices, rounds=1)
    counts = {step: (by[ours.name][0].requests, by[novas.name][0].requests) for step, by in costs.items()}
    # 10 providers and 5 new traits: 2 each, 1 per trait, and 4 more; for Nova 8 providers with 4 new traits.
    assert counts == {
        reporters.FIRST: (29, 57),
        reporters.AGAIN: (1, 9),
        reporters.OLD: (1, 37),
        reporters.RESTART: (1, 37),
        reporters.CHANGE: (2, 11),
    }


def test_nova_asks_for_a_flavor_what_the_document_says(beside: Beside, hosts: dict[str, Path]) -> None:
    """Of Nova's own translation, less what every server wants."""
    told = flavors((REPOSITORY / "docs/flavors.md").read_text())
    wanted = {name: told[name] for name in ("gpu.other", "gpu.mixed", "vf.pair", "vf.two")}
    beside.start()
    beside.report(beside.cloud.want(hosts["gpu8"]))
    for name, extra_specs in wanted.items():
        sent = beside.nova.call("boot", uuid=str(uuid.uuid4()), extra_specs=extra_specs).requests
        [url] = [url for _, url in sent if "/allocation_candidates" in url]
        assert set(query(extra_specs)) <= set(read(unquote(url))), name
