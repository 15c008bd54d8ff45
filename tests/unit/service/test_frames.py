# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A message arrives whole, in however many pieces, or not at all."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from devagent.service import frames


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_what_is_sent_arrives(pair: tuple[socket.socket, socket.socket], size: int) -> None:
    message = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    def twice() -> None:
        frames.send(pair[0], message)
        frames.send(pair[0], message)

    sender = threading.Thread(target=twice)
    sender.start()
    assert [frames.receive(pair[1]) for _ in range(2)] == [message, message]
    sender.join()


@pytest.mark.parametrize("sent", [b"", b"\x05", b"\x05\0\0\0\0\0\0\0abc"])
def test_an_end_is_no_message(pair: tuple[socket.socket, socket.socket], sent: bytes) -> None:
    pair[0].sendall(sent)
    pair[0].close()
    assert frames.receive(pair[1]) is None


@pytest.mark.parametrize("sent", [b"", b"\x05\0\0\0\0\0\0\0abc"])
def test_half_a_message_is_waited_for_until_its_time(pair: tuple[socket.socket, socket.socket], sent: bytes) -> None:
    pair[0].sendall(sent)
    with pytest.raises(TimeoutError):
        frames.receive(pair[1], time.monotonic() + 0.1)
