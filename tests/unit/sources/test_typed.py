# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a file holds becomes a dataclass again only if every type is right."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from devagent.inventory.default_policy import DEFAULT
from devagent.model.claim import Kind, Mode
from devagent.model.gpu import GpuFacts, MigFacts, MigProfile, NvmlGpu
from devagent.model.policy import Match, Policy, Prepare, Rule
from devagent.sources.typed import decode

GPU = NvmlGpu(
    "0000:3b:00.0",
    facts=GpuFacts(memory_mib=40960, mig=MigFacts(True, True, (MigProfile("1g.5gb", 4864, 7),))),
    failures=(("nvmlX", "Not Supported"),),
)


def test_what_was_written_is_read_again() -> None:
    assert decode(NvmlGpu, json.loads(json.dumps(asdict(GPU)))) == GPU


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 0])
def test_a_number_may_have_64_bits(number: int) -> None:
    assert decode(int, number) == number


@pytest.mark.parametrize(
    "raw", [2**63, -(2**63) - 1, 10**400, 16**5000, True, 1.0, "1", None, [], {}], ids=lambda raw: str(type(raw))
)
def test_what_is_no_number_of_64_bits(raw: Any) -> None:
    with pytest.raises(ValueError, match=r"^.{1,40} is (?:no int|too large a number)$"):
        decode(int, raw)
    with pytest.raises(ValueError, match="is"):
        decode(GpuFacts, {"memory_mib": raw} if raw is not None else {"memory_mib": ""})


@pytest.mark.parametrize("raw", [{"address": 1}, [], "x", {"address": "\ud800"}, {"address": "x", "failures": [["y"]]}])
def test_what_is_of_another_type(raw: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        decode(NvmlGpu, raw)


def test_a_policy_travels_as_json() -> None:
    """With enums, sets, and a bool that may be absent."""
    match = Match(kind=(Kind.NIC, Kind.GPU), vendor=("15b3",), numa_node=(0, 1), vfs=False)
    rules = (
        Rule("a", match, Mode.VF, traits=frozenset({"CUSTOM_B", "CUSTOM_A"}), vf_indexes=frozenset({3, 1}), vf_count=4),
        Rule("b", Match(), None, physical_network="physnet1"),
        Rule("c", Match(), Mode.VGPU, types=(("CUSTOM_A", "NVIDIA L40S-8Q"), ("VGPU", None))),
        Rule("d", Match(), Mode.WHOLE, prepare=Prepare("vfio-pci", True, "required", "nvme-format")),
    )
    for policy in (Policy(rules, "/etc/devices.yaml"), Policy((), ""), DEFAULT):
        assert decode(Policy, json.loads(json.dumps(asdict(policy), default=sorted))) == policy


@pytest.mark.parametrize("raw", ["VF", "", "wholes", 1, True, ["vf"]])
def test_what_is_no_member_of_an_enum(raw: Any) -> None:
    with pytest.raises(ValueError, match="is"):
        decode(Mode, raw)


@pytest.mark.parametrize("raw", [{"traits": "CUSTOM_A"}, {"traits": [1]}, {"vf_indexes": [True]}, {"mode": "x"}])
def test_what_is_no_rule(raw: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is"):
        decode(Rule, {"name": "a", "match": {}, "mode": None} | raw)
