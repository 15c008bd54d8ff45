# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Devices that Nova or Cyborg report already are known by the names of their providers."""

from __future__ import annotations

import uuid

import pytest

from devagent.inventory.build import Nest, build
from devagent.inventory.coexistence import Owned, address_of, owned, without
from devagent.model.provider import Inventory, Provider, ProviderTree

from ..worlds import function, managed, pf

ROOT = str(uuid.UUID(int=1))
GPU, PF, VF = "0000:81:00.0", "0000:3b:00.0", "0000:3b:01.1"
TREE: ProviderTree = build(
    [managed(function(GPU, numa_node=1)), managed(pf(2)[0], "SRIOV_NET_VF", 2)], ROOT, "h_1.example.org", Nest.NUMA
)


def foreign(name: str, *traits: str, total: int = 1) -> Provider:
    inventories = {"PCI_DEVICE": Inventory(total)} if total else {}
    return Provider(str(uuid.uuid4()), name, ROOT, inventories, frozenset(traits), 1)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("host_0000:81:00.0", GPU),
        ("host.example.org_0000:81:00.0", GPU),
        ("host_0000:81:00.7", "0000:81:00.7"),
        ("host_10000:01:00.0", "10000:01:00.0"),
        ("host_0000:AB:00.0", "0000:ab:00.0"),
        ("host_pci_0000_81_00_0", GPU),
        ("a_host_with_underscores_0000:81:00.0", GPU),
        ("a_host_with_underscores_pci_0000_81_00_0", GPU),
        ("host_pci_0000_81_00_0_pci_0000_82_00_0", "0000:82:00.0"),
        ("my_pci_host_0000:81:00.0", GPU),
        ("_0000:81:00.0", GPU),
        ("host", None),
        ("", None),
        ("0000:81:00.0", None),
        ("host_0000:81:00.8", None),
        ("host_0000:81:00.0x", None),
        ("host_0000:81:00.0_NUMA", None),
        ("host_NUMA_NODE_0", None),
        ("host_pci_0000_81_00", None),
        ("host_", None),
        ("host_pci_", None),
        ("devagent:host:0000:81:00.0", None),
        ("devagent:host_1:0000:81:00.0", None),
        ("devagent:host_0000:81:00.0", None),
    ],
)
def test_the_name_tells_the_address(name: str, address: str | None) -> None:
    assert address_of(foreign(name)) == address


@pytest.mark.parametrize(
    ("traits", "service"),
    [
        (("COMPUTE_MANAGED_PCI_DEVICE",), "Nova"),
        (("OWNER_NOVA",), "Nova"),
        (("OWNER_CYBORG",), "Cyborg"),
        ((), "Nova or Cyborg"),
    ],
)
def test_traits_tell_whose_it_is(traits: tuple[str, ...], service: str) -> None:
    provider = foreign("h_1.example.org_0000:81:00.0", *traits)
    (found,) = owned(TREE, [provider])
    assert found == Owned(GPU, service, provider.name)
    text = str(found)
    assert text.startswith(f"{GPU}: {service} reports it already (provider {provider.name})")
    assert "mode: ignore" in text


@pytest.mark.parametrize("address", [PF, VF])
def test_who_reports_a_pf_or_one_of_its_vfs_has_it_whole(address: str) -> None:
    (found,) = owned(TREE, [foreign(f"h_{address}")])
    assert found.address == PF


def test_two_owners_of_one_device_are_one_warning() -> None:
    assert len(owned(TREE, [foreign(f"h_{PF}"), foreign(f"h_{VF}")])) == 1


def test_what_offers_nothing_owns_nothing() -> None:
    assert owned(TREE, [foreign(f"h_{GPU}", "OWNER_NOVA", total=0)]) == []


def test_a_stale_one_does_not_hide_a_live_one() -> None:
    live = foreign("h_pci_0000_81_00_0")
    assert [each.provider for each in owned(TREE, [live, foreign(f"h_{GPU}", total=0)])] == [live.name]


@pytest.mark.parametrize("name", ["h", "h_0000:82:00.0", f"devagent:h_1.example.org:{GPU}", "h_NUMA_NODE_1"])
def test_others_own_nothing_of_this_host(name: str) -> None:
    assert owned(TREE, [foreign(name)]) == []


def test_what_is_owned_is_left_out_and_all_else_stays() -> None:
    left = without(TREE, owned(TREE, [foreign(f"h_{VF}")]))
    assert list(left.devices.values()) == [(GPU,)]
    assert [provider.name.rpartition("org:")[2] for provider in left.providers] == ["numa1", GPU, "numa0"]
    assert without(TREE, []) == TREE
