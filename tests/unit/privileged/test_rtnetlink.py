# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Messages are those that iproute2 sends and the kernel answers; a socket pair stands in for the kernel."""

from __future__ import annotations

import errno
import os
import socket
import struct

import pytest

from devagent.privileged.rtnetlink import set_vf, vfs


class Kernel:
    """Answers each message as it is told to."""

    def __init__(self, answer: bytes) -> None:
        self.answer, self.asked = answer, b""

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def sendto(self, data: bytes, _: tuple[int, int]) -> None:
        self.asked = data

    def recv(self, _: int) -> bytes:
        return self.answer


def kernel(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> Kernel:
    made = Kernel(answer)
    monkeypatch.setattr("devagent.privileged.rtnetlink.socket.socket", lambda *_: made)
    return made


def attribute(kind: int, *parts: bytes) -> bytes:
    payload = b"".join(parts)
    return struct.pack("=HH", 4 + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)


def acknowledged(number: int = 0) -> bytes:
    return struct.pack("=IHHII", 36, 2, 0, 1, 0) + struct.pack("=i", -number) + bytes(16)


def info(vf: int, mac: str, trust: int) -> bytes:
    numbers = [attribute(kind, struct.pack("=II", vf, value)) for kind, value in ((3, 2500), (9, trust), (4, 1))]
    vlan = attribute(2, struct.pack("=III", vf, 120, 0))
    return attribute(1, attribute(1, struct.pack("=I", vf), bytes.fromhex(mac), bytes(26)), vlan, *numbers)


def link(*infos: bytes) -> bytes:
    body = bytes(16) + attribute(3, b"ens1f0\0") + attribute(22 | 0x8000, *infos)
    return struct.pack("=IHHII", 16 + len(body), 16, 0, 1, 0) + body


def test_vfs_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = kernel(monkeypatch, link(info(0, "fa163e0b7c01", 1), info(1, "000000000000", 0xFFFFFFFF)))
    known = {"vlan": 120, "rate": 2500}
    assert vfs(7) == {
        0: {"mac": "fa:16:3e:0b:7c:01", "trust": 1, **known},
        1: {"mac": "00:00:00:00:00:00", "trust": None, **known},
    }
    # RTM_GETLINK of interface 7 with IFLA_EXT_MASK: VFs, without statistics.
    assert asked.asked == struct.pack("=IHHII BxHiII HHI", 40, 18, 1, 1, 0, 0, 0, 7, 0, 0, 8, 29, 9)


def test_an_interface_without_vfs_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel(monkeypatch, link())
    assert vfs(7) == {}


@pytest.mark.parametrize(
    ("name", "value", "sent"),
    [
        ("mac", "fa:16:3e:0b:7c:01", attribute(1, struct.pack("=I", 3), bytes.fromhex("fa163e0b7c01"), bytes(26))),
        ("vlan", 120, attribute(2, struct.pack("=III", 3, 120, 0))),
        ("trust", 1, attribute(9, struct.pack("=II", 3, 1))),
        ("rate", 2500, attribute(3, struct.pack("=II", 3, 2500))),
    ],
)
def test_one_value_is_set_by_one_message(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str | int, sent: bytes
) -> None:
    asked = kernel(monkeypatch, acknowledged())
    set_vf(7, 3, name, value)
    body = struct.pack("=BxHiII", 0, 0, 7, 0, 0) + attribute(22 | 0x8000, attribute(1 | 0x8000, sent))
    assert asked.asked == struct.pack("=IHHII", 16 + len(body), 19, 5, 1, 0) + body


def test_what_the_kernel_refuses_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel(monkeypatch, acknowledged(errno.EOPNOTSUPP))
    with pytest.raises(OSError, match="not supported") as caught:
        set_vf(7, 3, "trust", 1)
    assert caught.value.errno == errno.EOPNOTSUPP


@pytest.mark.parametrize("answer", [link()[:20] + struct.pack("=HH", 1, 1) * 8, struct.pack("=IHHII", 16, 99, 0, 1, 0)])
def test_an_answer_without_sense_is_an_error(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    kernel(monkeypatch, answer)
    with pytest.raises(OSError) as caught:
        vfs(7)
    assert caught.value.errno == errno.EBADMSG


def test_the_kernel_of_this_host_understands() -> None:
    assert vfs(socket.if_nametoindex("lo")) == {}
    with pytest.raises(OSError) as caught:
        vfs(2**31 - 1)
    assert os.strerror(caught.value.errno or 0) == os.strerror(errno.ENODEV)
