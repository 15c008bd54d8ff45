# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the executor asks of the machine, and how the machine may fail it.

DevagentError
├── StepFailed      the step was refused or did not work; nothing of it goes on
│   └── Gone        its device is not there (any more): nothing is left to be changed or brought back
└── StepStuck       it hangs in the kernel: the device is to be left alone until it ends
"""

from __future__ import annotations

from typing import Protocol

from devagent.errors import DevagentError
from devagent.model.plan import Arguments, Step
from devagent.model.preparation import Holder, Refusal, RefusalKind


class StepFailed(DevagentError):
    """A step was refused or did not work; `refusal` says it as the caller is told."""

    def __init__(
        self, kind: RefusalKind, reason: str, address: str | None = None, holders: tuple[Holder, ...] = ()
    ) -> None:
        super().__init__(reason)
        self.refusal = Refusal(kind, reason, address, holders)


class Gone(StepFailed):
    """The device is not there."""

    def __init__(self, address: str) -> None:
        super().__init__(RefusalKind.PERMANENT, f"{address}: there is no such device (any more)", address)


class StepStuck(DevagentError):
    """A step hangs in the kernel and cannot be ended; another host may do better, this device is stuck."""

    def __init__(self, reason: str, address: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(RefusalKind.RETRY, reason, address)


class Machine(Protocol):
    """Does the verbs of devagent.prepare.verbs; any number of calls may run at once.

    `seconds` is how long a call may take; afterwards it is StepFailed, or StepStuck if it cannot be ended.
    Every call may raise StepFailed, Gone or StepStuck.
    """

    def before(self, step: Step, seconds: float) -> Arguments:
        """Gives what the step's `undo` must be to bring back what is there now; not asked of what has no inverse.

        Where the machine would choose something itself (the place of a MIG instance), it is chosen here, and not as
        for a step that was begun and may yet be done. The step comes back with this `undo`, so that it is known also
        after a crash what `do` has made.
        """

    def do(self, step: Step, seconds: float) -> None:
        """Does the step. What is so already, or is half done, is a good start: a step may be done again."""

    def check(self, step: Step, seconds: float) -> bool:
        """Tells whether the machine is as the step makes it, by reading; not asked of what has no inverse."""
