# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Makes a site of these pages: python -m sphinx -W -b html docs build/docs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "devagent"
author = "The devagent authors"
extensions = ["myst_parser", "openapi"]
nitpicky = True
myst_heading_anchors = 4
html_theme = "alabaster"
html_theme_options = {
    "description": "GPUs, FPGAs and SR-IOV devices of OpenStack compute hosts",
    "font_family": "system-ui, sans-serif",
    "font_size": "15px",
    "page_width": "1240px",
    "body_max_width": "none",
    "show_powered_by": False,
}
html_static_path = ["_static"]
html_copy_source = False
html_show_copyright = False

_ELSEWHERE = re.compile(r"\[([^\]]+)\]\((\.\./[^)#]+)(?:#[^)]*)?\)")
_BY_FILE = re.compile(r"\[([a-z-]+\.md)\]\((\1[^)]*)\)")


def setup(app: Sphinx) -> None:
    """Has links that are written for a reader of the files be links of a site."""
    app.connect("source-read", _for_a_site)


def _for_a_site(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Has links that leave docs/ lead to the file, and `[health.md](health.md)` the title of that page."""
    source[0] = _BY_FILE.sub(r"[](\2)", _ELSEWHERE.sub(_to_a_file, source[0]))


def _to_a_file(link: re.Match[str]) -> str:
    """A site can give a file away, and has no folder to show."""
    text, path = link.groups()
    return text if Path(__file__).parent.joinpath(path).is_dir() else f"[{text}](path:{path})"
