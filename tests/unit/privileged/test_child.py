# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is told of a verb that ends otherwise than it should."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from errno import EIO, ENOTDIR
from typing import Any

import pytest

from devagent.privileged.child import carry_out


def told(error: Exception) -> Any:
    def do() -> Mapping[str, Any]:
        raise error

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        carry_out(do, theirs)
        return json.loads(ours.recv(4096))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NotADirectoryError(ENOTDIR, "Not a directory", "host.tar.xz/sys"), "host.tar.xz/sys: not a directory"),
        (OSError(EIO, "Input/output error"), "input/output error"),
        (TimeoutError("timed out"), "timed out"),
    ],
)
def test_what_the_kernel_refuses_is_told_in_its_words(error: OSError, words: str) -> None:
    assert told(error) == {"failed": words}


def test_a_fault_of_ours_is_told_with_its_kind() -> None:
    assert told(KeyError("driver")) == {"failed": "KeyError: 'driver'"}
