# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Bash completes what the command takes, all of it and nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .arguments import Command, commands
from .conftest import REPOSITORY

COMPLETION = REPOSITORY / "etc/bash_completion.d/devagent"
ASK = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _devagent; printf "%s\\n" "${COMPREPLY[@]}"'
ALL = commands()


def completed(*words: str, folder: Path = REPOSITORY) -> set[str]:
    """Gives what bash offers for the last of the words."""
    ran = subprocess.run(
        ["bash", "-c", ASK, COMPLETION, *words], capture_output=True, text=True, check=True, timeout=60, cwd=folder
    )
    assert ran.stderr == ""
    return set(ran.stdout.split())


@pytest.mark.parametrize("command", ALL, ids=lambda command: " ".join(command.words) or "devagent")
def test_each_command_is_offered_its_options_and_words(command: Command) -> None:
    assert completed("devagent", *command.words, "") == command.options | command.next_words


@pytest.mark.parametrize("name", ["agent", "listener"])
def test_the_daemons_have_names_of_their_own(name: str) -> None:
    assert completed(f"/usr/bin/devagent-{name}", "") == completed("devagent", name, "")


def test_the_outputs_of_a_command_are_offered_as_it_has_them() -> None:
    for command in ALL:
        for option, choices in command.choices.items():
            assert completed("devagent", *command.words, option, "") == choices


def test_an_option_that_takes_a_file_is_offered_files(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").touch()
    assert completed("devagent", "discover", "--policy", "ru", folder=tmp_path) == {"rules.yaml"}


def test_what_was_begun_is_ended() -> None:
    assert completed("devagent", "dis") == {"discover"}
