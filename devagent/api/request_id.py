# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The id of the request that is being answered, for every line of the log that is written for its sake.

A thread pool does not know it by itself: submit(contextvars.copy_context().run, work) takes it along.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_CURRENT: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)


def new_id() -> str:
    """Gives a new request id, in OpenStack's form."""
    return f"req-{uuid.uuid4()}"


def current() -> str | None:
    """Gives the id of the request for whose sake this is done, if it is one."""
    return _CURRENT.get()


@contextmanager
def answering(request_id: str) -> Iterator[None]:
    """Everything done within a `with` is done for that request."""
    token = _CURRENT.set(request_id)
    try:
        yield
    finally:
        _CURRENT.reset(token)
