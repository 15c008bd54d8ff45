# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What discovery says is what the kernel says."""

from __future__ import annotations

from .cards import gpu
from .guest import Guest


def test_boot(guest: Guest) -> None:
    card = guest.plug(gpu(numa=1, vfs=16))
    print(guest.timeline.since())
    found = guest.discover()
    print(found.ran.out)
    assert found.devices[card]["numa_node"] == 1
