# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What was given up is gone from every set, for the process and for all that it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

SETS = ("CapInh", "CapPrm", "CapEff", "CapAmb")
SHOW = "print(open('/proc/self/status').read())"
DROP = "from devagent.privileged import capabilities; capabilities.drop()"
KEEP = (
    "from devagent.privileged import capabilities as c; c.keep((c.Capability.DAC_READ_SEARCH, c.Capability.SYS_PTRACE))"
)
BOTH = 1 << 2 | 1 << 19


def status(code: str, *before: str) -> dict[str, str]:
    """Runs code in a process of its own and gives what the kernel says of it afterwards."""
    lines = subprocess.run([*before, sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return dict(line.split(":\t", 1) for line in lines.splitlines() if ":\t" in line)


def sets(said: dict[str, str]) -> list[int]:
    return [int(said[name], 16) for name in SETS]


def own() -> int:
    return int(status(SHOW)["CapPrm"], 16)


def test_all_are_dropped() -> None:
    said = status(f"{DROP}; {SHOW}")
    assert sets(said) == [0, 0, 0, 0]
    assert said["NoNewPrivs"] == "1"


def test_what_is_started_afterwards_has_no_more() -> None:
    """A root user's programs would have them all again."""
    run = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SHOW!r}], check=True)"
    assert sets(status(f"{DROP}; {run}")) == [0, 0, 0, 0]
    assert [each & ~BOTH for each in sets(status(f"{KEEP}; {run}"))] == [0, 0, 0, 0]


def test_threads_that_are_started_afterwards_have_none() -> None:
    show = "print(open('/proc/thread-self/status').read())"
    run = f"import threading; t = threading.Thread(target=exec, args=({show!r},)); t.start(); t.join()"
    assert sets(status(f"{DROP}; {run}")) == [0, 0, 0, 0]


def test_some_are_kept_if_they_were_held() -> None:
    held = own() & BOTH
    assert sets(status(f"{KEEP}; {SHOW}")) == [0, held, held, 0]


def test_dropping_twice_is_dropping_once() -> None:
    assert sets(status(f"{DROP}; {DROP}; {SHOW}")) == [0, 0, 0, 0]
    assert sets(status(f"{DROP}; {KEEP}; {SHOW}")) == [0, 0, 0, 0]


@pytest.fixture
def unprivileged() -> Iterator[tuple[str, ...]]:
    """Gives what starts a program as nobody, as systemd does with `User=` and `AmbientCapabilities=`."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    caps = "+dac_read_search,+sys_ptrace"
    yield "setpriv", "--reuid=65534", "--clear-groups", f"--inh-caps={caps}", f"--ambient-caps={caps}"


def test_what_systemd_gave_is_dropped(unprivileged: tuple[str, ...]) -> None:
    assert sets(status(SHOW, *unprivileged)) == [BOTH] * 4, "the test itself must begin with both"
    assert sets(status(f"{DROP}; {SHOW}", *unprivileged)) == [0, 0, 0, 0]
    assert sets(status(f"{KEEP}; {SHOW}", *unprivileged)) == [0, BOTH, BOTH, 0]


def test_an_ordinary_user_has_nothing_to_drop(unprivileged: tuple[str, ...]) -> None:
    said = status(f"{DROP}; {SHOW}", "setpriv", "--reuid=65534", "--clear-groups")
    assert sets(said) == [0, 0, 0, 0]
