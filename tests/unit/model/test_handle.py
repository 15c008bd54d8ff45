# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Attach handles in the form that Nova and libvirt take."""

from __future__ import annotations

from devagent.model.handle import MdevHandle, PciHandle, as_json
from devagent.model.preparation import Holder

UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"


def test_a_pci_handle_has_its_address_in_the_parts_that_nova_reads() -> None:
    assert as_json(PciHandle("p", "SRIOV_NET_VF", "0000:3b:1f.7")) == {
        "type": "PCI",
        "provider": "p",
        "resource_class": "SRIOV_NET_VF",
        "address": "0000:3b:1f.7",
        "info": {"domain": "0000", "bus": "3b", "device": "1f", "function": "7"},
        "managed": False,
    }


def test_an_address_behind_vmd_keeps_its_wide_domain() -> None:
    assert as_json(PciHandle("p", "C", "10000:01:00.0"))["info"]["domain"] == "10000"


def test_an_mdev_handle_has_its_type_twice_since_nova_asks_for_it_by_another_name() -> None:
    document = as_json(MdevHandle("p", "CUSTOM_VGPU", UUID, "0000:3b:00.4", "nvidia-558"))
    assert (document["type"], document["uuid"], document["parent"]) == ("MDEV", UUID, "0000:3b:00.4")
    assert document["mdev_type"] == "nvidia-558"
    assert document["info"] == {
        "domain": "0000",
        "bus": "3b",
        "device": "00",
        "function": "4",
        "asked_type": "nvidia-558",
    }


def test_a_handle_has_one_holder_by_its_address_or_uuid_and_is_behind_one_function() -> None:
    function, mdev = PciHandle("p", "C", "0000:3b:00.2"), MdevHandle("p", "C", UUID, "0000:3b:00.4", "nvidia-558")
    assert (function.key, function.function) == ("0000:3b:00.2", "0000:3b:00.2")
    assert (mdev.key, mdev.function) == (UUID, "0000:3b:00.4")


def test_a_holder_says_all_that_is_known() -> None:
    assert str(Holder("c", 7, "qemu")) == "qemu (pid 7), consumer c"
    assert str(Holder("c")) == "consumer c"
    assert str(Holder(pid=7, command="nvidia-smi")) == "nvidia-smi (pid 7)"
