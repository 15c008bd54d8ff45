# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""docs/flavors.md: the query of each flavor, and Placement's answer to each query, are what the document shows."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from devagent.inventory import policy_file
from devagent.inventory.build import Nest
from devagent.inventory.default_policy import DEFAULT
from devagent.model.policy import Policy

from .cloud import Cloud
from .conftest import REPOSITORY
from .flavors import answer, blocks, flavors, query, read, sections, written

DOCUMENT = REPOSITORY / "docs/flavors.md"
GPU8 = ("gpu8", "", Nest.NUMA)
ELSEWHERE = {
    "A GPU and a VF under one NUMA node": ("gpu8", "numa", Nest.NUMA),
    "A GPU and a NIC under one PCIe switch, by query": ("hgx", "", Nest.PCIE),
    "Only what is in perfect health": ("hgx", "", Nest.PCIE),
}
"""Host, recipe of the cookbook and nesting of the sections that are about another than gpu8."""

Asked = Callable[[str, str, Nest], Cloud]
SECTIONS = {title: text for title, text in sections(DOCUMENT.read_text()).items() if "/allocation_candidates?" in text}


def answers(text: str) -> list[tuple[str, str]]:
    """Gives each query of a section, as it stands there, and its answer."""
    parts = [block.partition("\n") for block in blocks(text, "text")]
    return [(query, said.rstrip("\n")) for query, _, said in parts]


@pytest.fixture(scope="module")
def asked(placement: str, hosts: dict[str, Path]) -> Asked:
    """Reports a host as a compute node of its own, once; it has CPUs and memory, as Nova reports them."""

    @cache
    def cloud(host: str, recipe: str, nest: Nest) -> Cloud:
        made = Cloud(placement, str(uuid.uuid4()), f"{host}-{uuid.uuid4().hex[:12]}.example.org")
        made.create(made.name, None, made.root)
        made.set(made.root, {"VCPU": 128, "MEMORY_MB": 1 << 20})
        made.call("PUT", "/traits/CUSTOM_DEVAGENT_SUSPECT")
        assert made.report(made.want(hosts[host], _policy(recipe), nest)).failures == {}
        return made

    return cloud


def _policy(recipe: str) -> Policy:
    return policy_file.read(REPOSITORY / f"examples/policy/{recipe}.yaml") if recipe else DEFAULT


@pytest.mark.parametrize("title", SECTIONS)
def test_placement_answers_what_the_document_shows(asked: Asked, title: str) -> None:
    host, recipe, nest = ELSEWHERE.get(title, GPU8)
    cloud = asked(host, recipe, nest)
    for line, said in answers(SECTIONS[title]):
        question = read(line.replace("COMPUTE_NODE", cloud.root))
        assert answer(cloud, question, f"{host}.example.org") == said, line


@pytest.mark.parametrize("title", SECTIONS)
def test_the_query_of_a_flavor_is_the_one_that_stands_below_it(title: str) -> None:
    of_flavors = [written(query(extra_specs)) for extra_specs in flavors(SECTIONS[title]).values()]
    told = [line for line, _ in answers(SECTIONS[title])]
    assert told
    assert of_flavors in (told, []), "a section has flavors with their queries, or queries alone"


def test_each_other_world_is_of_a_section() -> None:
    assert set(SECTIONS) >= set(ELSEWHERE)
