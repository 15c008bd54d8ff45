# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The WSGI application: from a request to a call, and from its answer or failure to a response."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from webob import Request

from devagent.api import handlers, request, versions
from devagent.api.backend import Backend
from devagent.api.caller import Caller
from devagent.api.faults import Code, Fault, of_preparation
from devagent.api.handlers import Answer, Call
from devagent.api.operations import OPERATIONS, Operation
from devagent.api.request_id import answering, new_id
from devagent.api.routing import Routes, check_version
from devagent.errors import (
    DevagentError,
    NoSuchDevice,
    NoSuchPreparation,
    NotPrepared,
    NotReady,
    PreparedOtherwise,
)

LOG: Final = logging.getLogger(__name__)
CALLER: Final = "devagent.caller"
"""Where in the WSGI environment the server puts the Caller; no header of a client can be called so."""

_OPERATION: Final = "devagent.operation"
REQUEST_ID: Final = "X-Openstack-Request-Id"

# What another service calls its own request, for example Nova the building of an instance.
_GLOBAL_ID: Final = re.compile(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

StartResponse = Callable[..., Any]
Counted = Callable[[str, int], None]
"""Gets the name of an operation, `none` for what is no operation of ours, and the HTTP status of an answer."""


class Application:
    """Answers every request, whatever it is; at most `waiting` calls at once may hold a thread by waiting.

    One more is answered at once with what there is then, as if its sender had no patience: others still get through.
    `counted` is told of each answer.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        waiting: int = 8,
        operations: Iterable[Operation] = OPERATIONS,
        counted: Counted = lambda *_: None,
    ) -> None:
        self._backend, self._counted = backend, counted
        self._routes = Routes(operations)
        self._patience = threading.BoundedSemaphore(waiting)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answers one request, as PEP 3333 has it."""
        request_id = new_id()
        with answering(request_id):
            return self._respond(environ, start_response, request_id)

    def _respond(self, environ: dict[str, Any], start_response: StartResponse, request_id: str) -> Iterable[bytes]:
        began = time.monotonic()
        asked = Request(environ)
        headers = {REQUEST_ID: request_id}
        try:
            answer = self._answer(asked, environ[CALLER], headers)
            body = _body(answer)
        except Exception as error:
            answer = _failure(_fault(error, request_id), request_id)
            body = _body(answer)
        self._counted(environ.get(_OPERATION, "none"), answer.status)
        _log(asked, environ[CALLER], answer, len(body), request_id, time.monotonic() - began)
        usual = {"Content-Type": answer.media, "Content-Length": str(len(body)), "Cache-Control": "no-store"}
        if answer.status == HTTPStatus.NO_CONTENT:  # RFC 9110: it has neither
            usual = {"Cache-Control": "no-store"}
        status = f"{answer.status} {HTTPStatus(answer.status).phrase}"
        start_response(status, [*{**usual, **headers, **answer.headers}.items()])
        return [] if asked.method == "HEAD" else [body]

    def _answer(self, asked: Request, caller: Caller, headers: dict[str, str]) -> Answer:
        early = request.has_come(asked)
        content = request.read(asked) if early else b""
        try:
            operation, arguments = self._routes.find(asked.method, _path(asked))
            asked.environ[_OPERATION] = operation.handler
            caller.admit(operation)
        except Fault as fault:
            if not early:  # what stays unread would be taken for the next request
                fault.headers["Connection"] = "close"
            raise
        if not early:
            content = request.read(asked)
        if operation.versioned:
            version = versions.asked(asked.headers.get(versions.HEADER))
            headers[versions.HEADER] = f"{versions.SERVICE} {versions.text(version)}"
            headers["Vary"] = versions.HEADER
            check_version(operation, version)
        body = request.body(operation, asked, content)
        handler: Callable[[Call, Backend], Answer] = getattr(handlers, operation.handler)
        with self._waiting(operation, asked) as wait:
            return handler(Call(caller, arguments, body, request.media(operation, asked), wait), self._backend)

    @contextmanager
    def _waiting(self, operation: Operation, asked: Request) -> Iterator[float]:
        """Gives how long the call may wait, and counts it among those that do."""
        wait = request.wait(asked) if operation.waits else 0.0
        if not wait or not self._patience.acquire(blocking=False):
            yield 0.0
            return
        try:
            yield wait
        finally:
            self._patience.release()


def _path(asked: Request) -> str:
    """Gives the path as text; PEP 3333 hands its bytes over as Latin-1."""
    return str(asked.environ["PATH_INFO"]).encode("latin-1").decode(errors="replace")


def _fault(error: Exception, request_id: str) -> Fault:
    """Gives what to answer for an error; what nobody thought of is logged in full, and its sender told where."""
    if isinstance(error, Fault):
        return error
    if isinstance(error, NoSuchDevice):
        return Fault(404, Code.NO_DEVICE, str(error))
    if isinstance(error, NoSuchPreparation):
        return Fault(404, Code.NO_PREPARATION, str(error))
    if isinstance(error, PreparedOtherwise):
        return Fault(409, Code.PREPARED_OTHERWISE, str(error))
    if isinstance(error, NotPrepared):
        return of_preparation(error)
    if isinstance(error, NotReady):
        return Fault(503, Code.NOT_READY, str(error), headers={"Retry-After": "1"})
    if isinstance(error, DevagentError):
        LOG.warning("%s", error, extra={"request_id": request_id})
        return Fault(500, Code.FAILED, str(error))
    LOG.error("unexpected error", exc_info=error, extra={"request_id": request_id})
    return Fault(500, Code.INTERNAL, f"unexpected error; the agent's log has it with {request_id}")


def _failure(fault: Fault, request_id: str) -> Answer:
    return Answer(fault.document(request_id), fault.status, headers=fault.headers)


def _body(answer: Answer) -> bytes:
    if isinstance(answer.content, bytes):
        return answer.content
    text = answer.content if isinstance(answer.content, str) else json.dumps(answer.content, ensure_ascii=True)
    return text.encode()


def _log(asked: Request, caller: Caller, answer: Answer, size: int, request_id: str, seconds: float) -> None:
    """Notes the call: those that only look at debug level, for monitoring makes one every few seconds."""
    looks = asked.method in ("GET", "HEAD") and answer.status < 500
    LOG.log(
        logging.DEBUG if looks else logging.INFO,
        "%s%s %s: %d, %d bytes, %.1f ms, by %s",
        _of_global(asked),
        quote(asked.method, safe=""),
        quote(_path(asked), safe="/:"),
        answer.status,
        size,
        seconds * 1000,
        caller,
        extra={"request_id": request_id},
    )


def _of_global(asked: Request) -> str:
    stated = asked.headers.get(REQUEST_ID, "")
    return f"for {stated} " if _GLOBAL_ID.fullmatch(stated) else ""
