# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Many notifications that wait in the broker go through the relay, each delete once: bench/relay.py, small."""

from __future__ import annotations

import pytest

from bench import nova_beside, relay

from . import broker

pytestmark = [
    pytest.mark.skipif(not broker.SERVER.exists(), reason=broker.MISSING),
    pytest.mark.skipif(not nova_beside.PYTHON.exists(), reason=nova_beside.MISSING),
]


def test_each_of_many_deletes_comes_to_its_host_once() -> None:
    assert relay.row("classic", 1200)
