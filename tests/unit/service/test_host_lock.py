# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""One agent per host, wherever it keeps its state."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from devagent.errors import StateError
from devagent.service.host_lock import held

from ..worlds import write

ANOTHER = """
import sys
from pathlib import Path
from devagent.service.host_lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_second_agent_is_refused_and_told_who_the_first_one_is(tmp_path: Path) -> None:
    top = write(tmp_path, {"sys/bus/pci/rescan": ""})
    command = [sys.executable, "-c", ANOTHER, str(top)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "held\n"
        who = rf"process {other.pid} \({re.escape(sys.executable)} -c .* works on this host already"
        with pytest.raises(StateError, match=who), held(top):
            pytest.fail("there are two")
        other.kill()
        other.wait()
        with held(top):
            child = subprocess.run([*command], input="\n", capture_output=True, text=True, check=False)
    assert "StateError" in child.stderr


def test_children_that_outlive_the_agent_do_not_keep_the_lock(tmp_path: Path) -> None:
    top = write(tmp_path, {"sys/bus/pci/rescan": ""})
    program = ANOTHER.replace("    sys.stdin", "    import os\n    if os.fork():\n        os._exit(0)\n    sys.stdin")
    command = [sys.executable, "-c", program, str(top)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as other:
        other.wait()
        with held(top):
            pass


def test_who_may_change_nothing_needs_no_lock(tmp_path: Path) -> None:
    with held(tmp_path), held(tmp_path):
        pass
