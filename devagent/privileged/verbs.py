# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The verbs: everything that the privileged process can be asked to do, with what it accepts as arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from devagent.model.pci import is_address
from devagent.privileged.binding import bind, driver
from devagent.privileged.mdevs import create_mdev, remove_mdev
from devagent.privileged.resetting import METHODS, reset
from devagent.privileged.vf_attributes import set_vf_attributes, vf_attributes
from devagent.privileged.vf_count import set_vf_count
from devagent.privileged.vgpu_type import set_vgpu_type, vgpu_type


@dataclass(frozen=True, slots=True)
class World:
    """What a verb may know: where the host's tree begins, and how the privileged process's children fare.

    `stuck` are the verbs that hang in the kernel, `ended` says by name how each service last ended.
    """

    root: Path
    stuck: tuple[Mapping[str, Any], ...] = ()
    ended: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: `do(world, **arguments)` gives its result, `arguments` tells of each whether a value will do."""

    name: str
    description: str
    do: Callable[..., dict[str, Any]]
    arguments: Mapping[str, Callable[[object], bool]] = field(default_factory=dict)


Check = Callable[[object], bool]


def _address(value: object) -> bool:
    return isinstance(value, str) and is_address(value)


def _number(largest: int) -> Check:
    return lambda value: type(value) is int and 0 <= value <= largest


def _text(pattern: str) -> Check:
    """Takes only what the whole pattern fits; none of them fits a slash, or begins with a dot."""
    wanted = re.compile(pattern, re.ASCII)
    return lambda value: isinstance(value, str) and wanted.fullmatch(value) is not None


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


_COUNT: Final = _number(0xFFFF)  # as wide as NumVFs in the SR-IOV capability
_DRIVER: Final = _text("[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_UUID: Final = _text("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MDEV: Final = {"address": _address, "type": _text("[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"), "uuid": _UUID}
_VF: Final = {"address": _address, "index": _COUNT}
_VALUES: Final = {
    "mac": _or_none(_text("[0-9a-f]{2}(:[0-9a-f]{2}){5}")),
    "vlan": _or_none(_number(4094)),
    "trust": _or_none(_number(1)),
    "rate": _or_none(_number(0xFFFFFFFF)),
}

_TABLE: Final = (
    Verb("ping", "does nothing, in a child of its own as every verb", lambda _: {}),
    Verb("stuck", "lists the verbs that hang in the kernel", lambda world: {"stuck": list(world.stuck)}),
    Verb("ended", "says how each service last ended", lambda world: {"ended": dict(world.ended)}),
    Verb(
        "set_vf_count",
        "makes or removes the VFs of a PF",
        lambda world, address, count: set_vf_count(world.root, address, count),
        {"address": _address, "count": _COUNT},
    ),
    Verb(
        "bind",
        "binds a function to a driver, or with None to none, and leaves it with an override, or with None without",
        lambda world, **arguments: bind(world.root, **arguments),
        {"address": _address, "driver": _or_none(_DRIVER), "override": _or_none(_DRIVER)},
    ),
    Verb(
        "driver",
        "says which driver and which driver_override a function has",
        lambda world, address: driver(world.root, address),
        {"address": _address},
    ),
    Verb(
        "reset",
        "resets a function, by a method or with None as the kernel prefers",
        lambda world, address, method: reset(world.root, address, method),
        {"address": _address, "method": _or_none(lambda value: value in METHODS)},
    ),
    Verb(
        "create_mdev",
        "makes a mediated device",
        lambda world, **arguments: create_mdev(world.root, **arguments),
        _MDEV,
    ),
    Verb(
        "remove_mdev",
        "removes a mediated device",
        lambda world, **arguments: remove_mdev(world.root, **arguments),
        _MDEV,
    ),
    Verb(
        "vgpu_type",
        "says which vGPU an NVIDIA VF carries",
        lambda world, address: vgpu_type(world.root, address),
        {"address": _address},
    ),
    Verb(
        "set_vgpu_type",
        "makes an NVIDIA VF carry a vGPU, or with 0 none",
        lambda world, **arguments: set_vgpu_type(world.root, **arguments),
        {"address": _address, "type": _number(999_999_999)},
    ),
    Verb(
        "vf_attributes",
        "says MAC, VLAN, trust and rate of a NIC's VF",
        lambda world, address, index: vf_attributes(world.root, address, index),
        _VF,
    ),
    Verb(
        "set_vf_attributes",
        "sets those of MAC, VLAN, trust and rate that are not None, of a NIC's VF",
        lambda world, **arguments: set_vf_attributes(world.root, **arguments),
        _VF | _VALUES,
    ),
)

VERBS: Final = {verb.name: verb for verb in _TABLE}
