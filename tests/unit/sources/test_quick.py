# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is made quickly is the same as what is made by its class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass, field, replace

import pytest

from devagent.model.pci import Function
from devagent.sources.quick import maker

IDS = ("10de", "20f1", "030200")


@dataclass(frozen=True, slots=True)
class Thing:
    name: str
    count: int = 1
    parts: Mapping[str, str] = field(default_factory=dict)

    @property
    def twice(self) -> int:
        return 2 * self.count


def test_it_is_equal_and_of_the_same_class() -> None:
    made, own = maker(Thing)("a", count=2), Thing("a", 2)
    assert type(made) is Thing
    assert (made, hash(made.name), repr(made), made.twice) == (own, hash(own.name), repr(own), 4)
    assert replace(made, count=3) == Thing("a", 3)


def test_it_is_frozen() -> None:
    made = maker(Thing)("a")
    with pytest.raises(FrozenInstanceError):
        made.name = "b"  # type: ignore[misc]


def test_defaults_are_each_ones_own() -> None:
    make = maker(Thing)
    assert make("a").parts is not make("b").parts
    assert make("a") == Thing("a")
    with pytest.raises(TypeError):
        make()


def test_a_function_can_be_made_so() -> None:
    make = maker(Function)
    assert make("0000:3b:00.0", *IDS, physfn="0000:3b:00.1") == Function("0000:3b:00.0", *IDS, physfn="0000:3b:00.1")
    assert make("0000:3b:00.0", *IDS).is_bridge is False
