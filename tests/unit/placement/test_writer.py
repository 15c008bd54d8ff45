# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""One provider becomes what it should be, whoever gets in between: what is tried again, and what is said where not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from devagent import errors
from devagent.model.provider import Inventory, Provider
from devagent.placement.patience import Patience
from devagent.placement.state import Memory
from devagent.placement.writer import NAME_TAKEN, Writer

ROOT, UID, OTHER = (f"{number}" * 8 + "-0000-4000-8000-000000000000" for number in (1, 2, 3))
GOLD = "CUSTOM_GOLD"
WANTED = Provider(UID, "devagent:h:0000:3b:00.0", ROOT, {"PGPU": Inventory(1)}, frozenset({GOLD}))


class Placement:
    """What Placement has, as the client shows it; `fails` are raised by the next writes, after `between` was called."""

    def __init__(self, *there: Provider) -> None:
        self.there = {each.uuid: each for each in there}
        self.fails: list[errors.PlacementError] = []
        self.between: Callable[[], Any] = lambda: None
        self.ensured: list[str] = []
        self.version = (1, 39)

    def _written(self, provider: Provider) -> int:
        if self.fails:
            self.between()
            raise self.fails.pop(0)
        generation = (provider.generation or 0) + 1
        self.there[provider.uuid] = replace(provider, generation=generation)
        return generation

    def create(self, provider: Provider) -> int:
        return self._written(replace(provider, inventories={}, traits=frozenset()))

    def update(self, provider: Provider) -> None:
        self._written(provider)

    def set_traits(self, uuid: str, generation: int, traits: Iterable[str]) -> int:
        return self._written(replace(self.there[uuid], traits=frozenset(traits)))

    def set_inventories(self, uuid: str, generation: int, inventories: Mapping[str, Inventory]) -> int:
        return self._written(replace(self.there[uuid], inventories=dict(inventories)))

    def ensure_traits(self, traits: Iterable[str]) -> None:
        self.ensured += traits

    def ensure_resource_class(self, name: str) -> None:
        self.ensured.append(name)

    def find(self, key: str) -> Provider | None:
        """Finds by UUID, as the reader does, or by name, as the client does."""
        return next((each for each in self.there.values() if key in (each.uuid, each.name)), None)


def writer(placement: Placement) -> Writer:
    of: Any = placement
    return Writer(of, Memory(ROOT), of, Patience(lambda _: None))


def test_a_trait_that_somebody_deleted_is_made_again_once() -> None:
    placement = Placement()
    own = writer(placement)
    own.memory.names = {GOLD, "CUSTOM_ANOTHER"}
    placement.fails = [errors.PlacementRejected("no such trait", status=400)]
    assert own.make(WANTED, None).traits == {GOLD}
    assert GOLD in placement.ensured
    placement.fails = [errors.PlacementRejected("no such trait", status=400)] * 2
    with pytest.raises(errors.PlacementRejected, match="no such trait"):
        own.make(replace(WANTED, uuid=OTHER), None)


def test_what_is_refused_for_another_reason_is_not_tried_again() -> None:
    placement = Placement()
    placement.fails = [errors.PlacementRejected("bad", status=400)]
    with pytest.raises(errors.PlacementRejected):
        writer(placement).make(WANTED, None)
    assert placement.ensured == []


def test_what_somebody_deleted_meanwhile_stays_so_where_it_is_not_to_be_made() -> None:
    actual = replace(WANTED, inventories={}, generation=4)
    placement = Placement(actual)
    placement.fails = [errors.PlacementConflict("gone", status=409)]
    placement.between = placement.there.clear
    found = writer(placement).make(WANTED, actual, create=False)
    assert (found.inventories, found.generation, placement.there) == ({}, None, {})


def test_who_has_the_name_is_told_and_one_that_nobody_has_is_tried_again() -> None:
    taken = errors.PlacementConflict("name", status=409, code=NAME_TAKEN)
    placement = Placement(replace(WANTED, uuid=OTHER, generation=1))
    placement.fails = [taken]
    with pytest.raises(errors.PlacementConflict, match=f"taken by the provider {OTHER} of another compute node"):
        writer(placement).make(WANTED, None)
    placement = Placement()
    placement.fails = [taken]
    assert writer(placement).make(WANTED, None).generation is not None


def test_an_old_placement_that_cannot_move_a_provider_is_named_with_what_to_do() -> None:
    actual = replace(WANTED, parent=OTHER, generation=4)
    placement = Placement(actual)
    placement.version = (1, 36)
    with pytest.raises(errors.PlacementRejected, match=r"only from microversion 1\.37 .*set \[inventory\] nest back"):
        writer(placement).make(WANTED, actual)
    assert placement.there[UID].parent == OTHER
    placement.version = (1, 37)
    assert writer(placement).make(WANTED, actual).parent == ROOT
