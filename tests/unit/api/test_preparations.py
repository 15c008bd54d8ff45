# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""How preparations look over HTTP: what is accepted, what is answered, and how it is refused."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from devagent.api.app import Application
from devagent.api.schemas import mistake
from devagent.errors import NotPrepared

from .agents import GUEST, Agent, ask

CONSUMER = str(uuid.uuid4())
PATH = f"/v1/preparations/{CONSUMER}"
GROUP: dict[str, Any] = {"provider": str(uuid.uuid4()), "resources": {"SRIOV_NET_VF": 1}}
BODY = {"groups": [GROUP]}


def test_what_is_ready_is_200_and_what_goes_on_is_202_with_where_to_look(agent: Agent) -> None:
    application = Application(agent)
    assert ask(application, "PUT", PATH, BODY).status_int == 200
    answer = ask(application, "PUT", PATH, BODY, headers={"Prefer": "respond-async"})
    assert (answer.status_int, answer.headers["Retry-After"]) == (202, "1")
    assert answer.headers["Location"].endswith(PATH)
    assert mistake("preparations#preparation", answer.json) is None


def test_prefer_says_how_long_a_call_may_wait(agent: Agent) -> None:
    ask(Application(agent), "PUT", PATH, BODY, headers={"Prefer": "wait=7"})
    assert agent.waits == [7.0]


def test_a_release_is_204_without_a_body_whether_there_was_something_or_not(agent: Agent) -> None:
    application = Application(agent)
    ask(application, "PUT", PATH, BODY)
    for _ in range(2):
        answer = ask(application, "DELETE", PATH)
        assert (answer.status_int, answer.body) == (204, b"")
        assert "Content-Type" not in answer.headers
    ask(application, "PUT", PATH, BODY)
    answer = ask(application, "DELETE", PATH, headers={"Prefer": "wait=0"})
    assert (answer.status_int, answer.json["state"]) == (202, "releasing")


def test_a_consumer_is_a_uuid_in_either_case(agent: Agent) -> None:
    application = Application(agent)
    assert ask(application, "PUT", PATH.upper().replace("/V1/PREPARATIONS", "/v1/preparations"), BODY).status_int == 200
    assert ask(application, "GET", PATH).json["consumer"] == CONSUMER
    refused = ask(application, "GET", "/v1/preparations/instance-1")
    assert (refused.status_int, refused.json["errors"][0]["code"]) == (400, "devagent.request.invalid")


def test_hints_name_consumers_and_what_happened_and_are_for_operators(agent: Agent) -> None:
    application = Application(agent)
    ask(application, "PUT", PATH, BODY)
    hints = [{"consumer": each, "event": "instance.delete.end"} for each in (CONSUMER.upper(), str(uuid.uuid4()))]
    answer = ask(application, "POST", "/v1/hints", {"hints": hints})
    assert (answer.status_int, answer.json) == (200, {"known": 1})
    assert agent.hinted[0][CONSUMER] == "instance.delete.end"
    assert ask(application, "POST", "/v1/hints", {"hints": hints}, caller=GUEST).status_int == 403
    lists: tuple[Any, ...] = ([], [{"consumer": "x", "event": "e"}], [{"consumer": CONSUMER}])
    for wrong in ({}, *({"hints": each} for each in lists)):
        assert ask(application, "POST", "/v1/hints", wrong).status_int == 400
    assert len(agent.hinted) == 1


def test_another_body_is_409_and_an_unknown_consumer_404(agent: Agent) -> None:
    application = Application(agent)
    assert ask(application, "GET", PATH).json["errors"][0]["code"] == "devagent.preparation.unknown"
    ask(application, "PUT", PATH, BODY)
    other = ask(application, "PUT", PATH, {**BODY, "project_id": "p"})
    assert (other.status_int, other.json["errors"][0]["code"]) == (409, "devagent.preparation.other_request")


@pytest.mark.parametrize(("kind", "status"), [("retry", 503), ("permanent", 422), ("invalid", 400)])
def test_a_refusal_says_what_to_do_about_it_and_who_has_the_device(agent: Agent, kind: str, status: int) -> None:
    holder: dict[str, str | int | None] = {"consumer": None, "pid": 4711, "command": "qemu-system-x86"}
    agent.broken = NotPrepared(kind, "0000:3b:00.2 is in use", "0000:3b:00.2", (holder,))
    answer = ask(Application(agent), "PUT", PATH, BODY)
    (error,) = answer.json["errors"]
    assert mistake("errors", answer.json) is None
    assert (answer.status_int, error["code"]) == (status, f"devagent.preparation.{kind}")
    assert (error["type"], error["address"], error["holders"]) == (kind, "0000:3b:00.2", [holder])
    assert ("Retry-After" in answer.headers) == (kind == "retry")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"groups": []},
        {"groups": [{**GROUP, "resources": {}}]},
        {"groups": [{**GROUP, "resources": {"VF": 0}}]},
        {"groups": [{**GROUP, "provider": "numa0"}]},
        {"groups": [{**GROUP, "address": "3b:00.2"}]},
        {"groups": [{**GROUP, "properties": {"vlan": 120}}]},
        {**BODY, "expires_in": 0},
        {**BODY, "consumer": CONSUMER},
    ],
)
def test_what_is_no_request_is_refused(agent: Agent, body: dict[str, Any]) -> None:
    answer = ask(Application(agent), "PUT", PATH, body)
    assert (answer.status_int, answer.json["errors"][0]["code"]) == (400, "devagent.request.invalid")
    assert agent.prepared == {}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_only_operators_may(agent: Agent, method: str) -> None:
    body = BODY if method == "PUT" else None
    assert ask(Application(agent), method, PATH, body, caller=GUEST).status_int == 403
