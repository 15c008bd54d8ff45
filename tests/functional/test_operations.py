# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""docs/operations.md: has each warning and error that the source can log, and commands that there are."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from .conftest import REPOSITORY, Devagent
from .running_agent import write_configuration

DOCUMENT = REPOSITORY / "docs/operations.md"
RULES = REPOSITORY / "etc/prometheus/devagent.rules.yaml"
COMMANDED = [REPOSITORY / "docs" / f"{name}.md" for name in ("operations", "cookbook", "flavors")]
METHODS = {"warning", "error", "critical", "exception"}
LEVELS = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}
QUIET = {"DEBUG", "INFO"}
OF_AGENTS = {"status", "health", "preparations", "prepare", "unprepare", "rescan"}
IDS = {"$CONSUMER": "5e1f0f6a-27d4-4a3c-9a3e-0c1d2e3f4a5b", "$PROVIDER": "4a1e7c52-0d0b-5f5e-9d8e-3c1f0b2a6d11"}

Message = tuple[str, str]


def logged() -> set[Message]:
    """Gives each message at WARNING and above, `...` where a value stands, with the logger that says it."""
    found = set()
    for path in (REPOSITORY / "devagent").rglob("*.py"):
        logger = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        found |= {(text, logger) for call in _calls(ast.parse(path.read_text())) for text in _texts(call)}
    return found


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Gives the calls that log at a level that is not certainly below WARNING; of helpers, those that get a level."""
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        for node in ast.walk(function):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if isinstance(node, ast.Call) and (
                called in {f"LOG.{method}" for method in METHODS}
                or (called in ("LOG.log", "_say") and not _is_quiet(node.args[0], function))
            ):
                yield node


def _is_quiet(level: ast.expr, function: ast.FunctionDef) -> bool:
    """Tells whether a level can only be DEBUG or INFO."""
    values = [level]
    if isinstance(level, ast.Name):
        assigned = (node for node in ast.walk(function) if isinstance(node, ast.Assign))
        values = [node.value for node in assigned if ast.unparse(node.targets[0]) == level.id]
    names = {node.attr for value in values for node in ast.walk(value) if isinstance(node, ast.Attribute)} & LEVELS
    return bool(names) and names <= QUIET


def _texts(call: ast.Call) -> Iterator[str]:
    """Gives the message of a call: its first text."""
    for argument in call.args:
        text = None
        if isinstance(argument, ast.JoinedStr):
            parts = (each.value if isinstance(each, ast.Constant) else "%s" for each in argument.values)
            text = "".join(map(str, parts))
        elif isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            text = argument.value
        if text is not None:
            yield re.sub(r"(?:%[a-z]|\.\.\.)+\.?", "...", text)
            return


def explained() -> set[Message]:
    """Gives the messages in the first column of the tables; the logger only where the table has it."""
    text = DOCUMENT.read_text().partition("\n## The log\n")[2]
    found = set()
    for row in re.findall(r"^\| (`.*?`) \| ", text, re.MULTILINE):
        cell, _, logger = row.partition("` of `")
        found |= {(message, logger.strip("`")) for message in cell.strip("`").split("`, `")}
    return found


def as_explained(message: Message) -> Message:
    """Gives a message as the tables have it: one without a word of its own is known by its logger."""
    text, logger = message
    if re.search("[A-Za-z]", text):
        return text, ""
    return ("..." if logger == "devagent.api.app" else "...: ..."), logger


LOGGED = sorted(logged())


@pytest.mark.parametrize("message", LOGGED, ids=lambda message: message[0])
def test_each_warning_and_error_is_explained(message: Message) -> None:
    assert as_explained(message) in explained(), f"of {message[1]}"


def test_nothing_is_explained_that_is_never_logged() -> None:
    assert explained() - set(map(as_explained, LOGGED)) == set()


def test_each_alert_has_its_row() -> None:
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    text = DOCUMENT.read_text().partition("\n## Alerts\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`Devagent.*?`) \| ", text, re.MULTILINE)
    assert sorted(rule["alert"] for rule in rules) == sorted(re.findall(r"`(\w+)`", " ".join(rows)))


def commands() -> list[str]:
    """Gives each command of ours that stands in a block of the documents."""
    found = set()
    for path in COMMANDED:
        for block in re.findall(r"^ *```\n(.*?)^ *```$", path.read_text(), re.MULTILINE | re.DOTALL):
            lines = re.findall(r"^ *(devagent .*)$", block, re.MULTILINE)
            found |= {line.partition("  #")[0].partition(" >")[0].strip() for line in lines}
    return sorted(found)


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_documents_is_one_that_there_is(
    command: str, hosts: dict[str, Path], devagent: Devagent, tmp_path: Path
) -> None:
    """What it asks of an agent or a Placement that is not there ends with 1; what nobody knows ends with 2."""
    for name, value in {**IDS, " CONSUMER": f" {IDS['$CONSUMER']}"}.items():
        command = command.replace(name, value)
    command = command.replace("devices.yaml", str(REPOSITORY / "etc/devagent/devices.yaml"))
    command = command.replace("before.json", str(REPOSITORY / "tests/functional/golden/vm.json"))
    arguments = shlex.split(command)[1:]
    where: tuple[str | Path, ...] = ("--root", hosts["vm"])
    if arguments[0] in OF_AGENTS:
        where = ("--socket", tmp_path / "none")
    elif arguments[0] == "report":
        where = (*where, "--config-file", write_configuration(tmp_path, "nobody", "http://127.0.0.1:9"))
    ran = devagent(*arguments, *where)
    assert ran.code != 2, ran.err
