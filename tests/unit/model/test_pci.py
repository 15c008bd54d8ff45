# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""PCI addresses and functions."""

from __future__ import annotations

import pytest

from devagent.model.pci import Link, is_address, routed

from ..worlds import function


@pytest.mark.parametrize("text", ["0000:3b:00.1", "ffff:ff:1f.7", "10000:01:00.0", "abcd1234:00:00.0"])
def test_the_kernels_spelling_is_an_address(text: str) -> None:
    assert is_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3b:00.1",
        "0000:3B:00.1",
        "0000:3b:00.8",
        "0000:3b:20.0",
        "0000:3b:00",
        "000:3b:00.0",
        "123456789:3b:00.0",
        "0000:3b:00.0\n",
        " 0000:3b:00.0",
        "pci0000:3b",
        "0000_3b_00_0",
        "\u0660000:3b:00.0",
    ],
)
def test_any_other_spelling_is_none(text: str) -> None:
    assert not is_address(text)


@pytest.mark.parametrize(("class_code", "bridge"), [("060400", True), ("068000", True), ("030200", False)])
def test_a_bridge_is_known_by_its_base_class(class_code: str, bridge: bool) -> None:
    assert function(class_code=class_code).is_bridge is bridge


def test_functions_of_one_slot_share_it() -> None:
    assert function("0000:3b:00.0").slot == function("0000:3b:00.7").slot == "0000:3b:00"
    assert function("0000:3b:01.0").slot != "0000:3b:00"


def test_the_names_below_a_directory_are_those_of_which_something_was_read() -> None:
    files = {"net/ens2/address": "", "net/ens1/address": "", "net/ens1/mtu": "", "network/x/y": "", "net": ""}
    assert function(attributes=files).names("net") == ("ens1", "ens2")
    assert function(attributes=files).names("none") == ()


@pytest.mark.parametrize(
    ("further", "there"),
    [
        (0, "0000:3b:00.0"),
        (7, "0000:3b:00.7"),
        (8, "0000:3b:01.0"),
        (0xFF, "0000:3b:1f.7"),
        (0x100, "0000:3c:00.0"),
        (0x1AB, "0000:3c:15.3"),
    ],
)
def test_a_vf_is_so_many_routing_ids_behind_its_pf(further: int, there: str) -> None:
    assert routed("0000:3b:00.0", further) == there


def test_routing_ids_are_counted_from_the_pf_and_keep_a_wide_domain() -> None:
    assert routed("10000:01:1f.6", 3) == "10000:02:00.1"


def test_the_reset_methods_stand_in_the_kernels_order() -> None:
    assert function(attributes={"reset_method": "flr bus"}).reset_methods == ("flr", "bus")
    assert function().reset_methods == function(attributes={"reset_method": ""}).reset_methods == ()


@pytest.mark.parametrize(
    ("files", "link"),
    [
        ({"current_link_speed": "16.0 GT/s PCIe", "max_link_speed": "32.0 GT/s PCIe"}, Link(16.0, None, 32.0, None)),
        ({"current_link_speed": "8 GT/s", "current_link_width": "8"}, Link(8.0, 8)),
        ({"max_link_width": "32", "current_link_speed": "Unknown"}, Link(max_width=32)),
        ({"current_link_width": "0", "max_link_width": "255"}, None),
        ({"current_link_width": "63", "max_link_width": "33"}, None),
        ({}, None),
    ],
)
def test_of_a_link_is_known_what_it_says_in_numbers_that_a_link_can_have(
    files: dict[str, str], link: Link | None
) -> None:
    assert function(attributes=files).link == link
