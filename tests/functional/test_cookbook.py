# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""docs/cookbook.md: each recipe is a file, which the document quotes, and gives in the real Placement what it says."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hosts.generate import generate

from devagent.inventory import policy_file

from .cloud import Cloud
from .conftest import HOSTS, REPOSITORY, Devagent
from .flavors import blocks, candidates, flavors, query, sections, shown

DOCUMENT = REPOSITORY / "docs/cookbook.md"
POLICIES = REPOSITORY / "examples/policy"
LICENCE = "# SPDX-FileCopyrightText: The devagent authors\n# SPDX-License-Identifier: Apache-2.0\n"

GIVEN: dict[str, dict[str, str]] = {
    "nvidia-whole": {"gpu8": "19:00.0 1a:00.0 3d:00.0 3e:00.0 88:00.0 89:00.0 b1:00.0 b2:00.0"},
    "nvidia-mdev": {"mixed": "43:00.0 44:00.0"},
    "nvidia-vgpu": {"mixed": "81:00.0"},
    "nvidia-mig": {"mixed": "82:00.0"},
    "amd": {"zoo": "11:00.0 12:00.0", "mixed": "83:00.0"},
    "intel-gpu": {"zoo": "81:00.0 82:00.0"},
    "nic": {"gpu8": "1b:00.0 1b:00.1 8a:00.0 8a:00.1"},
    "qat": {"qat": "6b:00.0 e8:00.0"},
    "nvme": {"mixed": "03:00.0 04:00.0", "zoo": "83:00.0"},
    "fpga": {"fpga": "19:00.0", "zoo": "84:00.1"},
    "scrub": {"mixed": "03:00.0 04:00.0 42:00.0 43:00.0"},
    "numa": {"gpu8": "19:00.0 1a:00.0 1b:00.0 1b:00.1 3d:00.0 3e:00.0 88:00.0 89:00.0 8a:00.0 8a:00.1 b1:00.0 b2:00.0"},
    "beside-nova": {"mixed": "42:00.0"},
    "beside-cyborg": {"zoo": "00:0b.0", "gpu8": ""},
}
"""What has an inventory on each host that a recipe is shown on, and nothing else has."""

Reported = Callable[[str, str], Cloud]
Placed = Callable[[str, str], dict[str, dict[str, Any]]]
Tree = Callable[[str], Path]


def recipes() -> dict[str, str]:
    """Gives the section of each recipe by the name of its file."""
    found = {}
    for text in sections(DOCUMENT.read_text()).values():
        for name in re.findall(r"\(\.\./examples/policy/([a-z-]+)\.yaml\)", text):
            assert name not in found, f"{name} has two sections"
            found[name] = text
    return found


RECIPES = recipes()


@pytest.fixture(scope="module")
def tree(hosts: dict[str, Path], memory: Path) -> Tree:
    """Writes a described host, once."""
    return cache(lambda host: hosts[host] if host in hosts else generate(HOSTS / f"{host}.yaml", memory / host))


@pytest.fixture(scope="module")
def reported(placement: str, tree: Tree) -> Reported:
    """Reports a host by a recipe's policy, once, as a compute node of its own."""

    @cache
    def cloud(recipe: str, host: str) -> Cloud:
        made = Cloud(placement, str(uuid.uuid4()), f"{host}-{uuid.uuid4().hex[:12]}.example.org")
        made.create(made.name, None, made.root)
        report = made.report(made.want(tree(host), policy_file.read(POLICIES / f"{recipe}.yaml")))
        assert report.failures == {}
        return made

    return cloud


@pytest.fixture(scope="module")
def placed(reported: Reported) -> Placed:
    """Gives what Placement has of each device after that, by its address without the domain."""

    @cache
    def devices(recipe: str, host: str) -> dict[str, dict[str, Any]]:
        named = ((name.partition(":0000:")[2], one) for name, one in reported(recipe, host).tree().items())
        return {address: one for address, one in named if address}

    return devices


def test_every_recipe_is_described_and_tested() -> None:
    files = {path.stem for path in POLICIES.glob("*.yaml")}
    assert files == set(RECIPES) == set(GIVEN)


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_the_document_quotes_the_file(recipe: str) -> None:
    text = (POLICIES / f"{recipe}.yaml").read_text()
    assert text.startswith(LICENCE)
    assert blocks(RECIPES[recipe], "yaml") == [text.removeprefix(LICENCE)]


@pytest.mark.parametrize(("recipe", "host"), [(recipe, host) for recipe, on in GIVEN.items() for host in on])
def test_a_recipe_gives_what_it_is_for_and_nothing_else(placed: Placed, recipe: str, host: str) -> None:
    found = placed(recipe, host)
    assert [address for address, one in sorted(found.items()) if one["inventories"]] == GIVEN[recipe][host].split()


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_the_document_shows_what_placement_has(placed: Placed, recipe: str) -> None:
    [block] = blocks(RECIPES[recipe], "text")
    told = re.split(r"\n(?=devagent:)", block.rstrip("\n"))
    for each in told:
        match = re.match(r"devagent:(\w+)\.example\.org:0000:(\S+)", each)
        assert match is not None, each
        host, address = match.groups()
        assert each == shown(f"devagent:{host}.example.org:0000:{address}", placed(recipe, host)[address])


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_each_flavor_of_a_recipe_finds_a_device(reported: Reported, recipe: str) -> None:
    for name, extra_specs in flavors(RECIPES[recipe]).items():
        found = [host for host in GIVEN[recipe] if candidates(reported(recipe, host), query(extra_specs))]
        assert found, f"{name} finds nothing on {', '.join(GIVEN[recipe])}"


def test_discover_says_of_what_is_novas_whose_it_is(tree: Tree, devagent: Devagent) -> None:
    lines = re.findall(r"^0000:.*$", RECIPES["beside-nova"], re.MULTILINE)
    ran = devagent("discover", "-o", "tree", "--root", tree("mixed"), "--policy", POLICIES / "beside-nova.yaml")
    assert len(lines) == 2
    assert [line for line in lines if line not in ran.out] == []
