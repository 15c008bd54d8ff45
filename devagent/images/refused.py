# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Why an image cannot be had, as the caller is told.

DevagentError
└── NoImage             `refusal` says whether to ask again (retry), elsewhere (permanent), or for another one (invalid)
    └── Interrupted     it ended on its way; another try at once may do better
        └── Away        nothing answers where it comes from
"""

from __future__ import annotations

from devagent.errors import DevagentError
from devagent.model.preparation import Refusal, RefusalKind


class NoImage(DevagentError):
    """An image cannot be had."""

    def __init__(self, kind: RefusalKind, reason: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(kind, reason)


class Interrupted(NoImage):
    """It did not arrive whole, or not as it should be."""

    def __init__(self, reason: str, kind: RefusalKind = RefusalKind.RETRY) -> None:
        super().__init__(kind, reason)


class Away(Interrupted):
    """The service that has it cannot be reached, or not now."""


def invalid(reason: str) -> NoImage:
    """Says that no host has such an image."""
    return NoImage(RefusalKind.INVALID, reason)


def permanent(reason: str) -> NoImage:
    """Says that this host cannot have it as it is set up."""
    return NoImage(RefusalKind.PERMANENT, reason)


def retry(reason: str) -> NoImage:
    """Says that it may be had later."""
    return NoImage(RefusalKind.RETRY, reason)
