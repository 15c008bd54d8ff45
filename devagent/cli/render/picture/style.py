# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Colours, patterns and fonts of the picture, in light and dark; each class stands for one meaning."""

from __future__ import annotations

from typing import Final

from devagent.model.health import State

SANS: Final = "system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','DejaVu Sans',sans-serif"
MONO: Final = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"

# Class, property: light, dark.
_COLOURS: Final = {
    ("page", "fill"): ("#eef1f5", "#0d1117"),
    ("panel", "fill"): ("#ffffff", "#151b23"),
    ("panel", "stroke"): ("#d5dbe3", "#2b3440"),
    ("box", "fill"): ("#f4f7fa", "#1b232d"),
    ("box", "stroke"): ("#cdd6e0", "#34404e"),
    ("card", "fill"): ("#ffffff", "#212a35"),
    ("card", "stroke"): ("#b9c4d1", "#445162"),
    ("idle", "fill"): ("#f7f8fa", "#191f27"),
    ("idle", "stroke"): ("#b3bcc8", "#465160"),
    ("ink", "fill"): ("#17202c", "#e8edf3"),
    ("soft", "fill"): ("#4b5869", "#a9b5c3"),
    ("faint", "fill"): ("#647284", "#8793a3"),
    ("wire", "stroke"): ("#93a3b5", "#546476"),
    ("knot", "fill"): ("#93a3b5", "#546476"),
    ("pill", "fill"): ("#e6ebf1", "#303b48"),
    ("given", "fill"): ("#0b6b3a", "#5fd39a"),
    ("refused", "fill"): ("#5b6675", "#9aa6b4"),
    ("alarm", "fill"): ("#a3130f", "#ff8f87"),
    ("free", "fill"): ("#2f7fd1", "#4a9bea"),
    ("held", "fill"): ("#7a4bc4", "#a883ee"),
    ("host", "fill"): ("#c26a00", "#eb9a3c"),
    ("room", "fill"): ("#e3e8ee", "#2c3642"),
    ("slice", "fill"): ("#12857f", "#39b5ad"),
    ("slice", "stroke"): ("#ffffff", "#212a35"),
    ("on", "fill"): ("#ffffff", "#08211f"),
    ("healthy", "fill"): ("#1f9d57", "#34b46d"),
    ("suspect", "fill"): ("#e2a400", "#d9a21b"),
    ("unhealthy", "fill"): ("#d1322d", "#e0524c"),
    ("lost", "fill"): ("#3a4350", "#8c97a5"),
    ("unmonitored", "fill"): ("#dfe4ea", "#38434f"),
    ("mark", "stroke"): ("#ffffff", "#10151b"),
    ("gpu", "stroke"): ("#3f7d0d", "#8fce4f"),
    ("fpga", "stroke"): ("#8a3ab9", "#c78bea"),
    ("nic", "stroke"): ("#1667b7", "#6cb2f5"),
    ("qat", "stroke"): ("#a35200", "#f0a555"),
    ("nvme", "stroke"): ("#54606e", "#a7b3c0"),
    ("accelerator", "stroke"): ("#b3246f", "#f27bb5"),
    ("other", "stroke"): ("#647284", "#98a4b2"),
}

_FIXED: Final = (
    f"text{{font-family:{SANS}}}",
    f".mono{{font-family:{MONO}}}",
    ".bold{font-weight:600}",
    ".wire,.icon,.mark{fill:none}",
    ".wire{stroke-width:2}",
    ".icon{stroke-width:1.7;stroke-linecap:round;stroke-linejoin:round}",
    ".idle{stroke-dasharray:5 4}",
    ".panel,.box,.card,.idle{stroke-width:1.2}",
    ".slice{stroke-width:1.5}",
)

# How a state of health is told apart without its colour: the strokes on an eight by eight tile.
_MARKS: Final = {
    State.SUSPECT: "M-2 10L10 -2M-6 6L6 -6M2 14L14 2",
    State.UNHEALTHY: "M0 0L8 8M8 0L0 8",
    State.LOST: "M0 2H8M0 6H8",
}


def css() -> str:
    """Gives the style sheet: light, and dark where the reader wants it so."""
    light, dark = (
        "".join(f".{name}{{{what}:{pair[number]}}}" for (name, what), pair in _COLOURS.items()) for number in (0, 1)
    )
    return f"{''.join(_FIXED)}{light}@media (prefers-color-scheme:dark){{{dark}}}"


def patterns() -> str:
    """Gives the patterns that lie over the colour of a state."""
    return "".join(
        f'<pattern id="mark-{state}" width="8" height="8" patternUnits="userSpaceOnUse">'
        f'<path class="mark" stroke-width="1.8" d="{strokes}"/></pattern>'
        for state, strokes in _MARKS.items()
    )


def band(state: State, x: float, y: float, width: float, height: float, radius: float = 0) -> str:
    """Gives a band in the colour of the state, with its pattern."""
    shape = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}"'
    over = f'<rect {shape} fill="url(#mark-{state})"/>' if state in _MARKS else ""
    return f'<rect class="{state}" {shape}/>{over}'
