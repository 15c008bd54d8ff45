# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is said of Cyborg beside devagent: its own conductor, from PyPI, on a real Placement."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import cyborg_beside, placement, reporters
from bench.beside import Peer
from devagent.model.provider import Provider
from devagent.placement import embedded

pytestmark = pytest.mark.skipif(not cyborg_beside.PYTHON.exists(), reason=cyborg_beside.MISSING)


@pytest.fixture(scope="module")
def cyborg() -> Iterator[Peer]:
    with cyborg_beside.running() as running:
        yield running


def test_the_same_devices_cost_a_provider_and_nine_requests_per_vf(cyborg: Peer, tmp_path: Path) -> None:
    devices = reporters.Devices(1, 4)
    ours, cyborgs = reporters.Devagent(devices, tmp_path), reporters.ByCyborg(devices, cyborg)
    costs = placement.run([ours, cyborgs], devices, rounds=1)
    counts = {step: [cost.requests for cost in by[cyborgs.name]] for step, by in costs.items()}
    # The compute node by name, the one new trait, 9 for each of 4 VFs; of 2 VFs that go a listing and a DELETE each.
    assert counts == {
        reporters.FIRST: [1 + 1 + 9 * 4],
        reporters.AGAIN: [1],
        reporters.OLD: [],
        reporters.RESTART: [1],
        reporters.CHANGE: [1 + 2 * 2],
    }


def test_its_one_request_at_rest_does_not_find_what_somebody_took_away(cyborg: Peer) -> None:
    assert cyborg.call("forget").raised is None
    with placement.placement() as url:
        operator = embedded.client(url)
        root = Provider(str(uuid.uuid4()), reporters.HOST, None)
        operator.create(root)
        assert cyborg.call("connect", url=url).raised is None
        vfs = {"0000:01:00.0": ["0000:01:10.0"]}
        assert cyborg.call("report", host=reporters.HOST, pfs=vfs).raised is None
        [child] = operator.tree(root.uuid).keys() - {root.uuid}
        operator.delete(child)
        again = cyborg.call("report", host=reporters.HOST, pfs=vfs)
        assert (again.raised, len(again.requests)) == (None, 1)
        assert operator.tree(root.uuid).keys() == {root.uuid}
