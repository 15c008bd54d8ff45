# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent demo` on each generated host, in processes of their own: Placement is one per process."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from .conftest import HOSTILE, NAMES, Ran

Demos = dict[str, Future[Ran]]

NOTHING = "This host has none of what the example questions ask for."
QUESTIONS = (
    "* A whole GPU",
    "* Two GPUs of different models",
    "* One VF on each of two PFs",
    "* A GPU and a VF under one NUMA node",
)


@pytest.mark.parametrize("name", NAMES)
def test_demo_ends_well_and_asks_every_question(demos: Demos, name: str) -> None:
    ran = demos[name].result()
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"{name}.example.org · Linux ")
    assert [question for question in QUESTIONS if question not in ran.out] == []


def test_demo_of_a_host_with_gpus_answers_every_question(demos: Demos) -> None:
    out = demos["gpu8"].result().out
    answers = [line.strip() for line in out.splitlines() if line.startswith("  -> ")]
    assert [line.partition(",")[0] for line in answers] == [
        "-> 8 candidates",
        "-> 16 candidates",  # each of four A100s with each of four H100s
        "-> 12 candidates",  # ordered pairs of four PFs
        "-> 16 candidates",  # on each of two nodes, four GPUs and two PFs
    ]
    assert NOTHING not in out


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("gpu8", "hgx", "zoo")])
def test_demo_of_a_host_with_nothing_says_so_and_shows_a_generated_one(demos: Demos, name: str) -> None:
    own, _, example = demos[name].result().out.partition(NOTHING)
    assert "candidates" not in own.replace("allocation_candidates", "")
    assert "gpu8.example.org" in example
    assert example.count("candidates, for example:") == len(QUESTIONS)


def test_demo_shows_the_tree_as_placement_has_it(demos: Demos) -> None:
    lines = demos["fpga"].result().out.splitlines()
    assert "├── devagent:fpga.example.org:numa0" in lines
    assert "    ├── devagent:fpga.example.org:0000:b3:00.0  CUSTOM_FPGA_VF 1" in lines


def test_a_hostile_hostname_never_reaches_the_terminal(demos: Demos) -> None:
    ran = demos[HOSTILE].result()
    assert ran.code == 0
    assert "devagent:evil" in ran.out
    assert {char for char in ran.out + ran.err if char != "\n" and not char.isprintable()} == set()
