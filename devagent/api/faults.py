# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the API answers when it cannot do what was asked, in the form of the OpenStack API guidelines."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from devagent.errors import NotPrepared


class Code(enum.StrEnum):
    """What programs may rely on. Do not change the strings."""

    MALFORMED = "devagent.request.malformed"
    INVALID = "devagent.request.invalid"
    MEDIA_TYPE = "devagent.request.media_type"
    TOO_LARGE = "devagent.request.too_large"
    TOO_SLOW = "devagent.request.timeout"
    PATH_UNKNOWN = "devagent.path.unknown"
    METHOD_UNKNOWN = "devagent.method.unknown"
    VERSION_MALFORMED = "devagent.version.malformed"
    VERSION_UNKNOWN = "devagent.version.unknown"
    UNAUTHENTICATED = "devagent.unauthenticated"
    NO_KEYSTONE = "devagent.keystone.unreachable"
    FORBIDDEN = "devagent.forbidden"
    NO_DEVICE = "devagent.device.unknown"
    NO_PREPARATION = "devagent.preparation.unknown"
    PREPARED_OTHERWISE = "devagent.preparation.other_request"
    PREPARE_RETRY = "devagent.preparation.retry"
    PREPARE_PERMANENT = "devagent.preparation.permanent"
    PREPARE_INVALID = "devagent.preparation.invalid"
    NOT_READY = "devagent.not_ready"
    UNAVAILABLE = "devagent.unavailable"
    FAILED = "devagent.failed"
    INTERNAL = "devagent.internal"


# For what the server itself refuses, before a request is one.
_BY_STATUS: Mapping[int, Code] = {
    408: Code.TOO_SLOW,
    413: Code.TOO_LARGE,
    414: Code.TOO_LARGE,
    500: Code.INTERNAL,
    503: Code.UNAVAILABLE,
}


# What can be done about it: ask again, go to another host, ask for something else.
_BY_KIND: Mapping[str, tuple[int, Code]] = {
    "retry": (503, Code.PREPARE_RETRY),
    "permanent": (422, Code.PREPARE_PERMANENT),
    "invalid": (400, Code.PREPARE_INVALID),
}


class Fault(Exception):
    """A call that is answered with an error: `detail` says what is wrong and what would be right."""

    def __init__(
        self,
        status: int,
        code: Code,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.headers, self.more = dict(headers or {}), dict(more or {})

    def document(self, request_id: str) -> dict[str, Any]:
        """Gives the body of the answer."""
        error = {
            "status": self.status,
            "code": self.code.value,
            "title": HTTPStatus(self.status).phrase,
            "detail": self.detail,
            "request_id": request_id,
            **self.more,
        }
        return {"errors": [error]}


def of_preparation(error: NotPrepared) -> Fault:
    """Gives the fault of a refused preparation, with what its caller can do about it and who holds the device."""
    status, code = _BY_KIND[error.kind]
    headers = {"Retry-After": "5"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    more = {"type": error.kind, "address": error.address, "holders": list(error.holders)}
    return Fault(status, code, str(error), headers=headers, more=more)


def of_status(status: int, detail: str) -> Fault:
    """Gives the fault for a request that never became one: of the server below us only the status is known."""
    headers = {"Retry-After": "5"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return Fault(status, _BY_STATUS.get(status, Code.MALFORMED), detail or HTTPStatus(status).phrase, headers=headers)
