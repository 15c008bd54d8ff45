# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""PCI addresses and functions."""

from __future__ import annotations

import pytest

from devagent.model.pci import is_address

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
