# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a host does without devices.yaml, and that the shipped file says the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from devagent.inventory import policy_file
from devagent.inventory.default_policy import DEFAULT
from devagent.model.claim import Kind

from ..worlds import claim, decide, function, pf, snapshot

SAMPLE = Path(__file__).parents[3] / "etc/devagent/devices.yaml"


def test_the_shipped_file_holds_the_built_in_rules() -> None:
    assert policy_file.parse(SAMPLE.read_text(encoding="utf-8"), "devices.yaml").rules == DEFAULT.rules


def test_the_examples_in_the_shipped_file_are_right() -> None:
    commented = SAMPLE.read_text(encoding="utf-8").partition("# More of what a rule can say:\n")[2]
    examples = "".join(line[1:] + "\n" for line in commented.splitlines())
    found = policy_file.parse(f"schema_version: 1\nrules:\n{examples}", "devices.yaml")
    assert [rule.name for rule in found.rules] == [
        "a100",
        "tenant-network",
        "scratch-disks",
        "t4",
        "l40s",
        "l4",
    ]


@pytest.mark.parametrize("kind", [Kind.GPU, Kind.FPGA, Kind.ACCELERATOR])
def test_accelerators_are_given_whole(kind: Kind) -> None:
    found = decide(snapshot(function()), *DEFAULT.rules, claims=[claim(function(), kind)])
    assert found["0000:3b:00.0"].decision.managed


@pytest.mark.parametrize("kind", [Kind.NIC, Kind.NVME, Kind.QAT, Kind.OTHER])
def test_what_the_host_may_need_is_not_given(kind: Kind) -> None:
    found = decide(snapshot(function()), *DEFAULT.rules, claims=[claim(function(), kind)])
    assert found["0000:3b:00.0"].decision.reason == "no rule matches"


@pytest.mark.parametrize("kind", [Kind.NIC, Kind.QAT, Kind.FPGA])
def test_vfs_that_exist_are_given_whatever_the_pf_is(kind: Kind) -> None:
    head, *vfs = pf(3)
    found = decide(snapshot(head, *vfs), *DEFAULT.rules, claims=[claim(head, kind)])
    assert (found[head.address].decision.rule, found[head.address].decision.total) == ("default-vfs", 3)


def test_a_pf_without_vfs_stays_with_the_host() -> None:
    found = decide(snapshot(*pf(0)), *DEFAULT.rules, claims=[claim(pf(0)[0], Kind.NIC)])
    assert not found["0000:3b:00.0"].decision.managed
