# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Writes the packages of devagent into docs/rooms.md, below its mark: python docs/_ext/rooms.py."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[2]
PACKAGE: Final = REPOSITORY / "devagent"
PAGE: Final = REPOSITORY / "docs/rooms.md"
MARK: Final = "<!-- What follows is written by docs/_ext/rooms.py out of setup.cfg and the docstrings. -->\n"
_UNTOLD: Final = {"_version"}
_LISTED: Final = {"drivers"}
"""Rooms of which each module is told, since each is known by what it is for alone."""


def filled(page: str) -> str:
    """Gives the page with the rooms that there are now. Raises ValueError if it has no mark."""
    if MARK not in page:
        raise ValueError(f"the line {MARK.strip()!r} is missing")
    return page.partition(MARK)[0] + MARK + "".join(f"{line}\n" for line in _lines())


def layers() -> Iterator[tuple[str, ...]]:
    """Gives the layers that lint-imports checks, from the top, each as the names that stand in it."""
    configuration = ConfigParser()
    configuration.read(REPOSITORY / "setup.cfg")
    for layer in configuration["importlinter:contract:layers"]["layers"].split("\n"):
        names = tuple(name for name in re.findall(r"\w+", layer) if name not in _UNTOLD)
        if names:
            yield names


def _lines() -> Iterator[str]:
    yield from ("", "| room | |", "| --- | --- |")
    for names in layers():
        for name in names:
            yield from _rows(PACKAGE / name)


def _rows(place: Path) -> Iterator[str]:
    """Gives the row of a module, or of a package and the packages in it."""
    if not place.is_dir():
        yield _row(place.with_suffix(".py"))
        return
    yield _row(place)
    inner = sorted(each.parent for each in place.glob("*/__init__.py"))
    for each in inner:
        yield from _rows(each)
    if place.name in _LISTED:
        yield from (_row(each) for each in sorted(place.glob("[a-z]*.py")))


def _row(place: Path) -> str:
    is_package = place.is_dir()
    source = place / "__init__.py" if is_package else place
    name = place.relative_to(PACKAGE).as_posix() + ("/" if is_package else "")
    told = (ast.get_docstring(ast.parse(source.read_text())) or "").partition("\n\n")[0]
    purpose = " ".join(told.split()).replace("|", "\\|")
    return f"| `{name}` | {purpose} |"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
