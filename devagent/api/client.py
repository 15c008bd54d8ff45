# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The client of the commands: HTTP over the agent's unix socket, with the standard library alone.

remote_client.py calls the agents of other hosts in the same way.
"""

from __future__ import annotations

import grp
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from devagent.api.unix_http import NO_CONTENT, Answer, call
from devagent.cause import system_words
from devagent.errors import AgentDenied, AgentError, AgentRefused, AgentUnreachable
from devagent.places import SOCKET

TIMEOUT: Final = 15.0
"""Seconds within which the agent answers what it need not wait for."""

LONGEST_PATH: Final = 107
"""Bytes of a socket's path, without the one that ends it (unix(7), sun_path)."""

Document = dict[str, Any]


class Client:
    """Calls the agent that listens on `path`; every method raises AgentError if it does not do what is asked."""

    _elsewhere = "--socket names another"

    def __init__(self, path: str = SOCKET, *, timeout: float = TIMEOUT) -> None:
        self._where, self._timeout = path, timeout

    def get(self, path: str) -> Document:
        """Reads."""
        return self._call("GET", path)

    def put(self, path: str, body: Document, *, wait: int | None = None) -> Document:
        """Sets; with `wait` it gives up to that many seconds to what may take long."""
        return self._call("PUT", path, body, _patience(wait), wait or 0)

    def delete(self, path: str, *, wait: int | None = None) -> Document:
        """Ends; with `wait` it gives up to that many seconds to what may take long. Empty where nothing is left."""
        return self._call("DELETE", path, None, _patience(wait), wait or 0)

    def post(self, path: str, body: Document | None = None, *, wait: int | None = None) -> Document:
        """Starts or tells something; with `wait` it gives up to that many seconds to what may take long."""
        return self._call("POST", path, body, _patience(wait), wait or 0)

    def _exchange(
        self, method: str, path: str, headers: Mapping[str, str], content: bytes | None, timeout: float
    ) -> Answer:
        """Makes one request. Raises OSError, and ValueError for what is no answer of HTTP."""
        return call(self._where, method, path, headers, content or b"", timeout)

    def _unreachable(self, error: OSError) -> AgentError:
        return _unreachable(self._where, error)

    def _call(
        self,
        method: str,
        path: str,
        body: Document | None = None,
        headers: Mapping[str, str] | None = None,
        wait: int = 0,
    ) -> Document:
        patience = self._timeout + wait
        content = None if body is None else json.dumps(body).encode()
        kind = {} if content is None else {"Content-Type": "application/json"}
        try:
            return _document(self._exchange(method, path, {**kind, **(headers or {})}, content, patience))
        except TimeoutError:
            raise AgentUnreachable(
                f"the agent on {self._where} did not answer within {patience:g} s: systemctl status devagent"
            ) from None
        except OSError as error:
            raise self._unreachable(error) from None
        except ValueError:
            raise AgentUnreachable(f"what answers on {self._where} is no devagent: {self._elsewhere}") from None


def _patience(wait: int | None) -> Mapping[str, str]:
    return {} if wait is None else {"Prefer": f"wait={wait}"}


def _document(answer: Answer) -> Document:
    """Gives what the agent answered. Raises AgentRefused for an error, ValueError for what no agent answers."""
    if answer.status == NO_CONTENT:
        return {}
    found = json.loads(answer.content)
    if not isinstance(found, dict):
        raise ValueError
    if answer.status >= 400:
        raise _refused(answer.status, found)
    return found


def _refused(status: int, found: Document) -> AgentRefused:
    try:
        error = found["errors"][0]
        detail, code, request_id = str(error["detail"]), error["code"], error["request_id"]
    except (LookupError, TypeError):
        raise ValueError from None
    hint = f" [{request_id}]" if status >= 500 else ""
    return AgentRefused(f"the agent: {detail}{hint}", status=status, code=code, request_id=request_id)


def _unreachable(path: str, error: OSError) -> AgentUnreachable | AgentDenied:
    if len(os.fsencode(path)) > LONGEST_PATH:
        return AgentUnreachable(f"{path}: no socket can be there: its path has {LONGEST_PATH} bytes at most")
    if isinstance(error, FileNotFoundError | ConnectionRefusedError | NotADirectoryError):
        return AgentUnreachable(f"no agent answers on {path} (not running?): systemctl status devagent")
    if isinstance(error, PermissionError):
        return AgentDenied(f"permission denied on {path}: {_who_may(path)}")
    if isinstance(error, BlockingIOError):
        return AgentUnreachable(f"the agent on {path} has too many calls waiting: try again")
    if isinstance(error, ConnectionError):
        return AgentUnreachable(f"the agent on {path} ended before it answered: systemctl status devagent")
    return AgentUnreachable(f"{path}: {system_words(error)}")


def _who_may(path: str) -> str:
    with suppress(OSError, KeyError):
        group = Path(path).stat().st_gid
        if group:
            return f"run this as root, or as a member of the group {grp.getgrgid(group).gr_name}"
    return "run this as root"
