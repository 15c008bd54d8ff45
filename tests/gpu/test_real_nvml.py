# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""On a host with NVIDIA GPUs: what we say of each is what pynvml says when it is asked directly."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from devagent.model.gpu import NvmlGpu
from devagent.sources import nvml
from devagent.sources.apart import Outcome, look_apart
from devagent.sources.host import Directory

from .nvml_itself import directly

pytestmark = pytest.mark.gpu


@cache
def asked() -> Outcome:
    with Directory(Path("/"), machine=True) as tree:
        return look_apart(tree, [nvml.look(directly())])[nvml.SOURCE]


def test_every_gpu_answers() -> None:
    assert directly().keys() == asked().answers.keys()
    assert asked().failures == {}


def test_every_gpu_says_what_pynvml_says() -> None:
    for address, facts in directly().items():
        answer = asked().answers[address]
        assert isinstance(answer, NvmlGpu)
        assert (answer.facts.uuid, answer.name) == (facts["uuid"], facts["name"])
        assert (answer.facts.memory_mib, answer.driver_version) == (facts["memory_mib"], facts["driver"])
        mig, errors = answer.facts.mig, answer.facts.errors
        assert ([int(mig.enabled), int(mig.pending)] if mig else None) == facts["mig"]
        assert (errors.ecc if errors else None) == facts["ecc"]


def test_nothing_fails_but_what_the_library_lacks_or_only_root_may_see() -> None:
    for answer in asked().answers.values():
        assert not answer.lost
        assert {why for _, why in answer.failures} <= {"not in this library", "Insufficient Permissions"}


def test_no_link_leads_to_itself() -> None:
    for address, answer in asked().answers.items():
        assert all(link.count > 0 and link.peer != address for link in answer.facts.links)
