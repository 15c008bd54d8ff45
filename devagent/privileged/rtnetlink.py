# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The attributes of a NIC's VFs, as the kernel takes and tells them over rtnetlink (linux/rtnetlink.h, if_link.h).

    nlmsghdr | ifinfomsg | IFLA_VFINFO_LIST { IFLA_VF_INFO { IFLA_VF_MAC, IFLA_VF_VLAN, ... } ... }

Reading needs no capability, setting CAP_NET_ADMIN.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Final

_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_INTERFACE: Final = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_ATTRIBUTE: Final = struct.Struct("=HH")  # struct rtattr: length, type

_NETLINK_ROUTE: Final = 0
_REQUEST, _ACK = 1, 4  # NLM_F_*
_ERROR: Final = 2  # NLMSG_ERROR
_NEWLINK, _GETLINK, _SETLINK = 16, 18, 19  # RTM_*
_VFINFO_LIST, _EXT_MASK = 22, 29  # IFLA_*
_VF_INFO: Final = 1
_MAC, _VLAN, _TX_RATE, _TRUST = 1, 2, 3, 9  # IFLA_VF_*
_NESTED: Final = 0x8000
# RTEXT_FILTER_VF, and RTEXT_FILTER_SKIP_STATS: with them many VFs do not fit an attribute of 64 KiB.
_VFS: Final = 1 | 8
_LARGEST: Final = 1 << 20

Values = Mapping[str, str | int | None]


def vfs(interface: int) -> dict[int, dict[str, str | int | None]]:
    """Gives mac, vlan, trust and rate (Mbit/s) of each VF of the interface with this index. Raises OSError.

    None is what its driver does not tell.
    """
    body = _INTERFACE.pack(socket.AF_UNSPEC, 0, interface, 0, 0) + _attribute(_EXT_MASK, struct.pack("=I", _VFS))
    answer = _ask(_GETLINK, _REQUEST, body)
    infos = dict(_attributes(answer[_INTERFACE.size :])).get(_VFINFO_LIST, b"")
    return dict(_vf(info) for kind, info in _attributes(infos) if kind == _VF_INFO)


def set_vf(interface: int, vf: int, name: str, value: str | int) -> None:
    """Sets one value of a VF: mac, vlan (0: none), trust (0, 1) or rate (Mbit/s, 0: any). Raises OSError."""
    info = _attribute(_VF_INFO | _NESTED, _value(vf, name, value))
    body = _INTERFACE.pack(socket.AF_UNSPEC, 0, interface, 0, 0) + _attribute(_VFINFO_LIST | _NESTED, info)
    _ask(_SETLINK, _REQUEST | _ACK, body)


def _value(vf: int, name: str, value: str | int) -> bytes:
    if name == "mac":
        mac = bytes.fromhex(str(value).replace(":", ""))
        return _attribute(_MAC, struct.pack("=I32s", vf, mac))
    if name == "vlan":
        return _attribute(_VLAN, struct.pack("=III", vf, int(value), 0))  # the last: no priority
    # IFLA_VF_TX_RATE leaves the least rate as it is, IFLA_VF_RATE would set it too.
    return _attribute({"trust": _TRUST, "rate": _TX_RATE}[name], struct.pack("=II", vf, int(value)))


def _vf(info: bytes) -> tuple[int, dict[str, str | int | None]]:
    found = dict(_attributes(info))
    vf, mac = struct.unpack_from("=I6s", found[_MAC])
    (vlan,) = struct.unpack_from("=4xI", found[_VLAN])
    (rate,) = struct.unpack_from("=4xI", found[_TX_RATE])
    trust = struct.unpack_from("=4xI", found[_TRUST])[0] if _TRUST in found else None
    return vf, {"mac": mac.hex(":"), "vlan": vlan, "trust": trust if trust in (0, 1) else None, "rate": rate}


def _attribute(kind: int, payload: bytes) -> bytes:
    padding = b"\0" * (-len(payload) % 4)
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(payload), kind) + payload + padding


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, place)
        if length < _ATTRIBUTE.size:
            raise OSError(errno.EBADMSG, "the kernel's answer over rtnetlink makes no sense")
        yield kind & 0x3FFF, data[place + _ATTRIBUTE.size : place + length]
        place += length + (-length % 4)


def _ask(kind: int, flags: int, body: bytes) -> bytes:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE) as kernel:
        kernel.sendto(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body, (0, 0))
        answer = kernel.recv(_LARGEST)
    _, what, *_ = _HEADER.unpack_from(answer)
    if what == _ERROR:
        (number,) = struct.unpack_from("=i", answer, _HEADER.size)
        if number:
            raise OSError(-number, os.strerror(-number))
    elif what != _NEWLINK:
        raise OSError(errno.EBADMSG, f"the kernel answered over rtnetlink with a message of type {what}")
    return answer[_HEADER.size :]
