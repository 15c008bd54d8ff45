# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The manual pages tell of every command, option, configuration option and key of the policy, and of no other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devagent import conf

from .arguments import Command, commands
from .conftest import REPOSITORY

PAGES = REPOSITORY / "docs/man"
SCHEMA = REPOSITORY / "devagent/schemas/policy.schema.json"
ALL_AGENT = "COMMANDS THAT ASK THE AGENT"


def text(name: str) -> str:
    """Gives a page without its marks: fonts and escapes."""
    raw = (PAGES / name).read_text()
    raw = re.sub(r"\\f.", "", raw).replace("\\-", "-")
    lines = (re.sub(r"^\.(?:[BI]|[BIR]{2}) ", "", line).replace('"', "") for line in raw.splitlines())
    return "\n".join(re.sub(r" ([,|:.]) ?", r"\1 ", line) for line in lines)


def sections(page: str, mark: str) -> dict[str, str]:
    """Gives the parts of a page by their headings, `.SH` or `.SS`; a `.SH` ends a `.SS`."""
    parts: dict[str, str] = {}
    heading = ""
    for line in page.splitlines():
        if line.startswith((f".{mark} ", ".SH ")):
            heading = line[4:] if line.startswith(f".{mark} ") else ""
        else:
            parts[heading] = parts.get(heading, "") + line + "\n"
    return parts


def options(part: str) -> set[str]:
    """Gives what looks like an option in a part of a page."""
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", part))


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed (apt-get install groff-base)")
@pytest.mark.parametrize("page", sorted(PAGES.iterdir()), ids=lambda page: page.name)
def test_groff_finds_nothing_wrong_with_a_page(page: Path) -> None:
    ran = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z", page], capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stderr == ""


@pytest.mark.parametrize("command", commands(), ids=lambda command: " ".join(command.words) or "devagent")
def test_each_command_is_told_with_all_its_options(command: Command) -> None:
    page = text("devagent.8")
    found = {heading: part for heading, part in sections(page, "SS").items() if _tells(heading, command.words)}
    assert found, "there is no such heading"
    if not command.words:
        told = options(sections(page, "SH")["OPTIONS"])
        assert told == set(command.options)
        return
    told = set().union(*map(options, found.values())) | {"-h", "--help"}
    if _is_below(page, ALL_AGENT, next(iter(found))):
        told |= options(sections(page, "SH")[ALL_AGENT].split(".SS")[0])
    assert {option for option in command.options if option.startswith("--")} <= told, "the page lacks these"
    assert told & _known() <= command.options | _mentioned(command) | {"-o", "-"}, "the page has too much"


def _tells(heading: str, words: tuple[str, ...]) -> bool:
    if not words:
        return True
    bare = heading.replace("[", "").replace("]", "").split()
    return bare[: len(words)] == list(words)


def _is_below(page: str, above: str, heading: str) -> bool:
    return f".SS {heading}\n" in page.partition(f".SH {above}\n")[2].partition("\n.SH ")[0]


def _known() -> set[str]:
    return set().union(*(command.options for command in commands()))


def _mentioned(command: Command) -> set[str]:
    """Gives the options of the actions below a command, which stand under its name as well."""
    return set().union(*(each.options for each in commands() if each.words[: len(command.words)] == command.words))


def test_every_option_is_explained_somewhere() -> None:
    explained = {line for line in text("devagent.8").split("\n") if line.startswith("-")}
    for command in commands():
        for option in command.options:
            assert any(option in options(line) for line in explained), option


def test_every_option_of_the_configuration_is_told_with_its_default() -> None:
    page = sections(text("devagent.conf.5"), "SH")
    for section, opts in conf.list_opts():
        part = page[f"[{section}]"]
        assert re.findall(r"\.TP\n(\w+)\n", part) == [option.name for option in opts]
        for option, told in zip(opts, part.split(".TP\n")[1:], strict=True):
            assert not isinstance(option.default, (int, float, str)) or f"Default: {_shown(option.default)}." in told


def _shown(default: float | str) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default)


def test_every_key_of_the_policy_is_told_and_every_word_that_it_may_have() -> None:
    schema = json.loads(SCHEMA.read_text())
    page = sections(text("devices.yaml.5"), "SH")
    tops = {"TOP LEVEL": schema, **{name: schema["$defs"][name.lower()] for name in ("RULE", "PREPARE")}}
    tops["SELECTORS"] = schema["$defs"]["match"]
    for heading, described in tops.items():
        keys = [key for line in re.findall(r"\.TP\n(.+)\n", page[heading]) for key in re.split(r"[ ,]+", line)]
        words = set(_words(described["properties"]))
        assert described["properties"].keys() <= set(keys), heading
        assert set(keys) <= described["properties"].keys() | words, f"{heading} has too much"
    for word in _words(schema):
        assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text("devices.yaml.5")), word


def _words(described: Any) -> Iterator[str]:
    if isinstance(described, dict):
        yield from (word for word in (*described.get("enum", ()), described.get("const")) if isinstance(word, str))
        for each in described.values():
            yield from _words(each)
    elif isinstance(described, list):
        for each in described:
            yield from _words(each)
