# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The outputs for people, on hosts that are plain, empty, troubled and hostile."""

from __future__ import annotations

import unicodedata
from importlib import import_module

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from devagent.cli.render import explain, json, matrix, table, tree, wide, words
from devagent.cli.render.printable import padded, printable, width
from devagent.model.gpu import GpuFacts, MigFacts, MigInstance
from devagent.model.pci import Link
from devagent.model.policy import Policy
from devagent.view import Look

from ..worlds import rule
from .pictures import HOSTILE, gpu, look, nic, troubled

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
FORMS = ("tree", "table", "wide", "matrix")


def rendered(form: str, seen: Look) -> str:
    text: str = import_module(f"devagent.cli.render.{form}").render(seen)
    return text


@pytest.mark.parametrize("form", FORMS)
def test_no_name_can_move_the_cursor(form: str) -> None:
    text = rendered(form, troubled())
    assert all(line.isprintable() for line in text.split("\n"))
    assert "\N{REPLACEMENT CHARACTER}[2J" in text


@pytest.mark.parametrize("form", FORMS)
def test_problems_and_what_only_root_would_see_stand_at_the_end(form: str) -> None:
    text = rendered(form, troubled())
    assert "Problems (2), everything else was read:" in text
    assert "  host: the host is odd [pci]" in text.split("\n")
    assert text.split("\n")[-1] == "  only root may see users"


@pytest.mark.parametrize("form", FORMS)
def test_a_host_without_devices_says_so(form: str) -> None:
    assert "no GPU, FPGA, accelerator or SR-IOV PF was found" in rendered(form, look())


@pytest.mark.parametrize("form", ("table", "wide"))
def test_lines_of_a_table_are_equally_wide_whatever_stands_in_them(form: str) -> None:
    drawn = [line for line in rendered(form, troubled()).split("\n") if line[:1] in ("|", "+")]
    assert len({width(line) for line in drawn}) == 1


def test_tree_keeps_one_line_for_each_device_and_adds_only_what_is_out_of_the_ordinary() -> None:
    lines = tree.render(troubled()).split("\n")
    assert [line for line in lines if "0000:42:00.0" in line] == [
        next(line for line in lines if line.endswith("=> PGPU 1  · vGPU 3 active  · suspect: 8 of 16 lanes"))
    ]
    (dead,) = (line for line in lines if "0000:43:00.0" in line and "├" in line + "├" and "gpu" in line)
    assert "· in use by qemu-system-x86 (pid 4711), instance-0000001a" in dead
    assert dead.endswith("· lost: fell off the bus")
    plain = tree.render(look(gpu())).split("\n")[-1]
    assert plain.endswith("=> PGPU 1")


def test_vfs_are_told_apart_by_who_has_them() -> None:
    lines = [line.partition("VF ")[2] for line in tree.render(troubled()).split("\n") if "─ VF " in line]
    assert lines == [
        "0-1  0000:3b:01.0 to 0000:3b:01.1  no driver qemu-system-x86 (pid 4711), instance-0000001a, "
        "5e1fd3c1-1f6f-4ab0-9c21-9a2f0b1e8c77",
        "2  0000:3b:01.2  no driver",
        "3  0000:3b:01.3  no driver default route (ens1)",
    ]


def test_wide_says_everything_that_is_known() -> None:
    seen = troubled()
    heads, *rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in wide.render(seen).split("\n")
        if line.startswith("| ") and "evil" not in line
    ]
    by_address = {row[0]: dict(zip(heads, row, strict=True)) for row in rows}
    one = by_address["0000:41:00.0"]
    assert (one["Memory"], one["Health"], one["Details"]) == ("40 GiB", "healthy", "MIG 1g.5gb, 3g.20gb")
    vfs = by_address["0000:3b:00.0"]
    assert vfs["Details"] == "eswitch switchdev with 4 representors"
    assert vfs["In use by"].startswith("VF 3: default route (ens1); VF 0-1: qemu-system-x86 (pid 4711)")


@pytest.mark.parametrize(
    ("link", "text"),
    [
        (None, ""),
        (Link(16.0, 16, 16.0, 16), "16GT/s x16"),
        (Link(16.0, 8, 32.0, 16), "16GT/s x8 of 32GT/s x16"),
        (Link(2.5, 1, None, None), "2.5GT/s x1 of ?"),
        (Link(None, None, 8.0, 4), "? of 8GT/s x4"),
        (Link(None, 4, 8.0, 4), "?GT/s x4 of 8GT/s x4"),
    ],
)
def test_a_link_is_told_as_it_is_and_at_its_best(link: Link | None, text: str) -> None:
    assert words.link(link) == text


@pytest.mark.parametrize(("mib", "text"), [(None, ""), (512, "512 MiB"), (40960, "40 GiB"), (81559, "79.65 GiB")])
def test_memory_is_told_in_gibibytes(mib: int | None, text: str) -> None:
    assert words.memory(mib) == text


def test_mig_is_told_as_it_is_and_as_it_will_be() -> None:
    made = tuple(MigInstance(number, "1g.5gb", number, 1) for number in range(3))
    assert words.partitions(GpuFacts(mig=MigFacts(True, True, (), made))) == {"MIG": "1g.5gb x3"}
    assert words.partitions(GpuFacts(mig=MigFacts(True, True))) == {"MIG": "on, no instance"}
    assert words.partitions(GpuFacts(mig=MigFacts(False, True))) == {"MIG": "on after a reset"}
    assert words.partitions(GpuFacts(mig=MigFacts(True, False))) == {"MIG": "off after a reset"}
    assert words.partitions(GpuFacts(mig=MigFacts(False, False))) == {}


def test_matrix_names_each_kind_by_itself_and_knows_no_more_than_the_host() -> None:
    seen = look(nic(), gpu("0000:41:00.0"), gpu("0000:42:00.0", root_bus=None), node_cpus=((0, "0-31"),))
    lines = [line.split() for line in matrix.render(seen).split("\n")]
    assert lines[0] == ["GPU0", "GPU1", "NIC0", "CPU", "affinity", "NUMA", "node"]
    assert lines[1] == ["GPU0", "X", "?", "PIX", "0-31", "0"]
    assert lines[2] == ["GPU1", "?", "X", "?", "0-31", "0"]
    assert ["NIC0", "0000:3b:00.0", "Mellanox", "ConnectX", "(ens1)"] in lines


def test_matrix_shows_unknown_cpus_and_nodes_as_unknown() -> None:
    seen = look(gpu(numa_node=None), gpu("0000:41:00.0", numa_node=1))
    lines = [line.split() for line in matrix.render(seen).split("\n")]
    assert lines[1][-2:] == ["?", "?"]
    assert lines[2][-2:] == ["?", "1"]


@pytest.mark.parametrize("seen", [look(), look(gpu(), nic()), troubled()], ids=["empty", "plain", "troubled"])
def test_yaml_is_the_document_of_json(seen: Look) -> None:
    text = import_module("devagent.cli.render.yaml").render(seen)
    assert text.isascii()
    # YAML has no lone surrogates.
    from_json = import_module("json").loads(json.render(seen).replace("\\ud800", "\\ufffd"))
    assert yaml.safe_load(text) == yaml.load(text, Loader=LOADER) == from_json
    assert not any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text))


def test_an_explanation_goes_through_the_rules_in_order() -> None:
    rules = (rule(name="nics", vendor=("8086",)), rule(name=HOSTILE), rule(name="late"))
    lines = explain.section([gpu()], Policy(rules, "devices.yaml"))
    assert lines[:5] == [
        "",
        "Why, by the 3 rules of the policy (devices.yaml):",
        "",
        "0000:3b:00.0  gpu  NVIDIA A100",
        "  rule nics does not fit: vendor: is 10de, wanted 8086",
    ]
    assert lines[5] == printable(f"  rule {HOSTILE} fits: mode whole")
    assert lines[6:] == [
        "  1 more rule after it: not tried",
        "  driver fake offers vf as CUSTOM_VF, whole as PGPU",
        "  => PGPU 1: given whole",
    ]
    assert explain.section([], Policy(rules, "devices.yaml")) == []


@given(st.text())
def test_printable_text_stays_on_its_line(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    assert len(shown.splitlines()) <= 1
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Cn", "Zl", "Zp") for char in shown)


@pytest.mark.parametrize(("text", "columns"), [("abc", 3), ("中文", 4), ("e\u0301", 1), ("é", 1), ("", 0)])
def test_width_is_counted_in_columns(text: str, columns: int) -> None:
    assert width(text) == columns
    assert padded(text, 6) == text + " " * (6 - columns)


def test_table_says_what_is_out_of_the_ordinary_with_the_reason() -> None:
    assert "given whole; vGPU 3 active; suspect: 8 of 16 lanes" in table.render(troubled())
