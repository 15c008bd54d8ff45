# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a consumer may ask of a NIC's VF, checked before anything is done: MAC address, VLAN, trust and rate.

{"mac": "fa:16:3e:0b:7c:01", "vlan": "120", "trust": "true", "rate": "2500"}      rate in Mbit/s
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from devagent.model.claim import Kind, NetFacts
from devagent.model.plan import Step
from devagent.prepare.functions import Ask
from devagent.prepare.refused import Refused, invalid, permanent
from devagent.prepare.view import Part

NAMES: Final = ("mac", "vlan", "trust", "rate")

NEUTRAL: Final[Mapping[str, str | int]] = {"mac": "00:00:00:00:00:00", "vlan": 0, "trust": 0, "rate": 0}
"""How a VF is when nobody has set anything: the kernel takes a MAC of zeros for none (ip-link(8))."""

_MAC: Final = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
# The two other VLAN ids, 0 and 4095, are reserved (IEEE 802.1Q); 0 means none here.
_VLAN_MAX: Final = 4094
# struct ifla_vf_rate has 32 bits.
_RATE_MAX: Final = 0xFFFFFFFF


def attributes(ask: Ask, count: int) -> dict[str, str | int]:
    """Gives the values to set, empty where nothing is asked for; raises Refused for what cannot be."""
    asked = {name: text for name, text in ask.group.properties.items() if name in NAMES}
    if not asked:
        return {}
    address = ask.device.address
    if ask.device.claim.kind is not Kind.NIC:
        raise Refused(
            invalid(f"{', '.join(sorted(asked))}: only a NIC's VF has that, and {address} gives none", address)
        )
    if "mac" in asked and count > 1:
        raise Refused(invalid(f"mac: {count} VFs cannot have one MAC address; ask in {count} groups", address))
    values = {name: _READ[name](text) for name, text in asked.items()}
    _possible(ask.device.claim.net or NetFacts(), values, address)
    return values


def attribute_steps(ask: Ask, part: Part, values: Mapping[str, str | int]) -> list[Step]:
    """Gives the step that sets the values of one VF through its PF; none where nothing is asked for."""
    if not values:
        return []
    index = part.index
    before = {name: NEUTRAL[name] if name in values else None for name in NAMES}
    after = {name: values.get(name) for name in NAMES}
    return [Step("set_vf_attributes", ask.device.address, {"index": index, **after}, {"index": index, **before})]


def _possible(net: NetFacts, values: Mapping[str, str | int], address: str) -> None:
    if not net.interfaces:
        raise Refused(permanent(f"{address} has no network interface on the host to set its VFs by", address))
    if values.get("vlan") and net.eswitch == "switchdev":
        reason = f"{address} is in switchdev mode: the VLAN of a VF is set on its representor, not here"
        raise Refused(permanent(reason, address))
    speeds = [interface.speed_mbps for interface in net.interfaces if interface.speed_mbps is not None]
    rate = values.get("rate", 0)
    if speeds and isinstance(rate, int) and rate > max(speeds):
        raise Refused(permanent(f"{address} runs at {max(speeds)} Mbit/s: it has no {rate}", address))


def _mac(text: str) -> str:
    mac = text.lower()
    if not _MAC.fullmatch(mac) or int(mac[:2], 16) & 1 or not mac.strip("0:"):
        raise Refused(invalid(f"mac: {text!r} is no unicast MAC address such as fa:16:3e:0b:7c:01"))
    return mac


def _vlan(text: str) -> int:
    return _number("vlan", text, _VLAN_MAX)


def _rate(text: str) -> int:
    return _number("rate", text, _RATE_MAX)


def _trust(text: str) -> int:
    if text not in ("true", "false"):
        raise Refused(invalid(f"trust: {text!r} is neither true nor false"))
    return int(text == "true")


def _number(name: str, text: str, most: int) -> int:
    if not re.fullmatch("[0-9]{1,10}", text) or int(text) > most:
        raise Refused(invalid(f"{name}: {text!r} is no number from 0 to {most}"))
    return int(text)


_READ: Final[Mapping[str, Callable[[str], str | int]]] = {"mac": _mac, "vlan": _vlan, "trust": _trust, "rate": _rate}
