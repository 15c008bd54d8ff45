# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What every driver keeps to, whatever it is shown."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devagent.driver import Driver
from devagent.model.claim import Claim
from devagent.model.pci import Function, Sriov
from devagent.registry import load

from ..custom_names import is_custom

os_resource_classes = pytest.importorskip("os_resource_classes")

DRIVERS = load().drivers
# Files that touch config space, wake the device or wait for its lock.
SLOW = re.compile(r"sriov_numvfs|config|vpd|serial_number|(current|max)_link_|resource\d|.*_bus_number|sriov_vf_total")

HEX = st.sampled_from(
    ["10de", "1002", "8086", "15b3", "1172", "10ee", "20f1", "4940", "37c8", "0b30", "bcce", "ffff"]
) | st.sampled_from(["1da3", "1060", "17cb", "1e52", "1022", "144d", "5004", "5005", "d004", "0bd5", "56c0", "74a1"])
# What files say, in part; and what none should.
TEXT = st.text(max_size=40) | st.sampled_from(
    ["1", "0x1", "f" * 32, "9" * 40, "down", "write error", "CPX", "Disabled"]
)
FUNCTIONS = st.builds(
    Function,
    address=st.just("0000:3b:00.0"),
    vendor_id=HEX,
    device_id=HEX,
    class_code=st.sampled_from(["030000", "030200", "120000", "0b4000", "020000", "010802", "ff0000"]),
    subsystem_device_id=st.none() | HEX,
    driver=st.none() | st.sampled_from(["dfl-pci", "vfio-pci", "amdgpu", "gim", "xe", "xclmgmt"]),
    mdev_parent=st.booleans(),
    sriov=st.none() | st.builds(Sriov, st.integers(0, 64), st.none() | HEX),
)


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.name)
def test_a_driver_reads_only_what_is_answered_from_memory(driver: Driver) -> None:
    for pattern in driver.reads:
        assert not SLOW.fullmatch(pattern.rpartition("/")[2]), pattern
        assert ".." not in pattern.split("/"), pattern
        assert not pattern.startswith("/"), pattern


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.name)
@given(function=FUNCTIONS, data=st.data())
def test_a_driver_makes_a_proper_claim_of_whatever_it_recognises(
    driver: Driver, function: Function, data: st.DataObject
) -> None:
    names = [pattern.replace("*", "0") for pattern in (*driver.reads, *driver.asks)]
    files = data.draw(st.dictionaries(st.sampled_from(names), TEXT)) if names else {}
    function = replace(function, attributes=files)
    claim = driver.claim(function) if driver.recognises(function) else None
    if claim is not None:
        check(claim, driver, function)


def check(claim: Claim, driver: Driver, function: Function) -> None:
    assert (claim.driver, claim.address, claim.failure) == (driver.name, function.address, None)
    assert claim.vendor
    assert claim.model
    assert not claim.offers.keys() & claim.refusals.keys()
    assert all(name and text and text.isprintable() for name, text in claim.facts)
    assert len(dict(claim.facts)) == len(claim.facts)
    assert all(identity.value.isprintable() for identity in claim.identities)
    for name in claim.offers.values():
        assert is_custom(name) or name in os_resource_classes.STANDARDS
    for trait in claim.traits:
        assert is_custom(trait) or trait.startswith("HW_")
        assert not trait.startswith("CUSTOM_DEVAGENT")
