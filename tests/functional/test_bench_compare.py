# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""bench.compare where there is no peer: what cannot be measured has no number."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from bench import compare, cyborg_beside, nova_beside
from bench.compare_table import UNMEASURED
from bench.reporters import STEPS, Devices


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Takes the peers' environments away."""
    for peer in (nova_beside, cyborg_beside):
        monkeypatch.setattr(peer, "PYTHON", tmp_path / "none")


def test_a_peer_that_is_not_there_is_not_measured() -> None:
    rows = list(compare.reports(Namespace(devices=Devices(1, 2), rounds=1)))
    assert {(row.nova, row.cyborg) for row in rows} == {(UNMEASURED, UNMEASURED)}
    # 3 providers, 5 new traits: 2 each, 1 per trait, and 4 more; then a listing, and a PUT for what changed.
    assert [row.devagent.split(" / ")[0] for row in rows] == ["15", "1", "1", "1", "2"]
    assert len(rows) == len(STEPS)


def test_the_headings_say_no_version_of_a_peer_that_is_not_there() -> None:
    assert compare.heads() == ("devagent", "Nova's PCI tracking", "Cyborg")
