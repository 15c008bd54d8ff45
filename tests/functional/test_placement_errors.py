# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whatever is wrong between the agent and Placement: one message that says so, and the right exit code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from .cloud import Cloud
from .conftest import Describe, Devagent, Ran, Write
from .descriptions import small
from .servers import Answer, closed_port, error, html, serving, versions

Report = Callable[..., Ran]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets what fails be tried again at once."""
    monkeypatch.setattr("devagent.placement.patience._BACKOFF", 0.0)


@pytest.fixture
def report(describe: Describe, write: Write, devagent: Devagent, tmp_path: Path) -> Report:
    """Runs `devagent report` with the given [placement] options."""

    def run(host: str = "a-host", **options: str) -> Ran:
        lines = "".join(f"{name} = {value}\n" for name, value in {"connect_retries": "0", **options}.items())
        config = write("devagent.conf", f"[DEFAULT]\nhost = {host}\nstate_path = {tmp_path}\n[placement]\n{lines}")
        return devagent("report", "--once", "--root", describe(small()), "--config-file", config)

    return run


def only_line(ran: Ran) -> str:
    """Checks that nothing but one error message was said, and gives it."""
    assert ran.out == ""
    (line,) = ran.err.splitlines()
    assert line.startswith("devagent: error: ")
    return line


def test_where_nobody_listens_the_url_is_named(report: Report) -> None:
    url = closed_port()
    ran = report(auth_type="admin_token", endpoint=url, token="admin")
    assert ran.code == 1
    line = only_line(ran)
    assert "Placement cannot be reached" in line
    assert url in line


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (error(401), "the token or its roles do not allow it"),
        (html(200), "does not answer like Placement: check [placement] endpoint_override"),
        (html(404), "does not answer like Placement: check [placement] endpoint_override"),
        (lambda path: (200, "application/json", "{}"), "does not answer like Placement"),
        (lambda path: (200, "application/json", "[1]"), "does not answer like Placement"),
        (lambda path: (200, "application/json", '{"versions": []}'), "does not answer like Placement"),
        (lambda path: (200, "application/json", '{"versions": [{"max_version": "v2"}]}'), "does not answer like"),
        (html(500), "Placement answers 500"),
        (html(502), "Placement answers 502"),
        (error(503, "come back later"), "Placement answers 503: come back later"),
        (versions("1.25", html(200)), "Placement speaks up to 1.25 only; 1.26 (Rocky) is needed"),
        (versions("1.39", html(200)), "does not answer like Placement"),
        (versions("1.39", error(400, "bad\n\nrequest")), "Placement answers 400: bad request"),
        (versions("1.39", error(403)), "the role service, or admin, is needed"),
        (versions("1.39", error(500, "a stumble")), "Placement answers 500: a stumble"),
    ],
)
def test_what_answers_is_no_placement_or_no_healthy_one(report: Report, answer: Answer, said: str) -> None:
    with serving(answer) as url:
        ran = report(auth_type="admin_token", endpoint=url, token="admin")
    assert ran.code == 1
    assert said in only_line(ran)


@pytest.mark.parametrize("body", ["{}", "[]", "null", '"text"', "7", '{"resource_providers": [{}]}'])
@pytest.mark.parametrize("version", ["1.39", "1.26"])
def test_an_answer_of_another_form_than_placements_is_one_message(report: Report, version: str, body: str) -> None:
    with serving(versions(version, lambda path: (200, "application/json", body))) as url:
        ran = report(auth_type="admin_token", endpoint=url, token="admin")
    assert ran.code == 1
    assert "does not answer like Placement" in only_line(ran)


@pytest.mark.parametrize("body", ["{}", "[]", "null", '{"resource_providers": [{}]}', '{"inventories": {"PGPU": {}}}'])
@pytest.mark.parametrize("part", ["in_tree", "/inventories", "/traits"])
def test_any_one_answer_of_another_form_is_a_message_and_no_traceback(
    report: Report, cloud: Cloud, part: str, body: str
) -> None:
    """Behind the real Placement's good answers, as a broken cache or proxy would do it."""

    def proxy(path: str) -> tuple[int, str, str]:
        if part in path:
            return 200, "application/json", body
        headers = {"X-Auth-Token": "admin", "OpenStack-API-Version": "placement 1.39"}
        answer = requests.get(f"{cloud.url}{path}", headers=headers, timeout=10)
        return answer.status_code, "application/json", answer.text

    ours = cloud.create(f"devagent:{cloud.name}:0000:99:00.0", cloud.root)
    cloud.set(ours, {"PGPU": 1})
    with serving(proxy) as url:
        ran = report(cloud.name, auth_type="admin_token", endpoint=url, token="admin", endpoint_override=url)
    assert ran.code == 1
    assert "Traceback" not in ran.err
    assert "does not answer like Placement" in ran.err


def test_a_wrong_token_is_refused(report: Report, cloud: Cloud) -> None:
    ran = report(cloud.name, auth_type="admin_token", endpoint=cloud.url, token="wrong")
    assert ran.code == 1
    assert "403: the token or its roles do not allow it" in only_line(ran)


def test_a_url_below_placement_is_no_placement(report: Report, cloud: Cloud) -> None:
    ran = report(cloud.name, auth_type="admin_token", endpoint=f"{cloud.url}/placement", token="admin")
    assert ran.code == 1
    assert "404" in only_line(ran)


def test_a_catalog_without_placement_says_which_options_to_look_at(report: Report) -> None:
    ran = report(auth_type="none")
    assert ran.code == 1
    line = only_line(ran)
    assert "no placement endpoint" in line
    assert "endpoint_override" in line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "[placement] auth_type is not set"),
        ({"auth_type": "password"}, "auth_url"),
        ({"auth_type": "admin_token", "endpoint": "http://127.0.0.1:1", "timeout": "soon"}, "timeout"),
    ],
)
def test_a_wrong_placement_section_exits_2_and_says_what_is_missing(
    report: Report, options: dict[str, str], said: str
) -> None:
    ran = report(**options)
    assert ran.code == 2
    assert said in only_line(ran)


def test_an_unknown_auth_type_exits_2_and_names_it(report: Report) -> None:
    ran = report(auth_type="pasword")
    assert ran.code == 2
    assert ran.err.splitlines()[-1].endswith(
        "[placement] auth_type: there is no plugin pasword (did you mean password?)"
    )


@pytest.mark.parametrize("plugin", ["admin_token", "admin_token and endpoint_override", "none"])
def test_placement_without_keystone_can_be_used(report: Report, cloud: Cloud, plugin: str) -> None:
    """`none` sends a token that Placement knows nobody by: it answers, and refuses."""
    options = {
        "admin_token": {"auth_type": "admin_token", "endpoint": cloud.url, "token": "admin"},
        "admin_token and endpoint_override": {
            "auth_type": "admin_token",
            "endpoint": closed_port(),
            "endpoint_override": cloud.url,
            "token": "admin",
        },
        "none": {"auth_type": "none", "endpoint": cloud.url},
    }[plugin]
    ran = report(cloud.name, **options)
    if plugin == "none":
        assert ran.code == 1
        assert "403: the token or its roles do not allow it" in only_line(ran)
    else:
        assert (ran.code, ran.err) == (0, "")
        assert len(cloud.tree()) == 4


def test_debug_shows_the_traceback_and_the_message(
    describe: Describe, write: Write, devagent_process: Devagent, tmp_path: Path
) -> None:
    config = write("devagent.conf", f"[DEFAULT]\nstate_path = {tmp_path}\n[placement]\nauth_type = none\n")
    arguments = ("report", "--once", "--root", describe(small()), "--config-file", config)
    plain, more = devagent_process(*arguments), devagent_process("--debug", *arguments)
    assert (plain.code, more.code) == (1, 1)
    assert "Traceback" not in plain.err
    assert "Traceback" in more.err
    assert plain.err.splitlines()[-1] == more.err.splitlines()[-1]
