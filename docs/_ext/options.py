# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Writes the options of devagent into docs/configuration.md, below its mark: python docs/_ext/options.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from oslo_config import cfg

from devagent import conf

PAGE: Final = Path(__file__).parents[1] / "configuration.md"
MARK: Final = "<!-- What follows is written by docs/_ext/options.py out of devagent/conf.py. -->\n"


def filled(page: str) -> str:
    """Gives the page with the options that there are now. Raises ValueError if it has no mark."""
    if MARK not in page:
        raise ValueError(f"the line {MARK.strip()!r} is missing")
    return page.partition(MARK)[0] + MARK + "".join(f"{line}\n" for line in _lines())


def _lines() -> Iterator[str]:
    for group, options in conf.list_opts():
        yield from ("", f"### [{group}]", "", "| option | default | |", "| --- | --- | --- |")
        for option in options:
            star = "" if option.mutable else " \\*"
            yield f"| `{option.name}`{star} | {_default(option)} | {_said(option)} |"


def _default(option: Any) -> str:
    if option.default in (None, "", [], {}):
        return ""
    value = ",".join(option.default) if isinstance(option.default, list) else option.default
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _said(option: Any) -> str:
    """Gives the help, then what values there are."""
    kind, said = option.type, " ".join(option.help.split())
    if choices := getattr(kind, "choices", None):
        said += " " + "; ".join(f"`{value}`: {meaning}" for value, meaning in choices.items()) + "."
    elif isinstance(option, cfg.IntOpt | cfg.FloatOpt):
        said += f" From {kind.min} to {kind.max}."
    return said.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
