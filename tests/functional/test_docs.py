# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The documentation: that a site can be made of it, that links lead somewhere in both forms, and that it is current."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import chain, takewhile
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from devagent import conf
from devagent.cli.arguments import parser

from .conftest import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = tuple(sorted(DOCS.glob("*.md")))
READ_AS_FILES = (*PAGES, *(REPOSITORY / name for name in ("README.md", "bench/README.md", "tests/kernel/README.md")))
"""What somebody reads on a plain git host."""


@dataclass
class Page(HTMLParser):
    """The names that a page of the site can be linked at, and what it links or loads."""

    names: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.names.update(value for value in (found.get("id"), found.get("name")) if value)
        self.links.update(value for value in (found.get("href"), found.get("src")) if value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes the site as docs/conf.py says; any warning is an error."""
    site = tmp_path_factory.mktemp("site")
    command: list[str | Path] = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", DOCS, site]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    return site


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    """Reads the pages of the site by their file names."""
    found = {}
    for path in site.glob("*.html"):
        page = found[path.name] = Page()
        page.feed(path.read_text())
    return found


def test_every_page_is_one_of_the_site(pages: dict[str, Page]) -> None:
    assert {path.with_suffix(".html").name for path in PAGES} <= pages.keys()


def test_every_link_of_the_site_leads_somewhere(site: Path, pages: dict[str, Page]) -> None:
    dead = []
    for name, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            file = unquote(parts.path) or name
            if parts.scheme or link == "#":
                continue
            if not (site / file).exists() or (parts.fragment and unquote(parts.fragment) not in pages[file].names):
                dead.append(f"{name}: {link}")
    assert dead == []


def test_nothing_of_the_site_is_loaded_from_elsewhere(site: Path) -> None:
    loads = re.compile(r"""(?:src=|<link[^>]*href=|url\(|@import )["']?((?:https?:)?//[^"') ]+)""")
    texts = chain(site.glob("*.html"), site.glob("_static/*.css"))
    assert [found for path in texts for found in loads.findall(path.read_text())] == []


def blocks(path: Path) -> Iterator[tuple[str, str]]:
    """Gives the blocks of code of a Markdown file, each with its language."""
    yield from re.findall(r"^ *```(\S*)\n(.*?)^ *```", path.read_text(), re.MULTILINE | re.DOTALL)


def commands(path: Path) -> Iterator[str]:
    """Gives the command lines of a Markdown file that begin with devagent, in whichever directory, as one line each."""
    begin = re.compile(r"^ *(?:[$#] )?(?:\w+=\S+ )*(?:\S+/)?(devagent [a-z].*)$", re.MULTILINE)
    for language, text in blocks(path):
        if language == "":
            yield from begin.findall(text.replace("\\\n", ""))


def arguments(line: str) -> list[str]:
    """Gives what a shell would give the command of a line; what the output of another command were is an X."""
    words = shlex.shlex(re.sub(r"\$\([^)]*\)", "X", line), posix=True, punctuation_chars=True)
    words.whitespace_split = True
    return list(takewhile(lambda word: not set(word) <= set("<>|&;"), words))[1:]


@pytest.mark.parametrize("path", READ_AS_FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_command_is_one_that_devagent_takes(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in commands(path):
        try:
            parser().parse_args(arguments(line))
        except SystemExit:
            pytest.fail(f"{line}: {capsys.readouterr().err}")


def test_commands_are_found_and_taken_apart() -> None:
    assert "devagent unprepare 5e1f0f6a-27d4-4a3c-9a3e-0c1d2e3f4a5b" in commands(DOCS / "prepare.md")
    assert any("--cacert ca.pem     --cert" in line for line in commands(DOCS / "api.md"))
    assert arguments("devagent x --reason 'a b' $(c d) # e") == ["x", "--reason", "a b", "X"]
    assert arguments("devagent discover -o json > before.json") == ["discover", "-o", "json"]


CONFIGURATIONS = [
    pytest.param(text, id=f"{path.name}-{number}")
    for path in READ_AS_FILES
    for number, (language, text) in enumerate(blocks(path))
    if language == "ini" and re.match(r"\[(placement|glance|api)\]|\[notifications\]\nmode", text)
]


@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_every_configuration_is_one_that_devagent_takes(text: str, tmp_path: Path) -> None:
    file = tmp_path / "devagent.conf"
    file.write_text(text)
    conf.load([str(file)], strict=True)


def test_no_configuration_has_a_comment_behind_a_value() -> None:
    """It would be part of the value, of ours as of Nova's."""
    texts = [text for path in READ_AS_FILES for language, text in blocks(path) if language == "ini"]
    assert len(texts) > len(CONFIGURATIONS) > 3
    assert [line for text in texts for line in text.splitlines() if re.match(r"[^#]+=.*\s#", line)] == []


def prose(path: Path) -> str:
    """Gives a Markdown file without its blocks of code."""
    return re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def headings(path: Path) -> Iterator[str]:
    """Gives the names by which a git host lets headings be linked."""
    for title in re.findall(r"^#+ +(.+)$", prose(path), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("path", READ_AS_FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere_on_a_plain_git_host(path: Path) -> None:
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = path.parent / parts.path if parts.path else path
        if not target.exists() or (parts.fragment and parts.fragment not in headings(target)):
            dead.append(link)
    assert dead == []


def changed_by(program: str) -> str:
    """Gives what a program of docs/_ext would make of its page, if it is not what stands there."""
    code = (
        "import runpy, sys; page = runpy.run_path(sys.argv[1]); text = page['PAGE'].read_text(); "
        "filled = page['filled'](text); sys.stdout.write(filled if filled != text else '')"
    )
    command: list[str | Path] = [sys.executable, "-c", code, DOCS / "_ext" / program]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout


def test_the_options_are_those_that_there_are() -> None:
    assert changed_by("options.py") == "", "run: python docs/_ext/options.py"


def test_the_reference_has_every_call_and_every_field(site: Path, pages: dict[str, Page]) -> None:
    document = json.loads((DOCS / "openapi.json").read_text())
    text = re.sub("<[^>]+>", "", (site / "api-reference.html").read_text())
    calls = {f"{method.upper()} {path}" for path, found in document["paths"].items() for method in found}
    assert {call for call in calls if call not in text} == set()
    named = {name for schema in document["components"]["schemas"].values() for name in fields(schema)}
    assert {name for name in named if name not in text} == set()
    assert "body-preparations-handle" in pages["api-reference.html"].names


def fields(schema: dict[str, Any]) -> Iterator[str]:
    """Gives the name of each field of a schema, at whatever depth."""
    yield from schema.get("properties", {})
    named = chain(schema.get("properties", {}).values(), schema.get("$defs", {}).values())
    within = (schema[key] for key in ("items", "additionalProperties") if isinstance(schema.get(key), dict))
    for inner in chain(named, within, schema.get("oneOf", ()), schema.get("anyOf", ())):
        yield from fields(inner)


def test_the_tests_that_the_page_on_upgrades_names_are_there() -> None:
    named = re.findall(r"`(tests/\S+\.py)::(\w+)`", (DOCS / "upgrade.md").read_text())
    assert len(named) > 5
    assert [f"{path}::{name}" for path, name in named if f"\ndef {name}(" not in (REPOSITORY / path).read_text()] == []


def test_the_rooms_are_those_that_there_are() -> None:
    assert changed_by("rooms.py") == "", "run: python docs/_ext/rooms.py"


def test_every_package_and_every_module_beside_them_has_its_row() -> None:
    rows = set(re.findall(r"^\| `([\w./]+)` \| .", (DOCS / "rooms.md").read_text(), re.MULTILINE))
    package = REPOSITORY / "devagent"
    there = {f"{path.parent.relative_to(package)}/" for path in package.rglob("*/__init__.py")}
    there |= {path.name for path in package.glob("[a-z]*.py")}
    there |= {f"drivers/{path.name}" for path in (REPOSITORY / "drivers").glob("[a-z]*.py")} | {"drivers/"}
    assert there - rows == set()


def test_every_path_on_the_page_about_rooms_is_there() -> None:
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", (DOCS / "rooms.md").read_text())
    assert len(named) > 60
    assert [
        name for name in named if not any((top / name).exists() for top in (REPOSITORY, REPOSITORY / "devagent"))
    ] == []


def test_the_reasons_that_are_explained_are_those_that_there_are() -> None:
    table = (DOCS / "questions.md").read_text().partition("## A device is not given")[2].partition("\n## ")[0]
    reasons = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert len(reasons) > 10
    rooms = (*(REPOSITORY / "devagent/inventory").rglob("*.py"), *(REPOSITORY / "drivers").glob("*.py"))
    said = "\n".join(path.read_text() for path in rooms)
    assert [reason for reason in reasons if reason.strip() not in said] == []


def test_the_page_about_the_policy_has_every_key_and_every_word() -> None:
    schema = json.loads((REPOSITORY / "devagent/schemas/policy.schema.json").read_text())
    text = (DOCS / "policy.md").read_text()
    parts = {"A file": schema, "A rule": schema["$defs"]["rule"]}
    parts |= {"Which devices": schema["$defs"]["match"], "Between two consumers": schema["$defs"]["prepare"]}
    for heading, described in parts.items():
        part = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
        cells = re.findall(r"^\| (`.+?`) \|", part, re.MULTILINE)
        assert set(re.findall(r"`(\w+)`", " ".join(cells))) == set(described["properties"]), heading
    words = {word for found in re.findall(r'"enum": (\[[^]]+\])', json.dumps(schema)) for word in json.loads(found)}
    assert {word for word in words if f"`{word}`" not in text} == set()
