# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""One consumer's devices on their way from allocated to ready and back, and why they may be refused."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from devagent.model.handle import Handle
from devagent.model.plan import Arguments, Group, Plan
from devagent.model.term import Term


class State(enum.StrEnum):
    """How far a preparation is; one that is gone has none."""

    PREPARING = "preparing"
    PREPARED = "prepared"
    RELEASING = "releasing"
    FAILED = "failed"


class RefusalKind(enum.StrEnum):
    """What a caller can do about it: ask again later, go to another host, or ask for something else."""

    RETRY = "retry"
    PERMANENT = "permanent"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a device: the consumer of another preparation, or a process."""

    consumer: str | None = None
    pid: int | None = None
    command: str | None = None

    def __str__(self) -> str:
        """Gives `qemu-system-x86 (pid 4711), consumer 5e1f...`."""
        process = f"{self.command} (pid {self.pid})" if self.pid is not None else None
        return ", ".join(filter(None, (process, f"consumer {self.consumer}" if self.consumer else None)))


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no device; `reason` is a sentence, `address` the device that it is about, if it is one."""

    kind: RefusalKind
    reason: str
    address: str | None = None
    holders: tuple[Holder, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an image is that is fetched for a consumer: of `total` bytes, where that is known, `bytes` are here."""

    bitstream: str
    bytes: int
    total: int | None


@dataclass(frozen=True, slots=True)
class Preparation:
    """All that is known of one consumer's devices; times are epoch seconds, `timings` seconds by phase.

    `done` are the numbers of the plan's steps that were done and verified, `found` what each of these saw
    before, which counts more than what the plan expected. `handles` are empty until all steps are done.
    `boot_id` is the boot during which it was made. `deadline` is when it must be ready, `expires` when it
    is released unless a virtual machine has used it by then, `ended` when its release began. `term` is what counts of
    `expires`, which clocks may make wrong.
    """

    consumer: str
    groups: tuple[Group, ...]
    plan: Plan
    state: State
    created: float
    boot_id: str
    deadline: float
    project_id: str | None = None
    done: tuple[int, ...] = ()
    found: Mapping[int, Arguments] = field(default_factory=dict)
    handles: tuple[Handle, ...] = ()
    expires: float | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    error: Refusal | None = None
    ended: float | None = None
    term: Term | None = None


@dataclass(frozen=True, slots=True)
class Holdings:
    """Who has what, by the journal: nothing of it may be given to another.

    `consumers` are the holders by the key of what they have: a PCI address or a mediated device's UUID;
    `parents` has the address of the function behind each such UUID. `released` says, by address, when a
    function was last given back (epoch seconds), `stuck` what hangs on it, in words. `unwiped` has, by what the book
    of health calls a device, the functions of it that have still to be wiped, each with the consumer who was given it.
    """

    consumers: Mapping[str, str] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)
    released: Mapping[str, float] = field(default_factory=dict)
    stuck: Mapping[str, str] = field(default_factory=dict)
    unwiped: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Overview:
    """All preparations of the journal in a few numbers; times are epoch seconds.

    `stuck` are the devices on which something hangs, `releasing_since` is when the oldest release that has not ended
    began, `mistrusted_since` since when the journal is not known to have all that was promised.
    """

    states: Mapping[State, int] = field(default_factory=dict)
    stuck: int = 0
    releasing_since: float | None = None
    mistrusted_since: float | None = None
