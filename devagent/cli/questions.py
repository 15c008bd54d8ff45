# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The demo's questions: what a scheduler asks Placement for a flavor, and the answer in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from devagent.model.provider import Provider, ProviderTree
from devagent.placement.client import PlacementClient

GPU: Final = "PGPU"
VF: Final = "SRIOV_NET_VF"
_SHOWN: Final = 1000  # candidates asked for at most: the number says enough


@dataclass(frozen=True, slots=True)
class Question:
    """What is wanted in words, and as the query of GET /allocation_candidates; an empty query cannot be asked."""

    words: str
    query: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The lines to print, and whether there was a candidate."""

    lines: tuple[str, ...]
    found: bool


def about(tree: ProviderTree) -> Iterator[Question]:
    """Gives the questions; models are taken from the tree itself, as an operator takes them for flavors."""
    here = ("in_tree", tree.root)
    yield Question("A whole GPU", (("resources_GPU", f"{GPU}:1"), _on("GPU", here)))
    yield Question("Two GPUs of different models", _two_models(tree, here))
    yield Question(
        "One VF on each of two PFs",
        (
            ("resources_VF1", f"{VF}:1"),
            ("resources_VF2", f"{VF}:1"),
            _on("VF1", here),
            _on("VF2", here),
            ("group_policy", "isolate"),
        ),
    )
    yield Question(
        "A GPU and a VF under one NUMA node",
        (
            ("resources_GPU", f"{GPU}:1"),
            ("resources_VF", f"{VF}:1"),
            # A group without resources: GPU and VF are siblings, and have no common ancestor without it.
            ("required_NUMA", "HW_NUMA_ROOT"),
            ("same_subtree", "_NUMA,_GPU,_VF"),
            _on("GPU", here),
            _on("VF", here),
            ("group_policy", "none"),
        ),
    )


def ask(client: PlacementClient, question: Question, providers: Mapping[str, Provider]) -> Answer:
    """Asks Placement; `providers` give the answer its names. Raises PlacementError."""
    heading = f"* {question.words}"
    if not question.query:
        return Answer((heading, "  not asked: this host has no two such models"), False)
    query = urlencode((*question.query, ("limit", str(_SHOWN))), safe=":,_!")
    candidates = client.allocation_candidates(query)["allocation_requests"]
    shown = "&".join(f"{key}={value}" for key, value in question.query if not key.startswith("in_tree"))
    lines = [heading, f"  GET /allocation_candidates?{shown}"]
    if not candidates:
        return Answer((*lines, "  -> no candidate"), False)
    more = "+" if len(candidates) == _SHOWN else ""
    lines.append(f"  -> {len(candidates)}{more} candidate{'s' if len(candidates) != 1 else ''}, for example:")
    # Placement gives them in any order; the first by name is the same each time.
    example = min(list(_example(candidate, providers)) for candidate in candidates)
    return Answer((*lines, *example), True)


def _on(group: str, here: tuple[str, str]) -> tuple[str, str]:
    """Confines one group to this host, as Nova does when it is told which host to take."""
    return f"{here[0]}_{group}", here[1]


def _two_models(tree: ProviderTree, here: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    """Asks for two of the tree's own models, by the trait of vendor and device id that each GPU has."""
    models = sorted(
        {
            trait
            for p in tree.providers
            if GPU in p.inventories
            for trait in p.traits
            if trait.startswith("CUSTOM_PRODUCT_")
        }
    )
    if len(models) < 2:
        return ()
    return (
        ("resources_GPU1", f"{GPU}:1"),
        ("required_GPU1", models[0]),
        ("resources_GPU2", f"{GPU}:1"),
        ("required_GPU2", models[-1]),
        _on("GPU1", here),
        _on("GPU2", here),
        ("group_policy", "isolate"),
    )


def _example(candidate: Mapping[str, Any], providers: Mapping[str, Provider]) -> Iterator[str]:
    for group, uuids in sorted(candidate["mappings"].items()):
        for uuid in uuids:
            resources = candidate["allocations"].get(uuid, {}).get("resources", {})
            amount = ", ".join(f"{name}:{count}" for name, count in sorted(resources.items()))
            yield f"     {group.removeprefix('_')}: {providers[uuid].name}{f'  {amount}' if amount else ''}"
