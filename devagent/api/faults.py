# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the API answers when it cannot do what was asked, in the form of the OpenStack API guidelines."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any


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
    FORBIDDEN = "devagent.forbidden"
    NO_DEVICE = "devagent.device.unknown"
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


class Fault(Exception):
    """A call that is answered with an error: `detail` says what is wrong and what would be right."""

    def __init__(
        self,
        status: int,
        code: Code,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, str] | None = None,
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


def of_status(status: int, detail: str) -> Fault:
    """Gives the fault for a request that never became one: of the server below us only the status is known."""
    headers = {"Retry-After": "5"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return Fault(status, _BY_STATUS.get(status, Code.MALFORMED), detail or HTTPStatus(status).phrase, headers=headers)
