# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""An identity, once given, stays with its device: over reboots, renumbered buses, other drivers and newer kernels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from devagent.inventory.identity import Settled, agrees, first, settle, told
from devagent.model.claim import Claim
from devagent.model.gpu import GpuFacts
from devagent.model.identity import Identity
from devagent.model.known import Known
from devagent.model.pci import Function

from ..worlds import claim, function, managed, snapshot

HERE, THERE = "0000:3b:00.0", "0000:af:00.0"
TOPOLOGY = "pci0000:3a/01.0/00.0"


def gpu(uuid: str | None = "GPU-1", address: str = HERE, **more: Any) -> tuple[Function, Claim]:
    """Gives a GPU that tells a UUID, or none: it is on vfio-pci then."""
    one = function(address, driver="nvidia" if uuid else "vfio-pci", **more)
    facts = GpuFacts(uuid, memory_mib=81920 if uuid else None)
    return one, claim(one, gpu=facts, identities=(Identity("nvml", uuid),) if uuid else ())


def card(attributes: dict[str, str] | None = None, address: str = HERE, **more: Any) -> tuple[Function, Claim]:
    """Gives an accelerator that tells what PCI itself knows."""
    one = function(address, attributes=attributes or {}, **more)
    return one, claim(one)


def look(*devices: tuple[Function, Claim], known: tuple[Known, ...] = ()) -> Settled:
    functions = [each for each, _ in devices]
    return settle(replace(snapshot(*functions), known=known), {said.address: said for _, said in devices})


def test_the_strongest_that_a_device_tells_is_its_identity() -> None:
    serials = {"serials/dsn": "b8-59-9f-ff-ff-00-11-22", "serials/vpd": "MCX:MT1"}
    one, said = gpu()
    assert first(replace(one, attributes=serials), said) == Identity("nvml", "GPU-1")
    assert first(replace(one, attributes=serials)) == Identity("dsn", "b8-59-9f-ff-ff-00-11-22/0")
    assert first(replace(one, attributes={"serials/vpd": "MCX:MT1"})) == Identity("vpd", "MCX:MT1/0")
    assert first(one) == Identity("topology", TOPOLOGY)
    assert first(replace(one, root_bus=None)) == Identity("address", HERE)


def test_functions_of_one_card_share_its_serial_and_are_two_devices() -> None:
    ports = [card({"serials/dsn": "1"}, f"0000:3b:00.{number}") for number in (0, 1)]
    found = look(*ports)
    assert [each.value for each in found.identities.values()] == ["1/0", "1/1"]
    assert found.problems == ()


def test_a_gpu_on_vfio_pci_stays_what_it_was_and_keeps_what_was_known() -> None:
    before = look(gpu())
    after = look(gpu(None), known=before.known)
    assert after.identities == before.identities == {HERE: Identity("nvml", "GPU-1")}
    assert after.claims[HERE].gpu == GpuFacts("GPU-1", memory_mib=81920)
    assert after.known == before.known


def test_a_gpu_that_moved_to_another_slot_stays_what_it_was() -> None:
    before = look(gpu())
    after = look(gpu(address=THERE, pcie_path=("0000:ae:03.0",), root_bus="pci0000:ae"), known=before.known)
    assert after.identities == {THERE: Identity("nvml", "GPU-1")}
    (known,) = after.known
    assert known.topology == "pci0000:ae/03.0/00.0"


def test_another_card_of_the_same_model_in_the_same_slot_is_another_device() -> None:
    before = look(gpu())
    after = look(gpu("GPU-2"), known=before.known)
    assert after.identities == {HERE: Identity("nvml", "GPU-2")}
    assert [each.identity.value for each in after.known] == ["GPU-2", "GPU-1"]
    back = look(gpu(address=THERE, root_bus="pci0000:ae"), gpu("GPU-2"), known=after.known)
    assert back.identities == {THERE: Identity("nvml", "GPU-1"), HERE: Identity("nvml", "GPU-2")}


def test_another_model_in_the_same_slot_is_another_device() -> None:
    before = look(gpu())
    after = look(gpu(None, ids="10de:2331"), known=before.known)
    assert after.identities == {HERE: Identity("topology", TOPOLOGY)}


def test_the_same_chip_on_another_vendors_card_is_another_device() -> None:
    before = look(gpu(subsystem_vendor_id="10de", subsystem_device_id="1463"))
    for vendor, number in (("1028", "1463"), ("10de", "145f"), (None, None)):
        after = look(gpu(None, subsystem_vendor_id=vendor, subsystem_device_id=number), known=before.known)
        assert after.identities == {HERE: Identity("topology", TOPOLOGY)}


def test_the_ids_of_what_is_known_are_those_of_every_earlier_version() -> None:
    """They are kept in a file, and by them a device is found again after an upgrade."""
    named, bare = look(gpu(subsystem_vendor_id="10de", subsystem_device_id="1463")), look(gpu())
    assert [each.ids for each in (*named.known, *bare.known)] == ["10de:20f1:10de:1463", "10de:20f1::"]


def settled_by_place(uuid: str, **place: Any) -> Settled:
    """Gives what is known of a GPU that told its UUID only after its place had become its identity."""
    return look(gpu(uuid, **place), known=look(gpu(None, **place)).known)


def test_a_card_that_tells_its_number_is_that_card_though_one_that_told_none_stood_in_its_place() -> None:
    there: dict[str, Any] = {"address": THERE, "root_bus": "pci0000:ae"}
    known = (*look(gpu(None, **there)).known, *look(gpu("GPU-1")).known)
    assert look(gpu("GPU-1", **there), known=known).identities == {THERE: Identity("nvml", "GPU-1")}


def test_a_card_that_moved_is_found_beside_one_that_stayed() -> None:
    there: dict[str, Any] = {"address": THERE, "root_bus": "pci0000:ae"}
    known = (*look(gpu("GPU-1")).known, *settled_by_place("GPU-2", address="0000:3c:00.0").known)
    found = look(gpu("GPU-1"), gpu("GPU-2", **there), known=known)
    assert found.identities[THERE] == Identity("topology", TOPOLOGY)


def test_another_model_with_the_same_number_is_another_device() -> None:
    """Some vendors give all that they make one number."""
    known = look(card(FILLER), known=look(card()).known).known
    assert known[0].identity == Identity("topology", TOPOLOGY)
    other = look(card(FILLER, THERE, ids="10de:2331", root_bus="pci0000:ae"), known=known)
    assert other.identities == {THERE: Identity("dsn", f"{FILLER['serials/dsn']}/0")}


def test_a_look_that_does_not_tell_the_place_does_not_forget_it() -> None:
    before = look(gpu())
    blind = look(gpu(root_bus=None), known=before.known)
    assert look(gpu(None), known=blind.known).identities == {HERE: Identity("nvml", "GPU-1")}


def test_two_that_tell_neither_number_nor_place_are_two() -> None:
    before = look(card(root_bus=None))
    after = look(card(address=THERE, root_bus=None), known=before.known)
    assert after.identities == {THERE: Identity("address", THERE)}
    twins = look(gpu(root_bus=None), gpu(address=THERE, root_bus=None))
    assert [each.value for each in twins.identities.values()] == [f"GPU-1@{HERE}", f"GPU-1@{THERE}"]


def test_what_was_known_of_a_gpu_fills_only_what_it_does_not_tell_now() -> None:
    one = function()
    before = look((one, claim(one, gpu=GpuFacts("GPU-1", "1321", memory_mib=81920))))
    silent = look((one, claim(one, gpu=GpuFacts())), known=before.known)
    assert silent.claims[HERE].gpu == GpuFacts("GPU-1", "1321", memory_mib=81920)
    telling = look((one, claim(one, gpu=GpuFacts("GPU-2", "1322", memory_mib=0))), known=before.known)
    assert telling.claims[HERE].gpu == GpuFacts("GPU-2", "1322", memory_mib=0)
    for facts, known in ((None, before.known), (GpuFacts("GPU-1"), look(card()).known)):
        assert look((one, claim(one, gpu=facts)), known=known).claims[HERE].gpu == facts


def test_a_stronger_source_after_a_new_kernel_changes_nothing() -> None:
    before = look(card())
    after = look(card({"serials/dsn": "1"}), known=before.known)
    assert before.identities == after.identities == {HERE: Identity("topology", TOPOLOGY)}
    # From now on it is found by the serial number too, wherever it goes, and keeps the identity that it has.
    moved = look(card({"serials/dsn": "1"}, THERE, root_bus="pci0000:ae"), known=after.known)
    assert moved.identities == {THERE: Identity("topology", TOPOLOGY)}


def test_renumbered_buses_change_nothing() -> None:
    before = look(card(), card(address="0000:3c:00.0", pcie_path=("0000:3a:02.0",)))
    after = look(
        card(address="0000:4b:00.0", pcie_path=("0000:3a:01.0",)),
        card(address="0000:4c:00.0", pcie_path=("0000:3a:02.0",)),
        known=before.known,
    )
    assert list(after.identities.values()) == list(before.identities.values())
    assert first(function(), None) == before.identities[HERE]


def test_duplicates_are_told_apart_and_named() -> None:
    twin = gpu(address=THERE, pcie_path=("0000:ae:03.0",), root_bus="pci0000:ae")
    found = look(gpu(), twin)
    assert found.identities == {
        HERE: Identity("nvml", f"GPU-1@{TOPOLOGY}"),
        THERE: Identity("nvml", "GPU-1@pci0000:ae/03.0/00.0"),
    }
    assert {each.source for each in found.problems} == {"identity"}
    assert [(each.device, each.problem) for each in found.problems] == [
        (HERE, f"has the same nvml GPU-1 as {THERE}; told apart by its place"),
        (THERE, f"has the same nvml GPU-1 as {HERE}; told apart by its place"),
    ]


def test_a_twin_that_comes_later_does_not_change_the_first() -> None:
    before = look(gpu())
    twin = gpu(address=THERE, pcie_path=("0000:ae:03.0",), root_bus="pci0000:ae")
    for order in ((gpu(), twin), (twin, gpu())):
        found = look(*order, known=before.known)
        assert found.identities[HERE] == Identity("nvml", "GPU-1")
        assert found.identities[THERE] == Identity("nvml", "GPU-1@pci0000:ae/03.0/00.0")


def test_duplicates_stay_apart_in_later_looks() -> None:
    twin = gpu(address=THERE, pcie_path=("0000:ae:03.0",), root_bus="pci0000:ae")
    before = look(gpu(), twin)
    after = look(twin, gpu(), known=before.known)
    assert after.identities == before.identities


def test_what_is_away_is_remembered() -> None:
    before = look(gpu(), gpu("GPU-2", THERE, root_bus="pci0000:ae"))
    without = look(gpu(), known=before.known)
    assert {each.identity.value for each in without.known} == {"GPU-1", "GPU-2"}
    assert len(look(known=tuple(replace(each) for each in without.known * 1000)).known) == 1024


def test_a_device_tells_its_numbers_strongest_first_and_never_its_place() -> None:
    one, said = gpu(attributes={"serials/vpd": "MCX:MT1", "serials/dsn": "1", "serials/other": "2"})
    assert list(told(managed(one, claim=said)).items()) == [("nvml", "GPU-1"), ("dsn", "1/0"), ("vpd", "MCX:MT1/0")]
    assert told(managed(function())) == {}


@pytest.mark.parametrize(
    ("path", "text", "number"),
    [
        ("nvme/nvme0/serial", " S64GNE0R500123      ", "S64GNE0R500123"),
        ("nvme/nvme12/serial", "0001", "0001"),
        ("nvme/nvme0/serial", "X0", "X0"),
        ("nvme/nvme0/serial", "  ", None),
        ("nvme/nvme0/serial", "00000000000000000000", None),
        ("nvme/nvme0/model", "S64GNE0R500123", None),
        ("nvme/nvme0/serial/x", "S64GNE0R500123", None),
    ],
)
def test_an_nvme_drive_that_no_driver_claims_tells_its_serial_number(path: str, text: str, number: str | None) -> None:
    assert told(managed(function(attributes={path: text}))) == ({} if number is None else {"nvme": number})


def test_of_an_nvme_drive_the_drivers_word_counts() -> None:
    one = function(attributes={"nvme/nvme0/serial": "S1"})
    assert told(managed(one, claim=claim(one, identities=(Identity("nvme", "S2"),)))) == {"nvme": "S2"}


@pytest.mark.parametrize(
    ("before", "now", "same"),
    [
        ({"nvml": "a", "dsn": "1"}, {"nvml": "a", "dsn": "2"}, True),
        ({"nvml": "a", "dsn": "1"}, {"nvml": "b", "dsn": "1"}, False),
        ({"dsn": "1"}, {"nvml": "a", "dsn": "1"}, True),
        ({"nvml": "a"}, {"dsn": "1"}, None),
        ({}, {}, None),
    ],
)
def test_the_strongest_number_that_both_looks_have_says_whether_it_is_the_same_device(
    before: dict[str, str], now: dict[str, str], same: bool | None
) -> None:
    assert agrees(before, now) is same


PLACES = (HERE, "0000:3c:00.0", "0000:3d:00.0")


def placed(uuid: str, place: int, *, told: bool) -> tuple[Function, Claim]:
    one, said = gpu(uuid if told else None, PLACES[place], pcie_path=(f"0000:3a:0{place}.0",))
    return one, said


# The third comes to where the first was told apart from it, and the first goes to where it had been.
COMING_BACK: list[tuple[list[int], tuple[bool, bool, bool]]] = [
    ([0, 1, 2], (False, False, False)),
    ([0, 1, 2], (False, False, True)),
    ([0, 2, 1], (False, False, True)),
    ([2, 1, 0], (True, False, False)),
    ([0, 1, 2], (True, False, False)),
]


@example(COMING_BACK)
@given(st.lists(st.tuples(st.permutations([0, 1, 2]), st.tuples(*[st.booleans()] * 3)), max_size=6))
def test_no_two_devices_ever_have_one_identity(moves: list[tuple[list[int], tuple[bool, bool, bool]]]) -> None:
    """Three equal cards change places, and drivers that tell their UUID or do not."""
    known: tuple[Known, ...] = ()
    for places, telling in moves:
        cards = zip(("GPU-1", "GPU-2", "GPU-3"), places, telling, strict=True)
        found = look(*(placed(uuid, place, told=tells) for uuid, place, tells in cards), known=known)
        assert len(set(found.identities.values())) == 3
        known = found.known


FILLER = {"serials/dsn": "00-00-00-00-00-00-00-01"}  # of a vendor who numbers no card


def numbered(uuid: str, address: str = HERE, **more: Any) -> tuple[Function, Claim]:
    one, said = gpu(uuid, address, **more)
    return replace(one, attributes=FILLER), said


def test_a_weaker_number_that_is_equal_does_not_outweigh_a_stronger_one_that_is_not() -> None:
    there: dict[str, Any] = {"root_bus": "pci0000:ae", "pcie_path": ("0000:ae:03.0",)}
    before = look(numbered("GPU-A"), numbered("GPU-B", THERE, **there))
    swapped = look(numbered("GPU-B"), numbered("GPU-A", THERE, **there), known=before.known)
    assert swapped.identities == {HERE: Identity("nvml", "GPU-B"), THERE: Identity("nvml", "GPU-A")}
    replaced = look(numbered("GPU-C"), numbered("GPU-B", THERE, **there), known=before.known)
    assert replaced.identities[HERE] == Identity("nvml", "GPU-C")


def test_two_that_a_damaged_file_calls_the_same_are_told_apart() -> None:
    places: dict[str, Any] = {"root_bus": "pci0000:ae", "pcie_path": ("0000:ae:03.0",)}
    before = look(card(), card(address=THERE, **places))
    same = tuple(replace(each, identity=Identity("dsn", "1")) for each in before.known)
    found = look(card(), card(address=THERE, **places), known=same)
    assert len(set(found.identities.values())) == 2
    assert [each.device for each in found.problems] == [THERE]


def test_one_card_that_shows_itself_twice_in_one_place_is_told_apart_all_the_same() -> None:
    place: dict[str, Any] = {"root_bus": "pci0000:3a", "pcie_path": ("0000:3a:01.0",)}
    cards = [card({"serials/dsn": "1"}, address, **place) for address in ("0000:3b:00.0", "0000:3c:00.0")]
    assert len({function.topology for function, _ in cards}) == 1
    assert len(set(look(*cards).identities.values())) == 2


def test_who_was_told_apart_at_a_place_keeps_that_name_though_another_would_get_it_there() -> None:
    at: list[dict[str, Any]] = [
        {"address": f"0000:3{n}:00.0", "root_bus": "pci0000:3a", "pcie_path": (f"0000:3a:0{n}.0",)} for n in (1, 2, 3)
    ]
    cards = [card(**place) for place in at]
    one, two, three = look(*cards).known
    names = ("1", "1", f"1@{two.topology}")
    known = tuple(replace(e, identity=Identity("dsn", n)) for e, n in zip((one, two, three), names, strict=True))
    assert [each.value for each in look(*cards, known=known).identities.values()] == [
        "1",
        f"1@{two.topology}@{two.topology}",
        f"1@{two.topology}",
    ]
