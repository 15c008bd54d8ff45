# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""One row of the journal: a preparation, and how far its release is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from devagent.model.plan import Plan
from devagent.model.preparation import Preparation, Refusal, State
from devagent.prepare.encoding import decode
from devagent.prepare.verbs import WIPING


@dataclass(frozen=True, slots=True)
class Entry:
    """A preparation with the plan by which it is released, once that has begun, and its steps done."""

    preparation: Preparation
    release: Plan | None = None
    released: frozenset[int] = frozenset()

    @property
    def given(self) -> bool:
        """Whether the consumer has had the devices, so that only a release makes them anybody else's."""
        return bool(self.preparation.handles)

    @property
    def unfinished(self) -> bool:
        """Whether something is left to be done or undone, other than what the consumer asks for."""
        state = self.preparation.state
        return state in (State.PREPARING, State.RELEASING) or (state is State.FAILED and bool(self.preparation.found))

    @property
    def wipes(self) -> bool:
        """Whether its release has still to wipe something: only what was looked at just now is known to be its own."""
        steps = self.release.steps if self.release is not None else ()
        return any(step.verb in WIPING and number not in self.released for number, step in enumerate(steps))

    @property
    def leaving(self) -> bool:
        """Whether it is to be released, and nothing of that has begun."""
        return self.preparation.state is State.RELEASING and self.release is None


def leaving(entry: Entry, error: Refusal) -> Entry | None:
    """Gives what was given as it stands once it is to be released; None for what is on another way."""
    if not entry.given or entry.unfinished:
        return None
    preparation = replace(entry.preparation, state=State.RELEASING, error=error, ended=time.time())
    return replace(entry, preparation=preparation)


def stuck(entry: Entry, consumers: Mapping[str, str]) -> Refusal | None:
    """Gives what is amiss with a device, unless another one has its address by now."""
    preparation, error = entry.preparation, entry.preparation.error
    had = {handle.key for handle in preparation.handles}
    displaced = error is not None and error.address in had and consumers.get(error.address) != preparation.consumer
    return None if displaced else error


def decoded(row: tuple[str, str, str, str], steps: list[tuple[int, int, int, str]]) -> Entry:
    """Gives what the tables have: a row of ENTRIES and those of STEPS."""
    consumer, state, boot_id, document = row
    begun = ((number, bool(done), found) for releasing, number, done, found in steps if not releasing)
    preparation, release = decode(consumer, State(state), boot_id, document, begun)
    return Entry(preparation, release, frozenset(number for releasing, number, *_ in steps if releasing))
