# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A VF is set through the one interface of its PF that knows it, value by value; a NIC behind a socket stands in."""

from __future__ import annotations

import errno
import struct
from pathlib import Path
from typing import Any

import pytest

from devagent.model.preparation import RefusalKind
from devagent.privileged.refused import VerbRefused
from devagent.privileged.vf_attributes import set_vf_attributes, vf_attributes

from ..worlds import write

PF = "0000:3b:00.0"
FOLDER = f"sys/bus/pci/devices/{PF}"
BARE = {"mac": "00:00:00:00:00:00", "vlan": 0, "trust": 0, "rate": 0}
WANTED: dict[str, Any] = {"mac": "fa:16:3e:0b:7c:01", "vlan": 120, "trust": 1, "rate": 2500}
NAMES = {1: "mac", 2: "vlan", 3: "rate", 9: "trust"}


class Nic:
    """Keeps the attributes of two VFs of interface 7, and notes what is set; `refuses` has the errno by name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **refuses: int) -> None:
        self.vfs: list[dict[str, Any]] = [dict(BARE), dict(BARE)]
        self.refuses, self.deaf, self.silent, self.set = refuses, False, False, list[str]()
        self.answer = b""
        monkeypatch.setattr("devagent.privileged.rtnetlink.socket.socket", lambda *_: self)

    def __enter__(self) -> Nic:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def sendto(self, data: bytes, _: tuple[int, int]) -> None:
        _, kind, _, _, _, interface = struct.unpack_from("=IHHII4xi", data)
        number = 0
        if kind == 19:
            number = self._store(data[40:])
            self.answer = struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -number)
            return
        infos = b"".join(self._info(*each) for each in enumerate(self.vfs)) if interface == 7 else b""
        self.answer = struct.pack("=IHHII16x", 0, 16, 0, 1, 0) + self._attribute(22, infos)

    def recv(self, _: int) -> bytes:
        return self.answer

    def _store(self, data: bytes) -> int:
        _, kind, vf = struct.unpack_from("=HHI", data)
        name = NAMES[kind]
        self.set.append(name)
        if name in self.refuses:
            return self.refuses[name]
        value = data[8:14].hex(":") if name == "mac" else struct.unpack_from("=I", data, 8)[0]
        if not self.deaf:
            self.vfs[vf][name] = value
        return 0

    def _info(self, vf: int, has: dict[str, Any]) -> bytes:
        trust = 0xFFFFFFFF if self.silent else has["trust"]
        mac = self._attribute(1, struct.pack("=I32s", vf, bytes.fromhex(has["mac"].replace(":", ""))))
        vlan = self._attribute(2, struct.pack("=III", vf, has["vlan"], 0))
        rest = ((3, has["rate"]), (9, trust))
        return self._attribute(
            1, mac + vlan + b"".join(self._attribute(kind, struct.pack("=II", vf, value)) for kind, value in rest)
        )

    @staticmethod
    def _attribute(kind: int, payload: bytes) -> bytes:
        return struct.pack("=HH", 4 + len(payload), kind) + payload


def host(top: Path) -> Path:
    """Writes a PF with a representor, which knows no VFs, before its own interface."""
    net = {f"{FOLDER}/net/eth{number}/ifindex": f"{number}\n" for number in (5, 7)}
    return write(top / "host", net)


def refused(top: Path, index: int = 1, **values: Any) -> VerbRefused:
    with pytest.raises(VerbRefused) as caught:
        set_vf_attributes(top, PF, index, **{**dict.fromkeys(BARE), **values})
    return caught.value


def test_all_values_of_one_vf_are_set_and_no_other_vf_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nic = Nic(monkeypatch)
    assert set_vf_attributes(host(tmp_path), PF, 1, **WANTED) == WANTED
    assert nic.vfs == [BARE, WANTED]
    assert vf_attributes(tmp_path / "host", PF, 0) == BARE


def test_what_is_none_or_so_already_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nic = Nic(monkeypatch)
    set_vf_attributes(host(tmp_path), PF, 1, mac=None, vlan=120, trust=0, rate=None)
    assert nic.set == ["vlan"]


@pytest.mark.parametrize(
    ("number", "kind", "says"),
    [
        (errno.EPERM, "permanent", "needs CAP_NET_ADMIN"),
        (errno.EOPNOTSUPP, "permanent", "its driver cannot set that"),
        (errno.EINVAL, "permanent", "does not take that value"),
        (errno.EBUSY, "retry", "answered (device or resource busy)"),
    ],
)
def test_which_value_was_refused_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: str, says: str
) -> None:
    nic = Nic(monkeypatch, trust=number)
    error = refused(host(tmp_path), **WANTED)
    assert error.kind == kind
    assert str(error).startswith(f"{PF}: VF 1: trust 1: ")
    assert says in str(error)
    assert nic.set == ["mac", "vlan", "trust"]


def test_a_driver_that_takes_a_value_and_does_not_keep_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Nic(monkeypatch).deaf = True
    assert "VF 1 has vlan 0, though 120 was reported set" in str(refused(host(tmp_path), vlan=120))


def test_what_a_driver_does_not_tell_is_set_and_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nic = Nic(monkeypatch)
    nic.silent = True
    assert set_vf_attributes(host(tmp_path), PF, 1, **WANTED)["trust"] is None
    assert nic.vfs[1]["trust"] == 1


def test_a_vf_that_is_not_there_and_a_pf_without_interface_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Nic(monkeypatch)
    assert "knows no VF 2" in str(refused(host(tmp_path), 2, vlan=1))
    bare = refused(write(tmp_path / "b", {f"{FOLDER}/vendor": "0x8086\n"}), vlan=1)
    assert "has no network interface" in str(bare)
    assert bare.kind is RefusalKind.PERMANENT
    assert refused(write(tmp_path / "c", {"sys/bus/pci/devices/": ""}), vlan=1).gone
