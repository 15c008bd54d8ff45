# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The verbs: everything that the privileged process can be asked to do, with what it accepts as arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from devagent.model.pci import is_address
from devagent.privileged.vf_count import set_vf_count


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


def _address(value: object) -> bool:
    return isinstance(value, str) and is_address(value)


def _count(value: object) -> bool:
    return type(value) is int and 0 <= value <= 0xFFFF  # as wide as NumVFs in the SR-IOV capability


_TABLE: Final = (
    Verb("ping", "does nothing, in a child of its own as every verb", lambda _: {}),
    Verb("stuck", "lists the verbs that hang in the kernel", lambda world: {"stuck": list(world.stuck)}),
    Verb("ended", "says how each service last ended", lambda world: {"ended": dict(world.ended)}),
    Verb(
        "set_vf_count",
        "makes or removes the VFs of a PF",
        lambda world, address, count: set_vf_count(world.root, address, count),
        {"address": _address, "count": _count},
    ),
)

VERBS: Final = {verb.name: verb for verb in _TABLE}
