# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a verb says when it is refused: in words, and in facts by which a caller decides what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from devagent.errors import VerbFailed
from devagent.model.preparation import Holder, RefusalKind

RETRY: Final = RefusalKind.RETRY
PERMANENT: Final = RefusalKind.PERMANENT


class VerbRefused(VerbFailed):
    """The kernel or the state of the device is against it.

    `kind` says whether another try or another host may do better, `holders` which processes are in the way;
    `gone`: there is no such device.
    """

    def __init__(
        self,
        verb: str,
        message: str,
        kind: RefusalKind = RETRY,
        holders: tuple[Holder, ...] = (),
        *,
        gone: bool = False,
    ) -> None:
        super().__init__(verb, message)
        self.kind, self.holders, self.gone = kind, holders, gone


def as_json(error: VerbFailed) -> dict[str, Any]:
    """Gives the answer that stands for an error."""
    answer: dict[str, Any] = {"failed": str(error)}
    if isinstance(error, VerbRefused):
        answer["kind"], answer["gone"] = error.kind, error.gone
        answer["holders"] = [[each.pid, each.command] for each in error.holders]
    return answer


def from_json(verb: str, answer: Mapping[str, Any]) -> VerbFailed:
    """Gives the error that an answer stands for."""
    if "kind" not in answer:
        return VerbFailed(verb, answer["failed"])
    holders = tuple(Holder(pid=pid, command=command) for pid, command in answer["holders"])
    return VerbRefused(verb, answer["failed"], RefusalKind(answer["kind"]), holders, gone=answer["gone"])
