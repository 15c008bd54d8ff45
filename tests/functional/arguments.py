# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Every command with what it takes, as its parser has it: what manual pages and completion are compared with."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from devagent.cli.arguments import parser


@dataclass(frozen=True)
class Command:
    """One command or action: `words` are its own, `next_words` what may follow besides options."""

    words: tuple[str, ...]
    options: frozenset[str]
    next_words: frozenset[str]
    choices: dict[str, set[str]]


def commands() -> list[Command]:
    """Gives all of them, `devagent` itself first."""
    return list(_below(parser(), ()))


def _below(parser: argparse.ArgumentParser, words: tuple[str, ...]) -> Iterator[Command]:
    options: set[str] = set()
    following: set[str] = set()
    choices: dict[str, set[str]] = {}
    below: dict[str, Any] = {}
    for action in parser._actions:
        options.update(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            below = action.choices
        if action.choices is not None and not action.option_strings:
            following.update(action.choices)
        if action.choices is not None:
            choices.update({option: set(action.choices) for option in action.option_strings})
    yield Command(words, frozenset(options), frozenset(following), choices)
    for name, each in below.items():
        yield from _below(each, (*words, name))
