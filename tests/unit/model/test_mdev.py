# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Mediated devices: of a function, of its VFs, and of a broken tree."""

from __future__ import annotations

import pytest

from devagent.model.claim import MdevFacts, MdevType
from devagent.model.mdev import mdev_facts

TYPE = "mdev_supported_types/nvidia-558"
UUID, OTHER = "4b20d080-1b54-4048-85b3-a6a62d165c01", "5b20d080-1b54-4048-85b3-a6a62d165c01"


def test_a_parent_tells_its_types_and_devices() -> None:
    facts = mdev_facts(
        {
            f"{TYPE}/name": "NVIDIA A40-8Q",
            f"{TYPE}/device_api": "vfio-pci",
            f"{TYPE}/available_instances": "5",
            f"{TYPE}/description": "num_heads=4",
            f"{TYPE}/devices/{UUID}/uevent": "",
            "net/eth0/address": "00:00:00:00:00:00",
        }
    )
    types = (MdevType("nvidia-558", "NVIDIA A40-8Q", "vfio-pci", 5, "num_heads=4"),)
    assert facts == MdevFacts(types, ((UUID, "nvidia-558"),))


def test_vfs_are_added_up() -> None:
    attributes = {f"virtfn{index}/{TYPE}/name": "Q" for index in range(3)}
    attributes |= {f"virtfn{index}/{TYPE}/available_instances": text for index, text in enumerate(("1", "0", "1"))}
    attributes |= {f"virtfn1/{TYPE}/devices/{UUID}/uevent": "", f"virtfn0/{TYPE}/devices/{OTHER}/uevent": ""}
    devices = ((UUID, "nvidia-558"), (OTHER, "nvidia-558"))
    assert mdev_facts(attributes) == MdevFacts((MdevType("nvidia-558", "Q", None, 2),), devices)


def test_a_vf_that_does_not_say_leaves_the_sum_unknown() -> None:
    attributes = {f"virtfn{index}/{TYPE}/name": "Q" for index in range(2)}
    facts = mdev_facts(attributes | {f"virtfn0/{TYPE}/available_instances": "1"})
    assert facts == MdevFacts((MdevType("nvidia-558", "Q"),))


@pytest.mark.parametrize("text", ["", "-1", "many", "9" * 40, "1.5"])
def test_what_is_no_number_is_unknown(text: str) -> None:
    facts = mdev_facts({f"{TYPE}/name": "", f"{TYPE}/available_instances": text})
    assert facts == MdevFacts((MdevType("nvidia-558", "nvidia-558"),))


def test_what_has_no_uuid_is_no_device() -> None:
    facts = mdev_facts({f"{TYPE}/name": "Q", f"{TYPE}/devices/power/uevent": "", f"{TYPE}/devices/x": ""})
    assert facts is not None
    assert facts.devices == ()


@pytest.mark.parametrize("attributes", [{}, {"mdev_supported_types": ""}, {f"x/{TYPE}/name": "Q"}])
def test_what_makes_none_has_no_facts(attributes: dict[str, str]) -> None:
    assert mdev_facts(attributes) is None
