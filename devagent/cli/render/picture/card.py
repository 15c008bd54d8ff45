# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The card of one device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from devagent.cli.render import wide, words
from devagent.cli.render.picture.icons import icon
from devagent.cli.render.picture.style import band
from devagent.cli.render.picture.text import escaped, fitted, measured, wrapped
from devagent.cli.render.printable import printable
from devagent.model.claim import NetInterface
from devagent.model.device import Device

WIDTH: Final = 286
_LEFT: Final = 22
_ROOM: Final = WIDTH - _LEFT - 14
_TITLE: Final = 14
_SMALL: Final = 11.5
_BAND: Final = 9
# The memory slices of an NVIDIA GPU that can be divided.
_SLICES: Final = 8


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the card: its height, and its drawing as if it began at 0."""

    height: float
    drawing: str


class Card:
    """A device as a card, and the port that it is plugged into; `height` is what it takes at least."""

    width: float = WIDTH

    def __init__(self, device: Device, port: str) -> None:
        self.device, self.port = device, port
        self._top, self._end = list(_top(device)), list(_end(device))
        self.height = 20 + sum(row.height for row in (*self._top, *self._end))

    def draw(self, x: float, y: float, height: float) -> str:
        """Gives the card at x and y, at least as high as it must be; what was decided stands at its foot."""
        frame = f'x="{x:g}" y="{y:g}" width="{WIDTH}" height="{height:g}" rx="10"'
        foot = y + height - 8 - sum(row.height for row in self._end)
        parts = [
            f"<g><title>{escaped(_details(self.device))}</title>",
            f'<rect class="{"card" if self.device.decision.managed else "idle"}" {frame}/>',
            band(self.device.health.state, x + 6, y + 8, _BAND, height - 16, 4),
            *_stacked(self._top, x, y + 10),
            *_stacked(self._end, x, foot),
            "</g>",
        ]
        return "".join(parts)


def _stacked(rows: list[Row], x: float, y: float) -> Iterator[str]:
    for row in rows:
        yield f'<g transform="translate({x:g} {y:g})">{row.drawing}</g>'
        y += row.height


def _details(device: Device) -> str:
    function = device.function
    ids = f"{function.vendor_id}:{function.device_id}, class {function.class_code}"
    cells = {name: cell(device) for name, cell in wide.COLUMNS.items()}
    return "\n".join([f"{name}: {printable(cell)}" for name, cell in (*cells.items(), ("Ids", ids)) if cell])


def _top(device: Device) -> Iterator[Row]:
    function = device.function
    yield _title(device)
    yield _address(device)
    group = "" if function.iommu_group is None else f"IOMMU {function.iommu_group}"
    memory = words.memory(device.claim.gpu.memory_mib) if device.claim.gpu else ""
    facts = " · ".join(filter(None, (memory, words.link(function.link), group)))
    yield from _lines(facts, "soft", 2)
    for interface in device.claim.net.interfaces if device.claim.net else ():
        yield from _lines(_interface(interface), "soft", 1)
    if function.sriov and max(function.sriov.total_vfs, len(device.vfs)):
        yield _vfs(device)
    gpu = device.claim.gpu
    if gpu and gpu.mig and gpu.mig.enabled:
        yield _slices([(each.start, each.size, each.profile) for each in gpu.mig.instances])
    yield from _lines(wide.details(device), "soft", 6)


def _end(device: Device) -> Iterator[Row]:
    decision = device.decision
    yield from _lines(words.ailment(device), "alarm", 3)
    yield from _lines(f"in use by {words.users(device)}" if words.users(device) else "", "soft", 3)
    if not decision.managed:
        yield from _lines(f"✗ not given: {decision.reason}", "refused", 4)
        return
    yield from _lines(f"✓ given: {words.given(device)}", "given bold", 2)
    if decision.total != max(len(device.vfs), 1):
        yield from _lines(decision.reason, "soft", 3)


def _title(device: Device) -> Row:
    name = printable(f"{device.claim.vendor} {device.claim.model}")
    lines = wrapped(name, _ROOM - 36, _TITLE, 8, bold=True)
    texts = "".join(
        f'<text class="ink bold" x="{_LEFT + 36}" y="{16 + 18 * number}" font-size="{_TITLE}">{escaped(line)}</text>'
        for number, line in enumerate(lines)
    )
    return Row(max(34, 18 * len(lines) + 8), icon(device.claim.kind, _LEFT, 1, 27) + texts)


def _address(device: Device) -> Row:
    address, driver = device.address, printable(device.function.driver or "no driver")
    text = f'<text class="ink mono" x="{_LEFT}" y="14" font-size="12.5">{address}</text>'
    room = _ROOM - measured(address, 12.5, mono=True) - 24
    shown = fitted(driver, room, 11)
    breadth = measured(shown, 11) + 16
    left = _LEFT + _ROOM - breadth
    pill = f'<rect class="pill" x="{left:g}" y="0" width="{breadth:g}" height="19" rx="9.5"/>'
    middle = left + breadth / 2
    label = f'<text class="soft" x="{middle:g}" y="13.5" font-size="11" text-anchor="middle">{escaped(shown)}</text>'
    return Row(25, text + pill + label)


def _lines(text: str, style: str, most: int) -> Iterator[Row]:
    for line in wrapped(printable(text), _ROOM, _SMALL, most, bold="bold" in style):
        drawing = f'<text class="{style}" x="{_LEFT}" y="12" font-size="{_SMALL}">{escaped(line)}</text>'
        yield Row(16.5, drawing)


def _interface(interface: NetInterface) -> str:
    speed = interface.speed_mbps
    rate = "" if speed is None else f"{speed / 1000:g} Gb/s" if speed >= 1000 else f"{speed} Mb/s"
    state = {True: "link up", False: "no link", None: ""}[interface.link]
    return " · ".join(filter(None, (interface.name, rate, state)))


def _vfs(device: Device) -> Row:
    """Draws the VFs that could be as a bar: held by a process, used by the host, free, and not there yet."""
    sriov = device.function.sriov
    count, total = len(device.vfs), max(sriov.total_vfs if sriov else 0, len(device.vfs))
    host = {index for index, _ in device.vf_use}
    held = {index for index, users in device.vf_users if users} - host
    parts = [("held", len(held)), ("host", len(host)), ("free", count - len(held) - len(host))]
    label = " · ".join(
        [f"VFs {count} of {total}"]
        + [f"{number} {word}" for number, word in ((len(held), "in use"), (len(host), "by the host")) if number]
    )
    drawing = [f'<text class="soft" x="{_LEFT}" y="13" font-size="{_SMALL}">{label}</text>']
    drawing.append(f'<rect class="room" x="{_LEFT}" y="19" width="{_ROOM}" height="9" rx="2"/>')
    at = float(_LEFT)
    for style, number in parts:
        if number:
            length = max(2.0, _ROOM * number / total)
            drawing.append(f'<rect class="{style}" x="{at:.4g}" y="19" width="{length:.4g}" height="9" rx="2"/>')
            at += length
    return Row(35, "".join(drawing))


def _slices(instances: list[tuple[int, int, str]]) -> Row:
    """Draws the memory slices of a GPU in MIG mode, with the instances on them."""
    slices = max([_SLICES, *(start + size for start, size, _ in instances)])
    unit = _ROOM / slices
    drawing = [f'<rect class="room" x="{_LEFT}" y="3" width="{_ROOM}" height="17" rx="3"/>']
    for start, size, profile in sorted(instances):
        left, length = _LEFT + unit * start, unit * size
        drawing.append(f'<rect class="slice" x="{left:g}" y="3" width="{length:g}" height="17" rx="3"/>')
        shown = fitted(printable(profile), length - 4, 9)
        if shown.strip("…"):
            middle = left + length / 2
            drawing.append(
                f'<text class="on" x="{middle:g}" y="15" font-size="9" text-anchor="middle">{escaped(shown)}</text>'
            )
    return Row(28, "".join(drawing))
