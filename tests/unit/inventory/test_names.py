# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Devices are called what the system's pci.ids calls them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devagent.inventory.names import named

from ..worlds import claim, function, snapshot


def called(ids: str, names: tuple[str, str] | None) -> tuple[str, str]:
    """Gives vendor and model of a device of which the driver says `V` and `M`, and pci.ids `names`."""
    one = function(ids=ids)
    seen = replace(snapshot(one), names={} if names is None else {ids: names})
    said = named({one.address: claim(one)}, seen)[one.address]
    return said.vendor, said.model


def test_a_device_has_the_name_in_brackets_by_which_people_call_it() -> None:
    assert called("10de:20f1", ("NVIDIA Corporation", "GA100 [A100 PCIe 40GB]")) == ("NVIDIA", "A100 PCIe 40GB")


@pytest.mark.parametrize("name", ["Ethernet Controller E810-C", "[AMD/ATI] Navi 31", "GA100 []"])
def test_a_name_that_does_not_end_in_brackets_is_taken_whole(name: str) -> None:
    assert called("abcd:0001", ("Vendor Inc", name)) == ("Vendor Inc", name)


def test_what_pci_ids_has_no_name_for_keeps_the_drivers() -> None:
    assert called("abcd:0001", None) == ("V", "M")
    assert called("abcd:0001", ("", "")) == ("V", "M")
    assert called("10de:20f1", ("", "")) == ("NVIDIA", "M")
