# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Custom names as Placement takes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devagent.model.custom import custom, pci_class

from ..custom_names import is_custom


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("MODEL", "A100 80GB"), "CUSTOM_MODEL_A100_80GB"),
        (("model", "A16 / A2"), "CUSTOM_MODEL_A16_A2"),
        (("VENDOR", "SK hynix"), "CUSTOM_VENDOR_SK_HYNIX"),
        (("A", "--b--"), "CUSTOM_A_B"),
        (("stra\u00dfe",), "CUSTOM_STRASSE"),
    ],
)
def test_text_becomes_a_name(parts: tuple[str, ...], name: str) -> None:
    assert custom(*parts) == name


def test_a_name_is_cut_to_what_placement_takes() -> None:
    assert custom("A" * 300) == "CUSTOM_" + "A" * 248


def test_a_class_of_ids_is_told_by_both() -> None:
    assert pci_class("10de", "20f1") == "CUSTOM_PCI_10DE_20F1"


@given(st.lists(st.text(max_size=300), max_size=3))
def test_any_text_with_a_first_word_becomes_a_well_formed_name(parts: list[str]) -> None:
    name = custom("X", *parts)
    assert is_custom(name)
    assert name.startswith("CUSTOM_X")
