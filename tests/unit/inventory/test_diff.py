# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The changes that make Placement equal to the desired tree, in an order in which they can be made."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devagent.inventory.diff import Action, Change, diff, same_inventories
from devagent.model.provider import Inventory, Provider, ProviderTree

ROOT = str(uuid.UUID(int=0))


def provider(number: int, parent: str | None = ROOT, **more: object) -> Provider:
    values = {"inventories": {"PGPU": Inventory(1, max_unit=1)}, "traits": frozenset({"CUSTOM_DEVAGENT"})} | more
    return Provider(str(uuid.UUID(int=number)), f"devagent:h:{number}", parent, **values)  # type: ignore[arg-type]


def placement(*providers: Provider) -> dict[str, Provider]:
    """Gives what Placement has, with generations."""
    return {each.uuid: replace(each, generation=5) for each in providers}


def changes(desired: Iterable[Provider], actual: Mapping[str, Provider]) -> list[tuple[str, str]]:
    found = diff(ProviderTree(ROOT, tuple(desired)), actual)
    return [(change.action.value, change.after.name) for change in found]


def applied(found: Iterable[Change], actual: Mapping[str, Provider]) -> dict[str, Provider]:
    """Does to a copy of `actual` what the changes say, as Placement would; parents must be there already."""
    result = dict(actual)
    for change in found:
        assert (change.before is None) == (change.after.uuid not in result)
        assert change.after.parent in result or change.after.parent == ROOT
        result[change.after.uuid] = replace(change.after, generation=(change.after.generation or 0) + 1)
    return result


def content(providers: Iterable[Provider]) -> dict[str, Provider]:
    return {each.uuid: replace(each, generation=None) for each in providers}


def test_equal_trees_need_nothing() -> None:
    assert diff(ProviderTree(ROOT, (provider(1), provider(2))), placement(provider(2), provider(1))) == ()


def test_creations_and_updates_come_parents_first_and_the_gone_last() -> None:
    node = provider(1, inventories={})
    wanted = [node, provider(2, node.uuid), provider(3, node.uuid, traits=frozenset())]
    assert changes(wanted, placement(provider(9), provider(3, node.uuid))) == [
        ("+", "devagent:h:1"),
        ("+", "devagent:h:2"),
        ("~", "devagent:h:3"),
        ("-", "devagent:h:9"),
    ]


def test_what_is_gone_is_emptied_and_kept() -> None:
    gone = provider(9)
    (change,) = diff(ProviderTree(ROOT), placement(gone))
    assert change.action is Action.RETIRE
    assert change.after == replace(gone, inventories={}, generation=5)
    assert change.sets_inventories
    assert not change.moves
    assert not change.sets_traits


def test_what_is_gone_and_empty_needs_nothing() -> None:
    assert changes([], placement(provider(9, inventories={}))) == []


@pytest.mark.parametrize("name", ["h", "h_0000:3b:00.0", "devagent-h", "Devagent:h:1"])
def test_providers_of_others_are_left_alone(name: str) -> None:
    assert changes([], placement(replace(provider(9), name=name))) == []


@pytest.mark.parametrize(
    ("before", "flags"),
    [
        ({"traits": frozenset()}, (False, True, False)),
        ({"inventories": {}}, (False, False, True)),
        ({"inventories": {"PGPU": Inventory(1, reserved=1, max_unit=1)}}, (False, False, True)),
        ({"inventories": {"FPGA": Inventory(1, max_unit=1)}}, (False, False, True)),
        ({"parent": str(uuid.UUID(int=7))}, (True, False, False)),
    ],
)
def test_an_update_says_what_it_sets(before: dict[str, object], flags: tuple[bool, bool, bool]) -> None:
    wanted = provider(1)
    (change,) = diff(ProviderTree(ROOT, (wanted,)), placement(provider(1, **before)))  # type: ignore[arg-type]
    assert (change.moves, change.sets_traits, change.sets_inventories) == flags
    assert change.after == replace(wanted, generation=5)


def test_a_new_name_moves_the_provider() -> None:
    (change,) = diff(ProviderTree(ROOT, (provider(1),)), placement(replace(provider(1), name="devagent:h:old")))
    assert change.action is Action.UPDATE
    assert change.moves


def test_a_creation_sets_what_there_is_to_set() -> None:
    (bare,) = diff(ProviderTree(ROOT, (provider(1, inventories={}, traits=frozenset()),)), {})
    assert (bare.before, bare.moves, bare.sets_traits, bare.sets_inventories) == (None, False, False, False)
    (full,) = diff(ProviderTree(ROOT, (provider(1),)), {})
    assert (full.moves, full.sets_traits, full.sets_inventories) == (False, True, True)


def test_placements_defaults_are_the_same_as_nothing_said() -> None:
    as_returned = Inventory(total=1, reserved=0, min_unit=1, max_unit=2147483647, step_size=1, allocation_ratio=1.0)
    assert same_inventories({"PGPU": Inventory(1)}, {"PGPU": as_returned})


def test_a_ratio_is_compared_as_a_database_keeps_it() -> None:
    def ratio(value: float) -> dict[str, Inventory]:
        return {"PGPU": Inventory(1, allocation_ratio=value)}

    assert same_inventories(ratio(0.123456789), ratio(0.123457))
    assert not same_inventories(ratio(0.12345), ratio(0.12346))
    assert not same_inventories(ratio(1.0), ratio(1.5))


INVENTORIES = st.dictionaries(
    st.sampled_from(["PGPU", "FPGA", "CUSTOM_X"]),
    st.builds(
        Inventory,
        total=st.integers(1, 4),
        reserved=st.integers(0, 1),
        max_unit=st.integers(1, 4),
        allocation_ratio=st.sampled_from([1.0, 1.5, 16.0]),
    ),
    max_size=2,
)
TRAITS = st.frozensets(st.sampled_from(["CUSTOM_DEVAGENT", "HW_NUMA_ROOT", "CUSTOM_GOLD"]))


@st.composite
def trees(draw: st.DrawFn) -> tuple[Provider, ...]:
    """Draws a tree of up to six of eight providers, each below the root or one before it."""
    chosen: list[Provider] = []
    for number in draw(st.lists(st.integers(1, 8), unique=True, max_size=6)):
        parent = draw(st.sampled_from([ROOT, *(each.uuid for each in chosen)]))
        name = f"devagent:h:{number}{draw(st.sampled_from(['', 'x']))}"
        drawn = provider(number, parent, inventories=draw(INVENTORIES), traits=draw(TRAITS))
        chosen.append(replace(drawn, name=name))
    return tuple(chosen)


@given(wanted=trees(), had=trees(), foreign=st.booleans())
def test_the_changes_make_placement_what_is_wanted(
    wanted: tuple[Provider, ...], had: tuple[Provider, ...], foreign: bool
) -> None:
    desired = ProviderTree(ROOT, wanted)
    nova = replace(provider(99), name="h_0000:3b:00.0")
    actual = placement(*had, *([nova] if foreign else []))
    made = applied(diff(desired, actual), actual)

    assert diff(desired, made) == ()
    now = content(made.values())
    assert {uid: now[uid] for uid in desired.by_uuid()} == content(wanted)
    left = {uid: each for uid, each in now.items() if uid not in desired.by_uuid()}
    assert left.keys() == actual.keys() - desired.by_uuid().keys()
    assert not [each for each in left.values() if each.is_ours and each.inventories]
    if foreign:
        assert left[nova.uuid] == nova


def test_a_device_that_only_got_the_address_of_one_that_is_gone_does_not_take_over() -> None:
    """The card at X was pulled out while in use, and the buses were numbered anew: its neighbour is at X now."""
    pulled = replace(provider(1, inventories={"PGPU": Inventory(1)}, generation=3), name="devagent:h:x")
    neighbour = replace(provider(2, inventories={"PGPU": Inventory(1)}, generation=4), name="devagent:h:y")
    moved = replace(neighbour, name="devagent:h:x", generation=None)
    changes = diff(ProviderTree(ROOT, (moved,)), placement(pulled, neighbour))
    assert [(change.action, change.after.uuid) for change in changes] == [
        (Action.UPDATE, neighbour.uuid),
        (Action.RETIRE, pulled.uuid),
    ]


FULL, EMPTY = {"PGPU": Inventory(1, max_unit=1)}, dict[str, Inventory]()


def successor(**more: object) -> Provider:
    """Gives the provider of another card in the place of provider 1: the name is the same, the UUID is not."""
    return replace(provider(2, **more), name=provider(1).name)  # type: ignore[arg-type]


def renamed(of: Provider) -> Provider:
    """Gives a provider after another took its name over."""
    return replace(of, name=of.former_name)


def actions(desired: ProviderTree, actual: Mapping[str, Provider]) -> list[tuple[Action, str]]:
    """Gives what happens to whom; who takes over is named, not who is replaced."""
    return [(change.action, change.after.uuid) for change in diff(desired, actual)]


def test_another_card_in_the_same_place_takes_over_from_the_one_that_is_gone() -> None:
    actual = placement(provider(1))
    (change,) = diff(ProviderTree(ROOT, (successor(),)), actual)
    assert change == Change(Action.REPLACE, actual[provider(1).uuid], successor())


def test_who_has_the_name_is_replaced_though_nothing_is_left_of_it() -> None:
    """Placement has each name once: what was emptied before must give it up first."""
    actual = placement(provider(1, inventories=EMPTY))
    assert actions(ProviderTree(ROOT, (successor(),)), actual) == [(Action.REPLACE, successor().uuid)]


def test_who_lost_the_name_and_has_nothing_left_stands_in_nobodys_way() -> None:
    actual = placement(renamed(provider(1, inventories=EMPTY)))
    assert actions(ProviderTree(ROOT, (successor(),)), actual) == [(Action.CREATE, successor().uuid)]


@pytest.mark.parametrize("there", [None, EMPTY], ids=["before the successor was made", "before it was filled"])
def test_a_take_over_that_was_cut_off_is_taken_up_again(there: dict[str, Inventory] | None) -> None:
    old, made = renamed(provider(1)), [] if there is None else [successor(inventories=there)]
    assert actions(ProviderTree(ROOT, (successor(),)), placement(old, *made)) == [(Action.REPLACE, successor().uuid)]


@pytest.mark.parametrize("more", [{}, {"traits": frozenset({"CUSTOM_OLD"})}], ids=["complete", "to be changed"])
def test_of_a_take_over_whose_successor_is_filled_only_the_former_is_left_to_empty(more: dict[str, object]) -> None:
    old, updated = renamed(provider(1)), [(Action.UPDATE, successor().uuid)] if more else []
    found = actions(ProviderTree(ROOT, (successor(),)), placement(old, successor(**more)))
    assert found == [*updated, (Action.RETIRE, old.uuid)]


def test_a_device_known_before_that_had_nothing_to_give_does_not_take_over_who_has_its_new_name() -> None:
    known = provider(2, inventories=EMPTY)
    found = actions(ProviderTree(ROOT, (successor(),)), placement(provider(1), known))
    assert found == [(Action.UPDATE, known.uuid), (Action.RETIRE, provider(1).uuid)]


def test_a_card_that_is_back_in_its_place_gets_its_name_back_and_replaces_only_its_successor() -> None:
    back, gone = provider(1), successor()
    actual = placement(gone, renamed(provider(1, inventories=EMPTY)))
    (change, retired) = diff(ProviderTree(ROOT, (back,)), actual)
    assert (change.action, change.before, change.moves) == (Action.UPDATE, actual[back.uuid], True)
    assert (retired.action, retired.after.uuid) == (Action.RETIRE, gone.uuid)


@pytest.mark.parametrize(
    ("kept", "partial", "retired"),
    [(frozenset(), False, True), (frozenset({provider(9).name}), False, False), (frozenset(), True, False)],
    ids=["gone", "unknown", "not seen"],
)
def test_only_what_is_known_to_be_gone_is_emptied(kept: frozenset[str], partial: bool, retired: bool) -> None:
    found = actions(ProviderTree(ROOT, kept=kept, partial=partial), placement(provider(9)))
    assert found == ([(Action.RETIRE, provider(9).uuid)] if retired else [])


def test_a_parent_that_could_not_be_read_stays_as_it_is() -> None:
    node = provider(7, inventories=EMPTY)
    wanted = provider(1, traits=frozenset(), undetermined=frozenset({"parent"}))
    (change,) = diff(ProviderTree(ROOT, (node, wanted)), placement(node, provider(1, node.uuid)))
    assert change.after == replace(provider(1, node.uuid, traits=frozenset()), generation=5)
    assert not change.moves


def test_what_is_created_is_all_that_is_known_and_leaves_nothing_undetermined() -> None:
    (change,) = diff(ProviderTree(ROOT, (provider(1, undetermined=frozenset({"parent", "traits"})),)), {})
    assert change.after == provider(1)


def test_a_sick_device_says_so_though_nothing_else_of_its_traits_is_known() -> None:
    there = provider(1, traits=frozenset({"CUSTOM_DEVAGENT", "CUSTOM_MODEL_A", "CUSTOM_DEVAGENT_SUSPECT"}))
    wanted = provider(
        1,
        traits=frozenset({"CUSTOM_DEVAGENT", "CUSTOM_DEVAGENT_LOST", "CUSTOM_MODEL_B"}),
        undetermined=frozenset({"traits"}),
    )
    (change,) = diff(ProviderTree(ROOT, (wanted,)), placement(there))
    assert change.after.traits == {"CUSTOM_DEVAGENT", "CUSTOM_MODEL_A", "CUSTOM_DEVAGENT_LOST"}
