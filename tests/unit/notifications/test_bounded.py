# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is remembered does not grow without end, and the oldest is forgotten first."""

from __future__ import annotations

from devagent.notifications.bounded import Bounded


def test_the_oldest_is_forgotten_and_what_is_set_again_is_new() -> None:
    found: Bounded[str, int] = Bounded(2)
    for name, value in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        found.set(name, value)
    assert found.items() == [("a", 3), ("c", 4)]
    assert (len(found), "b" in found, found.get("b")) == (2, False, None)
    found.pop("a")
    found.pop("a")
    assert found.items() == [("c", 4)]
