# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The operator's policy: ordered rules of which the first that matches a device decides."""

from __future__ import annotations

from dataclasses import dataclass

from devagent.model.claim import Kind, Mode


@dataclass(frozen=True, slots=True)
class Match:
    """What a rule looks for; an empty or None field matches everything, all given ones must match.

    `class_code` holds prefixes of the six hex digits; `address`, `interface` and `driver` are shell patterns.
    `vfs` asks whether VFs exist on the device now.
    """

    kind: tuple[Kind, ...] = ()
    vendor: tuple[str, ...] = ()
    device: tuple[str, ...] = ()
    class_code: tuple[str, ...] = ()
    address: tuple[str, ...] = ()
    driver: tuple[str, ...] = ()
    interface: tuple[str, ...] = ()
    numa_node: tuple[int, ...] = ()
    vfs: bool | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; a `mode` of None means: leave the device alone.

    `resource_class` None takes the driver's; `vf_indexes` None gives every VF; `vf_count` is how many
    VFs the operator wants to exist.
    """

    name: str
    match: Match
    mode: Mode | None
    resource_class: str | None = None
    traits: frozenset[str] = frozenset()
    vf_indexes: frozenset[int] | None = None
    vf_count: int | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules in order, and where they come from (a path, or `built in`)."""

    rules: tuple[Rule, ...]
    origin: str
