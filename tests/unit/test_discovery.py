# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""One look at a host, from sysfs to devices."""

from __future__ import annotations

from pathlib import Path

import pytest
from hosts.generate import generate

from devagent.model.claim import Kind
from devagent.model.policy import Policy

from .worlds import described, look, port, rule

UNKNOWN = {"id": "abcd:0001", "class": "ff0000", "driver": "odd"}
GPU = {"id": "10de:20f1", "class": "030200", "driver": "nvidia"}


@pytest.fixture
def host(tmp_path: Path) -> Path:
    return generate(described(port(GPU), port(UNKNOWN)), tmp_path / "h")


def test_what_nobody_knows_or_wants_is_left_out(host: Path) -> None:
    assert [device.address for device in look(host).devices] == ["0000:3b:00.0"]


def test_every_function_is_shown_with_its_details_on_request(host: Path) -> None:
    _, unknown = look(host, every=True).devices
    assert (unknown.address, unknown.claim.kind) == ("0000:3c:00.0", Kind.OTHER)
    assert (unknown.function.numa_node, unknown.function.root_bus) == (0, "pci0000:3a")
    assert unknown.function.attributes == {"reset_method": "flr bus"}
    assert unknown.decision.reason == "no rule matches"


def test_what_a_rule_wants_has_its_details(host: Path) -> None:
    (_, unknown) = look(host, Policy((rule(vendor=("abcd",)),), "test")).devices
    assert unknown.decision.managed
    assert unknown.function.pcie_path == ("0000:3a:01.0",)
    assert unknown.identity.source == "topology"


def test_two_looks_at_the_same_host_see_the_same(host: Path) -> None:
    assert look(host) == look(host)
