# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`-o svg`: a picture of the host, to be put on a wall or into a document; it needs nothing but itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from devagent.cli.render import words
from devagent.cli.render.picture.flow import GAP, panels
from devagent.cli.render.picture.style import band, css, patterns
from devagent.cli.render.picture.text import escaped, fitted, measured, wrapped
from devagent.cli.render.picture.topology import nodes
from devagent.cli.render.table import NOTHING
from devagent.model.amount import amount
from devagent.model.health import State
from devagent.view import Look

_MARGIN: Final = 32
_LEAST: Final = 1240

_HEALTH: Final = {
    State.HEALTHY: "healthy",
    State.SUSPECT: "suspect",
    State.UNHEALTHY: "unhealthy",
    State.LOST: "lost",
    State.UNMONITORED: "nothing tells its health",
}
_VFS: Final = {
    "free": "VFs that are free",
    "held": "in use by a process",
    "host": "used by the host",
    "room": "not created",
}


def render(seen: Look) -> str:
    """Gives the picture as SVG; the same host always gives the same."""
    page = _Page(seen)
    title = f"Devices of {seen.hostname}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="title desc" '
        f'width="{page.width:g}" height="{page.height:g}" viewBox="0 0 {page.width:g} {page.height:g}">',
        f'<title id="title">{escaped(title)}</title><desc id="desc">{escaped(_description(seen))}</desc>',
        f"<style>{css()}</style><defs>{patterns()}</defs>",
        f'<rect class="page" width="{page.width:g}" height="{page.height:g}"/>',
        *page.parts,
        "</svg>",
    ]
    return "\n".join(parts)


def _description(seen: Look) -> str:
    devices = (
        f"{device.address} {device.claim.kind} {words.name(device)}: "
        f"{words.given(device) or f'not given, {device.decision.reason}'}"
        for device in seen.found.devices
    )
    return "\n".join([words.headline(seen), *devices])


class _Page:
    """The page while it grows downwards."""

    def __init__(self, seen: Look) -> None:
        self.layout = panels(nodes(seen.found.devices, dict(seen.found.host.node_cpus)))
        self.width = max(self.layout.width + 2 * _MARGIN, _LEAST)
        self.height: float = _MARGIN
        self.parts: list[str] = []
        self._head(seen)
        self._panels()
        self._legend()
        self._closing(seen)
        self.height += _MARGIN

    def _text(self, text: str, x: float, y: float, size: float, style: str, anchor: str = "start") -> None:
        place = f'x="{x:g}" y="{y:g}" font-size="{size:g}" text-anchor="{anchor}"'
        self.parts.append(f'<text class="{style}" {place}>{escaped(text)}</text>')

    def _head(self, seen: Look) -> None:
        tiles = list(_tiles(seen))
        x = self.width - _MARGIN
        for number, label, style in reversed(tiles):
            wide = max(measured(number, 28, bold=True), measured(label, 12)) + 22
            self._text(number, x, self.height + 30, 28, f"{style} bold", "end")
            self._text(label, x, self.height + 50, 12, "faint", "end")
            x -= wide
        room = x - _MARGIN
        self._text(fitted(seen.hostname, room, 30, bold=True), _MARGIN, self.height + 28, 30, "ink bold")
        host = seen.found.host
        facts = (
            f"Linux {host.kernel}" if host.kernel else "",
            f"IOMMU {'on' if host.iommu else 'off'}",
            amount(len(host.numa_nodes), "NUMA node") if host.numa_nodes else "",
        )
        line = " · ".join(filter(None, facts))
        self._text(fitted(line, room, 14), _MARGIN, self.height + 52, 14, "soft")
        self.height += 78

    def _panels(self) -> None:
        columns = self.layout.columns
        column = (self.width - 2 * _MARGIN - GAP * (columns - 1)) / columns
        self.parts += self.layout.drawn(_MARGIN, self.height, column)
        self.height += self.layout.height
        if not self.layout.boxes:
            self._text(NOTHING, _MARGIN, self.height + 30, 18, "soft")
            self.height += 60

    def _legend(self) -> None:
        self.height += 10
        x = float(_MARGIN)
        for label, swatch in _swatches():
            wide = 34 + measured(label, 12) + 22
            if x + wide > self.width - _MARGIN:
                x, self.height = float(_MARGIN), self.height + 26
            self.parts.append(f'<g transform="translate({x:g} {self.height:g})">{swatch}</g>')
            self._text(label, x + 34, self.height + 13, 12, "soft")
            x += wide
        self.height += 30

    def _closing(self, seen: Look) -> None:
        for line in words.closing_lines(seen):
            heading = bool(line) and not line.startswith(" ")
            style = "alarm bold" if line.startswith("Problems") else "ink bold" if heading else "soft"
            for part in wrapped(line, self.width - 2 * _MARGIN - 20, 13, 20):
                self._text(part, _MARGIN + (0 if heading else 14), self.height + 14, 13, style)
                self.height += 20
            self.height += 0 if line else 8


def _tiles(seen: Look) -> Iterator[tuple[str, str, str]]:
    devices = seen.found.devices
    given = sum(device.decision.managed for device in devices)
    yield str(len(devices)), "devices", "ink"
    yield str(given), "given", "given"
    yield str(len(devices) - given), "not given", "refused"
    vfs = sum(len(device.vfs) for device in devices)
    if vfs:
        yield str(vfs), "VFs", "ink"
    ailing = sum(bool(words.ailment(device)) for device in devices)
    if ailing:
        yield str(ailing), "not well", "alarm"
    if seen.found.problems:
        yield str(len(seen.found.problems)), "problems", "alarm"


def _swatches() -> Iterator[tuple[str, str]]:
    for state, label in _HEALTH.items():
        yield label, band(state, 0, 0, 26, 16, 4)
    for style, label in _VFS.items():
        yield label, f'<rect class="{style}" y="3" width="26" height="10" rx="2"/>'
    yield "MIG instance", '<rect class="slice" width="26" height="16" rx="3"/>'
    yield "given", '<rect class="card" width="26" height="16" rx="4"/>'
    yield "not given", '<rect class="idle" width="26" height="16" rx="4"/>'
