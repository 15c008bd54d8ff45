# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A vGPU type says by its name which MIG profile carries it."""

from __future__ import annotations

import pytest

from devagent.model.gpu import MigFacts, MigProfile
from devagent.model.mig import backing, profile_of

ONE = MigProfile("1g.10gb", 9856, 7)


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("NVIDIA H100-1-10C", "1g.10gb"),
        ("NVIDIA H100-1-10Q", "1g.10gb"),
        ("NVIDIA H100-1-10CME", "1g.10gb+me"),
        ("NVIDIA H200X-1-18C", "1g.18gb"),
        ("NVIDIA RTX Pro 6000 Blackwell DC-4-96Q", "4g.96gb"),
        ("NVIDIA H100-10C", None),
        ("NVIDIA L40S-48Q", None),
        ("GRID T4-8Q", None),
        ("NVIDIA A100-40C", None),
        ("NVIDIA H100-1-10C ", None),
        ("", None),
    ],
)
def test_the_name_of_a_type_says_its_profile(name: str, profile: str | None) -> None:
    assert profile_of(name) == profile


@pytest.mark.parametrize(("enabled", "pending"), [(True, False), (False, True), (False, False)])
def test_only_a_gpu_that_is_divided_now_backs_a_type(enabled: bool, pending: bool) -> None:
    assert backing("NVIDIA H100-1-10C", MigFacts(enabled, pending, (ONE,))) is None
    assert backing("NVIDIA H100-1-10C", MigFacts(True, True, (ONE,))) == ONE
    assert backing("NVIDIA H100-2-20C", MigFacts(True, True, (ONE,))) is None
    assert backing("NVIDIA H100-1-10C", None) is None
