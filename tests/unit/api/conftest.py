# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""An agent, and a place for its socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .agents import Agent, place


@pytest.fixture
def agent() -> Agent:
    return Agent(now={"state": "running"})


@pytest.fixture
def path() -> Iterator[Path]:
    with place() as found:
        yield found
