# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The picture: well-formed whatever a host may say, complete, and nothing over or beside anything else."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devagent.cli.render import svg
from devagent.cli.render.picture.text import escaped, fitted, measured, wrapped
from devagent.discovery import Discovery
from devagent.inventory.build import Nest
from devagent.view import Look

from .pictures import HOSTILE, gpu, look, nic, troubled

SPACE = "{http://www.w3.org/2000/svg}"
HOSTS = ("gpu8", "fpga", "qat", "vm", "big")


def parsed(seen: Look) -> ElementTree.Element:
    return ElementTree.fromstring(svg.render(seen))


def texts(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SPACE}text")]


def boxes(root: ElementTree.Element, *styles: str) -> list[tuple[float, float, float, float]]:
    """Gives left, top, right and bottom of the rectangles with one of these classes, but for the legend's."""
    found = []
    for element in root.iter(f"{SPACE}rect"):
        if element.get("class") in styles and float(element.get("width", 0)) > 30:
            x, y, wide, high = (float(element.get(name, 0)) for name in ("x", "y", "width", "height"))
            found.append((x, y, x + wide, y + high))
    return found


def many(count: int) -> Look:
    """Gives a host with that many GPUs, four behind each of the root ports of sixteen root buses."""
    found = []
    for number in range(count):
        bus = f"{number % 16:02x}"
        port = f"0000:{bus}:{number // 64:02x}.0"
        found.append(
            gpu(
                f"{number // 256:04x}:{number % 256:02x}:00.0",
                root_bus=f"pci0000:{bus}",
                pcie_path=(port,),
                numa_node=number % 3,
            )
        )
    return look(*found)


@pytest.mark.parametrize("name", HOSTS)
def test_every_device_has_a_card_with_its_details(discovery: Callable[[str], Discovery], name: str) -> None:
    found = discovery(name)
    root = parsed(Look(found, found.host.hostname or "h", Nest.NUMA))
    shown = texts(root)
    titles = [element.text or "" for element in root.iter(f"{SPACE}title")]
    for device in found.devices:
        assert device.address in shown
        assert any(f"Address: {device.address}\n" in title for title in titles)
    assert len(boxes(root, "card", "idle")) == len(found.devices)


@pytest.mark.parametrize("count", [1, 2, 7, 64, 512])
def test_no_card_lies_over_another_or_outside_of_the_page(count: int) -> None:
    root = parsed(many(count))
    wide, high = float(root.get("width", 0)), float(root.get("height", 0))
    cards, panels = boxes(root, "card", "idle"), boxes(root, "panel")
    assert len(cards) == count
    for left, top, right, bottom in (*cards, *panels):
        assert 0 <= left < right <= wide
        assert 0 <= top < bottom <= high
    for group in (cards, panels):
        for one, other in combinations(sorted(group)[:200], 2):
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    for left, top, right, bottom in cards:
        assert any(p[0] <= left and p[1] <= top and right <= p[2] and bottom <= p[3] for p in panels)


def test_hostile_names_are_shown_and_do_nothing() -> None:
    text = svg.render(troubled())
    root = ElementTree.fromstring(text)
    assert not [element for element in root.iter() if element.tag.endswith("script")]
    assert "\x1b" not in text
    assert "<script>" in "".join(root.itertext())
    assert all(line.isprintable() for line in "".join(root.itertext()).split("\n"))


def test_it_needs_nothing_but_itself_and_can_be_read_aloud() -> None:
    text = svg.render(troubled())
    root = ElementTree.fromstring(text)
    assert not re.search(r"href|@import|url\((?!#)|<image|<foreignObject", text)
    assert root.get("role") == "img"
    labels = (root.get("aria-labelledby") or "").split()
    assert [element.get("id") for element in list(root)[:2]] == labels
    description = list(root)[1].text or ""
    assert "0000:42:00.0 gpu NVIDIA A100: PGPU 1" in description
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))


def test_light_and_dark_say_the_same_classes() -> None:
    style = parsed(troubled()).find(f"{SPACE}style")
    assert style is not None
    light, _, dark = (style.text or "").partition("@media (prefers-color-scheme:dark)")
    rules = re.findall(r"\.([a-z]+)\{(fill|stroke):#", light)
    assert rules == re.findall(r"\.([a-z]+)\{(fill|stroke):#", dark)
    used = {name for element in parsed(troubled()).iter() for name in (element.get("class") or "").split()}
    assert used - {"bold", "mono", "icon", "mark", "knot"} <= {name for name, _ in rules}


@pytest.mark.parametrize("state", ["suspect", "unhealthy", "lost"])
def test_health_is_told_by_a_pattern_too(state: str) -> None:
    fills = [element.get("fill") for element in parsed(troubled()).iter(f"{SPACE}rect")]
    assert fills.count(f"url(#mark-{state})") == 2  # the device's, and the legend's


def test_vfs_of_each_use_are_in_proportion() -> None:
    root = parsed(troubled())
    bars = {
        element.get("class"): float(element.get("width", 0))
        for element in root.iter(f"{SPACE}rect")
        if element.get("height") == "9"
    }
    assert bars["held"] == pytest.approx(bars["room"] * 2 / 8, abs=0.1)
    assert bars["host"] == bars["free"] == pytest.approx(bars["room"] / 8, abs=0.1)
    assert "VFs 4 of 8 · 2 in use · 1 by the host" in texts(root)


def test_mig_instances_lie_on_their_slices() -> None:
    slices = [element for element in parsed(troubled()).iter(f"{SPACE}rect") if element.get("class") == "slice"]
    widths = sorted(float(each.get("width", 0)) for each in slices if each.get("height") == "17")
    assert widths[1] == pytest.approx(4 * widths[0])


def test_problems_and_notes_are_on_the_page() -> None:
    shown = texts(parsed(troubled()))
    assert "host: the host is odd [pci]" in shown
    assert "only root may see users" in shown
    assert "No devices to give: no GPU, FPGA, accelerator or SR-IOV PF was found." in texts(parsed(look()))


def test_the_same_host_is_always_drawn_the_same() -> None:
    assert svg.render(troubled()) == svg.render(troubled())


def test_what_is_a_bridge_and_a_device_at_once_ends() -> None:
    """A capture may say anything: here, that one card hangs below another."""
    below = gpu("0000:41:00.0", pcie_path=("0000:3a:01.0", "0000:3b:00.0"))
    assert len(boxes(parsed(look(gpu("0000:3b:00.0"), below)), "card")) == 2


def test_full_names_are_wrapped_and_not_cut() -> None:
    long = replace(nic().claim, model="ConnectX-7 Dual Port 400 Gigabit Ethernet Adapter with Crypto and Secure Boot")
    shown = texts(parsed(look(replace(nic(), claim=long))))
    assert long.model in " ".join(shown)


@given(st.text(), st.floats(20, 400))
def test_what_is_fitted_fits(text: str, room: float) -> None:
    assert measured(fitted(text, room, 12), 12) <= room or fitted(text, room, 12) == "…"


@given(st.text(max_size=300), st.floats(40, 300), st.integers(1, 6))
def test_wrapping_keeps_to_its_lines_and_loses_nothing_without_a_sign(text: str, room: float, most: int) -> None:
    lines = wrapped(text, room, 12, most)
    assert len(lines) <= most
    assert all(measured(line, 12) <= room for line in lines)
    if lines and not lines[-1].endswith("…"):
        assert "".join("".join(lines).split()) == "".join(text.split())


@given(st.text() | st.just(HOSTILE))
def test_any_text_can_stand_in_the_picture(text: str) -> None:
    element = ElementTree.fromstring(f'<a b="{escaped(text)}">{escaped(text)}</a>')
    assert len(element.text or "") == len(text)
