# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What may go wrong with a request to Placement, for the wire of cloud.py."""

from __future__ import annotations

import json
from collections.abc import Callable

import requests
from keystoneauth1 import exceptions as ksa

from .cloud import Fault

Send = Callable[[], requests.Response]


def answer(status: int, code: str = "placement.undefined_code", later: str = "") -> requests.Response:
    response = requests.Response()
    response.status_code, response.url = status, "http://placement"
    if later:
        response.headers["Retry-After"] = later
    response._content = json.dumps({"errors": [{"status": status, "code": code, "detail": "injected"}]}).encode()
    return response


def answers(status: int, code: str = "placement.undefined_code", *, sent: bool = False) -> Fault:
    """Gives a wrong answer; `sent` lets Placement do what was asked all the same."""

    def fault(send: Send) -> requests.Response:
        if sent:
            send()
        return answer(status, code)

    return fault


def fails(error: Exception, *, sent: bool = False) -> Fault:
    """Gives no answer."""

    def fault(send: Send) -> requests.Response:
        if sent:
            send()
        raise error

    return fault


FAULTS = {
    "409": answers(409, "placement.concurrent_update"),
    "500": answers(500),
    "503 but done": answers(503, sent=True),
    "time-out but done": fails(ksa.ConnectTimeout("injected"), sent=True),
    "reset": fails(ConnectionResetError("injected")),
}
