# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads of a request what the handlers need: the body, the patience and the wishes of its sender."""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

from webob import Request

from devagent.api.arrival import GATHERED
from devagent.api.faults import Code, Fault
from devagent.api.operations import Operation
from devagent.api.schemas import mistake

BODY_LIMIT: Final = 1 << 20
"""Bytes: a request with hundreds of devices in it has a tenth of that."""

LONGEST_WAIT: Final = 300.0
USUAL_WAIT: Final = 60.0

# RFC 7240: preferences stand between commas, each with parameters after a semicolon.
_WAIT: Final = re.compile(r'wait\s*=\s*"?([0-9]{1,9})"?', re.ASCII | re.IGNORECASE)


def read(request: Request) -> bytes:
    """Reads the whole body, also where nobody wants it: what stays unread would be taken for the next request.

    Raises Fault.
    """
    try:
        content: bytes = request.body_file.read(BODY_LIMIT + 1)
    except TimeoutError:
        raise _unread(408, Code.TOO_SLOW, "the body did not come in time") from None
    except (OSError, ValueError) as error:  # also of a body that ends early
        if "Too Large" in str(error):
            raise _too_large() from None
        raise _unread(400, Code.MALFORMED, f"the body cannot be read: {error}") from None
    if len(content) > BODY_LIMIT:
        raise _too_large()
    return content


def has_come(request: Request) -> bool:
    """Tells whether the whole body is there, so that nobody waits for it; who is not admitted gets no more patience."""
    return (request.content_length or 0) <= GATHERED and not request.headers.get("Transfer-Encoding")


def _too_large() -> Fault:
    return _unread(413, Code.TOO_LARGE, f"the body is larger than {BODY_LIMIT} bytes")


def _unread(status: int, code: Code, detail: str) -> Fault:
    """Gives a fault after which the connection closes: the rest of the body cannot be told from a request."""
    return Fault(status, code, detail, headers={"Connection": "close"})


def body(operation: Operation, request: Request, content: bytes) -> Any:
    """Gives the body as the operation wants it; None where it wants none. Raises Fault, with what is wrong where."""
    if operation.request is None:
        return None
    if request.content_type != "application/json":
        detail = f"Content-Type is {request.content_type or 'missing'}; expected is application/json"
        raise Fault(415, Code.MEDIA_TYPE, detail)
    try:
        document = json.loads(content.decode(), parse_constant=_no_number)
    except RecursionError:
        raise Fault(400, Code.MALFORMED, "the body is nested too deeply") from None
    except ValueError as error:
        raise Fault(400, Code.MALFORMED, f"the body is not JSON: {error}") from None
    wrong = mistake(operation.request, document)
    if wrong:
        raise Fault(400, Code.INVALID, wrong)
    return document


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def wait(request: Request) -> float:
    """Gives for how many seconds the sender would wait: `Prefer: wait=S`, 0 for `respond-async` alone."""
    asynchronous = False
    for preference in request.headers.get("Prefer", "").split(","):
        stated = preference.partition(";")[0].strip()
        number = _WAIT.fullmatch(stated)
        if number:
            return min(float(number[1]), LONGEST_WAIT)
        asynchronous |= stated.lower() == "respond-async"
    return 0.0 if asynchronous else USUAL_WAIT


def media(operation: Operation, request: Request) -> str:
    """Gives the best of what the operation has and the sender accepts; the first there is where it accepts none."""
    offers = request.accept.acceptable_offers([each.partition(";")[0] for each in operation.media])
    return str(offers[0][0]) if offers else operation.media[0]
