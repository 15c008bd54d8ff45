# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the API answers, for each operation and each way to ask wrongly; without a server."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from webob import Request

from devagent.api.app import CALLER, Application
from devagent.api.operations import OPERATIONS, Operation
from devagent.api.request import BODY_LIMIT
from devagent.api.schemas import validator
from devagent.discovery import Discovery
from devagent.document import document
from devagent.inventory.build import Nest
from devagent.view import Look

from .agents import GPU, GPU_ID, GUEST, NIC, ROOT, Agent, Failed, ask

OVERRIDE = {"state": "unhealthy", "reason": "the burn-in failed"}


@pytest.fixture
def agent(discovery: Callable[[str], Discovery]) -> Agent:
    return Agent(document(Look(discovery("gpu8"), "gpu8.example.org", Nest.NUMA)), {"state": "running"})


@pytest.fixture
def app(agent: Agent) -> Application:
    return Application(agent)


def refused(response: Any, status: int, code: str) -> str:
    """Checks that an answer is an error in the form of all errors, and gives its detail."""
    assert response.status_int == status
    assert response.content_type == "application/json"
    validator("errors").validate(response.json)
    (error,) = response.json["errors"]
    assert (error["status"], error["code"]) == (status, code)
    assert error["request_id"] == response.headers["X-Openstack-Request-Id"]
    return str(error["detail"])


def test_the_versions_are_found_as_keystoneauth_looks_for_them(app: Application) -> None:
    (version,) = ask(app, "GET", "/").json["versions"]
    assert (version["id"], version["min_version"], version["max_version"]) == ("v1.0", "1.0", "1.0")
    assert version["links"] == [{"rel": "self", "href": "/v1"}]


def test_every_document_is_as_its_schema_says(app: Application) -> None:
    for path, name in (
        ("/", "versions"),
        ("/v1/devices", "discover"),
        ("/v1/providers", "providers"),
        ("/v1/health", "health"),
    ):
        validator(name).validate(ask(app, "GET", path).json)
    validator("health#device").validate(ask(app, "PUT", f"/v1/health/{GPU}", OVERRIDE).json)


def test_a_device_is_found_by_its_id_its_address_and_its_short_address(app: Application) -> None:
    wanted = next(each for each in ask(app, "GET", "/v1/devices").json["devices"] if each["address"] == "0000:19:00.0")
    validator("discover#device").validate(wanted)
    for name in ("0000:19:00.0", "19:00.0", "0000%3A19:00.0", wanted["id"], wanted["id"].upper()):
        assert ask(app, "GET", f"/v1/devices/{name}").json == wanted
    assert "0000:ff:00.0" in refused(ask(app, "GET", "/v1/devices/ff:00.0"), 404, "devagent.device.unknown")


def test_every_answer_has_a_request_id_of_its_own(app: Application) -> None:
    ids = [ask(app, "GET", path).headers["X-Openstack-Request-Id"] for path in ("/", "/v1/status", "/nowhere")]
    assert len(set(ids)) == 3
    assert all(re.fullmatch(r"req-[0-9a-f-]{36}", each) for each in ids)


def test_head_is_get_without_the_body(app: Application) -> None:
    get, head = (ask(app, method, "/v1/devices") for method in ("GET", "HEAD"))
    assert head.body == b""
    assert head.headers["Content-Length"] == str(len(get.body))


@pytest.mark.parametrize(
    "path", ["/nowhere", "/v1", "/v1/", "/v1/devices/", "/v1/devices/a/b", "//v1/status", "/V1/status"]
)
def test_what_is_not_there_is_404(app: Application, path: str) -> None:
    assert path in refused(ask(app, "GET", path), 404, "devagent.path.unknown")


def test_a_path_that_is_no_utf_8_is_404(app: Application) -> None:
    refused(ask(app, "GET", "/v1/%FF"), 404, "devagent.path.unknown")
    refused(ask(app, "GET", "/v1/devices/%FF"), 404, "devagent.device.unknown")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/status", "GET, HEAD"),
        ("PATCH", f"/v1/health/{GPU}", "DELETE, PUT"),
        ("GET", "/v1/rescan", "POST"),
        ("HEAD", "/v1/rescan", "POST"),
    ],
)
def test_a_method_that_a_path_has_not_is_405_with_those_it_has(
    app: Application, method: str, path: str, allowed: str
) -> None:
    response = ask(app, method, path)
    assert (response.status_int, response.headers["Allow"]) == (405, allowed)


@pytest.mark.parametrize(
    "header", ["devagent 1.0", "devagent latest", "compute 2.99, devagent 1.0", "compute 2.1", "DEVAGENT 1.0"]
)
def test_a_version_that_is_known_is_answered_and_named(app: Application, header: str) -> None:
    response = ask(app, "GET", "/v1/health", headers={"OpenStack-API-Version": header})
    assert response.status_int == 200
    assert response.headers["OpenStack-API-Version"] == "devagent 1.0"
    assert response.headers["Vary"] == "OpenStack-API-Version"


@pytest.mark.parametrize("version", ["1.1", "2.0", "9999.9999"])
def test_a_version_that_is_not_known_is_406_and_the_range_is_told(app: Application, version: str) -> None:
    response = ask(app, "GET", "/v1/health", headers={"OpenStack-API-Version": f"devagent {version}"})
    refused(response, 406, "devagent.version.unknown")
    (error,) = response.json["errors"]
    assert (error["min_version"], error["max_version"]) == ("1.0", "1.0")
    assert ask(app, "GET", "/", headers={"OpenStack-API-Version": f"devagent {version}"}).status_int == 200


@pytest.mark.parametrize("version", ["", "1", "1.", "01.0", "1.0.0", "-1.0", "one", "1.00", "99999.0", "1.\u0660"])
def test_what_is_no_version_is_400(app: Application, version: str) -> None:
    environ = {CALLER: ROOT, "HTTP_OPENSTACK_API_VERSION": f"devagent {version}"}
    response = Request.blank("/v1/health", environ=environ).get_response(app)
    refused(response, 400, "devagent.version.malformed")


def test_an_operation_of_a_later_version_is_not_there_yet(agent: Agent) -> None:
    later = Operation("GET", "/v1/later", "status", "Later", None, "later:get", since=(1, 1))
    refused(ask(Application(agent, operations=(later,)), "GET", "/v1/later"), 404, "devagent.path.unknown")


def test_an_override_is_set_in_the_name_of_who_calls_and_cleared(app: Application, agent: Agent) -> None:
    found = ask(app, "PUT", f"/v1/health/{GPU_ID}", {**OVERRIDE, "expires_in": 7200}).json
    assert found["override"] == {**OVERRIDE, "by": "uid 0 (root), pid 123", "until": "2026-11-21T19:00:00Z"}
    assert ask(app, "GET", "/v1/health").json["devices"][0] == found
    for _ in range(2):
        assert ask(app, "DELETE", f"/v1/health/{GPU}").json["override"] is None
    assert agent.overrides == {}


def test_an_override_of_no_device_is_404(app: Application) -> None:
    for method, body in (("PUT", OVERRIDE), ("DELETE", None)):
        refused(ask(app, method, "/v1/health/0000:ff:00.0", body), 404, "devagent.device.unknown")


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "state: is missing"),
        ({"state": "healthy"}, "reason: is missing"),
        ({**OVERRIDE, "state": "lost"}, 'state: is "lost"; expected is healthy or suspect or unhealthy'),
        ({**OVERRIDE, "reason": ""}, 'reason: is ""; expected is a line of 1 to 255 characters that says why'),
        ({**OVERRIDE, "reason": "  "}, 'reason: is "  "; expected is a line of 1 to 255 characters that says why'),
        ({**OVERRIDE, "reason": "a\nb"}, 'reason: is "a\\nb"; expected is a line of 1 to 255 characters that says why'),
        ({**OVERRIDE, "reason": "a\n"}, 'reason: is "a\\n"; expected is a line of 1 to 255 characters that says why'),
        (
            {**OVERRIDE, "reason": "\ud800"},
            'reason: is "\\ud800"; expected is a line of 1 to 255 characters that says why',
        ),
        ({**OVERRIDE, "reason": 7}, "reason: is 7; expected is a line of 1 to 255 characters that says why"),
        ({**OVERRIDE, "colour": "red"}, "colour: is no key that is known here; known are state, reason, expires_in"),
        ([1], "the body: is [1]; expected is an object with state and reason"),
        (None, "the body: is null; expected is an object with state and reason"),
    ],
)
def test_a_mistake_in_a_body_is_400_with_its_path(app: Application, agent: Agent, body: Any, detail: str) -> None:
    content = json.dumps(body).encode()
    response = ask(
        app,
        "PUT",
        f"/v1/health/{GPU}",
        content,
    )
    assert refused(response, 400, "devagent.request.invalid") == detail
    assert agent.overrides == {}


@pytest.mark.parametrize("seconds", [0, -1, 1.5, "60", True, 10**10, 10**400])
def test_a_time_that_is_none_is_400(app: Application, seconds: Any) -> None:
    response = ask(app, "PUT", f"/v1/health/{GPU}", {**OVERRIDE, "expires_in": seconds})
    assert refused(response, 400, "devagent.request.invalid").startswith("expires_in: is ")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"hello", b'{"state": NaN}', b"[" * 100_000, b"1" * 5000, b'{"state": "suspect"} x']
)
def test_a_body_that_is_no_json_is_400(app: Application, content: bytes) -> None:
    response = ask(app, "PUT", f"/v1/health/{GPU}", content)
    refused(response, 400, "devagent.request.malformed")


@pytest.mark.parametrize("kind", ["text/plain", "", "application/x-www-form-urlencoded", "application/jsonish"])
def test_a_body_of_another_kind_is_415(app: Application, kind: str) -> None:
    response = ask(app, "PUT", f"/v1/health/{GPU}", OVERRIDE, headers={"Content-Type": kind})
    refused(response, 415, "devagent.request.media_type")


def test_a_body_may_be_as_large_as_the_limit_and_no_larger(app: Application) -> None:
    fits, over = (json.dumps(OVERRIDE).encode().ljust(size) for size in (BODY_LIMIT, BODY_LIMIT + 1))
    headers = {"Content-Type": "application/json; charset=utf-8"}
    for content, status in ((fits, 200), (over, 413)):
        response = ask(app, "PUT", f"/v1/health/{GPU}", content, headers=headers)
        assert response.status_int == status


def test_a_body_that_ends_early_changes_nothing(app: Application, agent: Agent) -> None:
    content = json.dumps(OVERRIDE).encode()
    response = ask(app, "PUT", f"/v1/health/{GPU}", content, content_length=len(content) + 1)
    assert "1 more bytes" in refused(response, 400, "devagent.request.malformed")
    assert agent.overrides == {}


def test_who_only_may_look_changes_nothing(app: Application, agent: Agent) -> None:
    for method, path, body in (
        ("PUT", f"/v1/health/{GPU}", OVERRIDE),
        ("DELETE", f"/v1/health/{GPU}", None),
        ("POST", "/v1/rescan", None),
    ):
        assert "uid 1234" in refused(ask(app, method, path, body, caller=GUEST), 403, "devagent.forbidden")
    assert agent.overrides == {}
    assert not agent.asked.acquire(blocking=False)
    assert ask(app, "GET", "/v1/health", caller=GUEST).status_int == 200


def test_only_what_reads_is_for_anybody_and_who_has_which_device_is_for_operators() -> None:
    assert {each.path for each in OPERATIONS if each.who == "public"} == {"/"}
    others = [each for each in OPERATIONS if "preparations" not in each.path and each.path != "/"]
    assert {each.who for each in OPERATIONS if each not in others} == {"public", "operator"}
    assert {(each.method, each.who) for each in others} == {
        ("GET", "any"),
        ("PUT", "operator"),
        ("DELETE", "operator"),
        ("POST", "operator"),
    }


def test_a_rescan_that_ends_in_time_is_200(app: Application, agent: Agent) -> None:
    agent.looked.set()
    response = ask(app, "POST", "/v1/rescan")
    assert response.status_int == 200
    validator("rescan").validate(response.json)
    assert response.json["done"] is True


@pytest.mark.parametrize("prefer", ["wait=0", 'wait="0"', "Wait = 0; x=y", "respond-async, wait=0", "a, wait=0, b"])
def test_a_rescan_that_takes_longer_is_202_and_says_where_to_look(app: Application, prefer: str) -> None:
    response = ask(app, "POST", "/v1/rescan", headers={"Prefer": prefer})
    assert (response.status_int, response.json["done"]) == (202, False)
    assert (response.headers["Location"], response.headers["Retry-After"]) == ("/v1/status", "1")


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, 60),
        ("respond-async", 0),
        ("wait=5", 5),
        ("respond-async, wait=5", 5),
        ("wait=5, wait=9", 5),
        ("wait=86400", 300),
        ("wait=-1", 60),
        ("wait=soon", 60),
        ("waiting=1", 60),
    ],
)
def test_a_call_waits_as_long_as_its_sender_would_within_bounds(
    agent: Agent, prefer: str | None, seconds: float
) -> None:
    agent.looked.set()
    ask(Application(agent), "POST", "/v1/rescan", headers={"Prefer": prefer} if prefer else {})
    assert agent.waits == [seconds]


def test_of_many_that_would_wait_one_too_many_is_answered_at_once(agent: Agent) -> None:
    app = Application(agent, waiting=2)
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(app, "POST", "/v1/rescan").status_int)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
        assert agent.asked.acquire(timeout=30)
    assert ask(app, "POST", "/v1/rescan").status_int == 202
    assert answers == []
    agent.looked.set()
    for thread in threads:
        thread.join()
    assert answers == [200, 200]
    assert ask(app, "POST", "/v1/rescan").status_int == 200
    assert agent.waits == [60, 60, 0, 60]


def test_healthcheck_is_ok_in_plain_words(app: Application) -> None:
    response = ask(app, "GET", "/healthcheck")
    assert (response.status_int, response.content_type, response.body) == (200, "text/plain", b"OK")


def test_healthcheck_tells_what_fails(app: Application, agent: Agent) -> None:
    agent.failing = [("placement", False, "connection refused"), ("look", False, None), ("api", True, "fine")]
    plain = ask(app, "GET", "/healthcheck")
    assert (plain.status_int, plain.text) == (503, "placement: connection refused\nlook: failed")
    wanted = ask(app, "GET", "/healthcheck", headers={"Accept": "application/json"})
    assert wanted.status_int == 503
    assert wanted.json == {"detailed": False, "reasons": ["placement: connection refused", "look: failed"]}
    validator("checks").validate(wanted.json)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "text/plain"),
        ("application/json", "application/json"),
        ("text/*;q=0.5, application/json", "application/json"),
        ("application/json;q=0.1, text/plain", "text/plain"),
        ("image/png", "text/plain"),
        ("///", "text/plain"),
    ],
)
def test_healthcheck_speaks_as_it_is_asked(app: Application, accept: str, kind: str) -> None:
    assert ask(app, "GET", "/healthcheck", headers={"Accept": accept}).content_type == kind


def test_metrics_are_sent_as_they_are(app: Application) -> None:
    response = ask(app, "GET", "/metrics")
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4"
    assert response.body == b"devagent_devices 2\n"


def test_what_the_agent_does_not_know_yet_is_503_to_be_asked_again() -> None:
    response = ask(Application(Agent()), "GET", "/v1/devices")
    refused(response, 503, "devagent.not_ready")
    assert response.headers["Retry-After"] == "1"


def test_what_failed_on_purpose_is_500_in_its_own_words(app: Application, agent: Agent) -> None:
    agent.broken = Failed("0000:3b:00.0: the card is on fire")
    assert refused(ask(app, "GET", "/v1/status"), 500, "devagent.failed") == "0000:3b:00.0: the card is on fire"


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("secret"), ConnectionResetError("secret"), TimeoutError("secret"), RecursionError()]
)
def test_what_nobody_thought_of_is_500_and_the_log_has_it_with_the_id(
    app: Application, agent: Agent, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    agent.broken = error
    detail = refused(response := ask(app, "GET", "/v1/status"), 500, "devagent.internal")
    request_id = response.headers["X-Openstack-Request-Id"]
    assert request_id in detail
    assert "secret" not in response.text
    (record,) = (each for each in caplog.records if each.exc_info)
    assert record.levelno == logging.ERROR
    assert vars(record)["request_id"] == request_id
    assert record.exc_info and record.exc_info[1] is error


def test_an_answer_that_is_no_json_is_500(app: Application, agent: Agent) -> None:
    agent.now = {"state": object()}
    refused(ask(app, "GET", "/v1/status"), 500, "devagent.internal")


def logged(caplog: pytest.LogCaptureFixture, app: Application, *arguments: Any, **more: Any) -> logging.LogRecord:
    caplog.clear()
    with caplog.at_level(logging.DEBUG, "devagent.api.app"):
        ask(app, *arguments, **more)
    return caplog.records[-1]


def test_calls_are_logged_with_their_id_and_those_that_only_look_quietly(
    app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    look = logged(caplog, app, "GET", "/v1/status")
    change = logged(caplog, app, "PUT", f"/v1/health/{NIC}", OVERRIDE)
    assert (look.levelno, change.levelno) == (logging.DEBUG, logging.INFO)
    text = rf"PUT /v1/health/{NIC}: 200, \d+ bytes, [\d.]+ ms, by uid 0 \(root\), pid 123"
    assert re.fullmatch(text, change.getMessage())
    assert vars(change)["request_id"] != vars(look)["request_id"]


def test_the_id_that_another_service_gave_is_logged_and_nothing_else(
    app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    given = "req-6a4f2c7e-1b1d-5c55-9f3e-0d9b7a4a3c11"
    for sent, shown in ((given, True), (given + "\x1b[2J", False), ("x" * 1000, False)):
        record = logged(caplog, app, "GET", "/v1/status", headers={"X-Openstack-Request-Id": sent})
        assert (f"for {given} " in record.getMessage()) is shown
        assert record.getMessage().isprintable()


def test_a_hostile_path_moves_no_cursor_in_the_log(app: Application, caplog: pytest.LogCaptureFixture) -> None:
    record = logged(caplog, app, "GET", "/v1/%1b%5b2J%0a%c2%9b")
    assert record.getMessage().isprintable()


def test_what_does_not_work_now_says_when_to_ask_again(app: Application, agent: Agent) -> None:
    agent.failing = [("report", False, "is late")]
    for accept in ("text/plain", "application/json"):
        response = ask(app, "GET", "/healthcheck", headers={"Accept": accept})
        assert (response.status_int, response.headers["Retry-After"]) == (503, "5")
    agent.found = None
    response = ask(app, "GET", "/v1/devices")
    assert (response.status_int, response.headers["Retry-After"]) == (503, "1")
