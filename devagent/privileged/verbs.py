# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The verbs: everything that the privileged process can be asked to do, with what it accepts as arguments."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from devagent.model.pci import is_address
from devagent.privileged.binding import bind, driver
from devagent.privileged.images import FOLDER
from devagent.privileged.mdevs import create_mdev, remove_mdev
from devagent.privileged.mig import create_mig, destroy_mig, mig_instances, mig_placement
from devagent.privileged.mig_mode import mig_mode, set_mig_mode
from devagent.privileged.programming import fpga_image, program_fpga
from devagent.privileged.resetting import METHODS, reset
from devagent.privileged.scrubbing import HOWS, can_scrub, scrub
from devagent.privileged.vf_attributes import set_vf_attributes, vf_attributes
from devagent.privileged.vf_count import set_vf_count
from devagent.privileged.vgpu_type import set_vgpu_type, vgpu_type


@dataclass(frozen=True, slots=True)
class World:
    """What a verb may know: where the host's tree begins, and how the privileged process's children fare.

    `stuck` are the verbs that hang in the kernel, `ended` says by name how each service last ended. `until`
    (time.monotonic) is when the verb is killed. `images` gives the folder with images for FPGAs, once a verb wants one.
    """

    root: Path
    stuck: tuple[Mapping[str, Any], ...] = ()
    ended: Mapping[str, str] = field(default_factory=dict)
    until: float = math.inf
    images: Callable[[], Path] = lambda: FOLDER


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


def _some(check: Check, most: int) -> Check:
    return lambda value: isinstance(value, list) and len(value) <= most and all(map(check, value))


_COUNT: Final = _number(0xFFFF)  # as wide as NumVFs in the SR-IOV capability
_DRIVER: Final = _text("[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_UUID: Final = _text("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MDEV: Final = {"address": _address, "type": _text("[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"), "uuid": _UUID}
_GPU: Final = {"address": _address}
_PROFILE: Final = r"[0-9]g\.[0-9]{1,4}gb([+-][a-z][a-z.]{0,7}){0,2}"
_MIG: Final = {"address": _address, "profile": _text(_PROFILE)}
_PLACES: Final = _some(_text(rf"{_PROFILE}@([0-9]|[1-5][0-9]|6[0-3])"), 16)
_SLICE: Final = _number(63)
_WIPE: Final = {"address": _address, "how": lambda value: value in HOWS}
_VF: Final = {"address": _address, "index": _COUNT}
_VALUES: Final = {
    "mac": _or_none(_text("[0-9a-f]{2}(:[0-9a-f]{2}){5}")),
    "vlan": _or_none(_number(4094)),
    "trust": _or_none(_number(1)),
    "rate": _or_none(_number(0xFFFFFFFF)),
}

_IMAGE: Final = {
    "address": _address,
    "region": _or_none(_text("region[0-9]{1,9}")),
    "port": _or_none(_number(255)),
    "digest": _text("[0-9a-f]{64}"),
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
        "scrub",
        "wipes what a tenant has left on a device",
        lambda world, address, how, serial: scrub(world.root, address, how, world.until, serial),
        {**_WIPE, "serial": _or_none(_text("[A-Za-z0-9][A-Za-z0-9 _.:+-]{0,19}"))},
    ),
    Verb(
        "can_scrub",
        "says whether a device could be wiped so",
        lambda world, address, how: can_scrub(world.root, address, how, world.until),
        _WIPE,
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
    Verb("mig_mode", "says whether MIG is on", lambda world, address: mig_mode(world.root, address), _GPU),
    Verb(
        "set_mig_mode",
        "turns MIG on or off",
        lambda world, **arguments: set_mig_mode(world.root, **arguments),
        _GPU | {"enabled": _number(1)},
    ),
    Verb("mig_instances", "lists MIG instances", lambda world, address: mig_instances(world.root, address), _GPU),
    Verb(
        "mig_placement",
        "says where a MIG instance of a profile can be made now, beside those that are about to be (1g.10gb@6)",
        lambda world, **arguments: mig_placement(world.root, **arguments),
        _MIG | {"promised": _PLACES},
    ),
    Verb(
        "create_mig",
        "makes a MIG instance at a memory slice, or with None where there is room",
        lambda world, **arguments: create_mig(world.root, **arguments),
        _MIG | {"placement": _or_none(_SLICE)},
    ),
    Verb(
        "destroy_mig",
        "removes the MIG instance of a profile at a memory slice",
        lambda world, **arguments: destroy_mig(world.root, **arguments),
        _MIG | {"placement": _SLICE},
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
    Verb(
        "fpga_image",
        "tells whether an FPGA has the image with this digest, as far as it tells",
        lambda world, **arguments: fpga_image(world.root, world.images(), **arguments),
        _IMAGE,
    ),
    Verb(
        "program_fpga",
        "programs the image with this digest into an FPGA",
        lambda world, **arguments: program_fpga(world.root, world.images(), **arguments),
        _IMAGE | {"interface": _or_none(_text("[0-9a-f]{32}"))},
    ),
)

VERBS: Final = {verb.name: verb for verb in _TABLE}
