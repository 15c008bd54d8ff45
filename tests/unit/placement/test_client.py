# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The client makes one of our errors of whatever a server answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import requests
from keystoneauth1 import adapter, session
from keystoneauth1 import exceptions as ksa

from devagent import errors
from devagent.model.provider import Provider
from devagent.placement.client import PlacementClient, from_token

UID = "0c6e1f57-6a3d-4f0b-9a55-2f7d5a3b8e10"
CALLS: dict[str, Callable[[PlacementClient], object]] = {
    "tree": lambda client: client.tree(UID),
    "find": lambda client: client.find("name"),
    "provider": lambda client: client.provider(UID),
    "create": lambda client: client.create(Provider(UID, "name", None)),
    "inventories": lambda client: client.inventories(UID),
    "set_inventories": lambda client: client.set_inventories(UID, 1, {}),
    "traits": lambda client: client.traits(UID),
    "set_traits": lambda client: client.set_traits(UID, 1, ["CUSTOM_X"]),
    "ensure_traits": lambda client: client.ensure_traits(["CUSTOM_X"]),
    "consumers": lambda client: client.consumers(UID),
    "usages": lambda client: client.usages(UID),
}


class Answering(adapter.Adapter):
    """Answers every request alike."""

    def __init__(self, status: int, body: str, **headers: str) -> None:
        super().__init__(session.Session())
        self.status, self.body, self.headers = status, body, headers
        self.sent: list[dict[str, Any]] = []

    def request(self, url: str, method: str, **kwargs: Any) -> requests.Response:
        """Sends nothing."""
        self.sent.append({"url": url, "method": method, **kwargs})
        response = requests.Response()
        response.status_code, response.url = self.status, f"http://placement{url}"
        response._content = self.body.encode()
        response.headers.update(self.headers)
        return response

    def get_endpoint(self, *_: Any, **__: Any) -> str:
        """Gives the URL that errors name."""
        return "http://placement"


def client(status: int, body: str, **headers: str) -> tuple[PlacementClient, Answering]:
    wire = Answering(status, body, **headers)
    made = PlacementClient(wire)
    made.version = (1, 39)
    return made, wire


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    "body",
    [
        "",
        "not JSON",
        "null",
        "7",
        '"text"',
        "[]",
        "[null]",
        "{}",
        '{"resource_providers": [{}], "inventories": {"PGPU": {}}, "traits": 7, "allocations": null, "usages": 1}',
        '{"resource_providers": null, "inventories": [1], "resource_provider_generation": "x", "traits": null}',
        '{"resource_providers": [7], "inventories": {}, "resource_provider_generation": null, "generation": null}',
    ],
)
def test_an_answer_of_another_form_is_unreachable(name: str, body: str) -> None:
    try:
        result = CALLS[name](client(200, body)[0])
    except errors.PlacementUnreachable as error:
        assert "does not answer like Placement" in str(error)
        assert len(str(error)) < 300
    else:
        # What is said is enough for the answer after all.
        assert name in ("provider", "usages", "consumers", "find", "tree", "inventories", "traits", "ensure_traits")
        assert result is None or result == (0, {})


KINDS = {
    400: errors.PlacementRejected,
    401: errors.PlacementDenied,
    403: errors.PlacementDenied,
    404: errors.PlacementNotFound,
    405: errors.PlacementRejected,
    408: errors.PlacementUnreachable,
    409: errors.PlacementConflict,
    413: errors.PlacementRejected,
    425: errors.PlacementUnreachable,
    429: errors.PlacementUnreachable,
    500: errors.PlacementUnreachable,
    502: errors.PlacementUnreachable,
    503: errors.PlacementUnreachable,
    504: errors.PlacementUnreachable,
}


@pytest.mark.parametrize("status", KINDS)
def test_a_status_is_one_of_our_errors(status: int) -> None:
    body = json.dumps({"errors": [{"status": status, "code": "placement.x", "detail": "why\n\nso"}]})
    with pytest.raises(errors.PlacementError) as caught:
        client(status, body)[0].traits(UID)
    assert type(caught.value) is KINDS[status]
    assert (caught.value.status, caught.value.code) == (status, "placement.x")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    ["", "<html>", "null", "[]", "{}", '{"errors": []}', '{"errors": [null]}', '{"errors": [{}]}', '{"errors": {}}'],
)
@pytest.mark.parametrize("status", KINDS)
def test_an_error_of_any_form_is_one_of_ours(status: int, body: str) -> None:
    with pytest.raises(errors.PlacementError) as caught:
        client(status, body)[0].traits(UID)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), ("0", 0.0), ("", 0.0), ("-1", 0.0), ("1.5", 0.0), ("soon", 0.0), ("\u0667", 0.0), ("9" * 400, None)],
)
def test_retry_after_is_seconds(text: str, seconds: float | None) -> None:
    with pytest.raises(errors.PlacementUnreachable) as caught:
        client(503, "", **{"Retry-After": text})[0].traits(UID)
    if seconds is None:
        assert caught.value.retry_after > 1e300  # bounded by whoever waits
    else:
        assert caught.value.retry_after == seconds


def test_another_release_than_remembered_is_asked_for_its_version() -> None:
    made, wire = client(406, '{"versions": [{"max_version": "1.30"}]}')
    with pytest.raises(errors.PlacementRejected):
        made.traits(UID)

    class Older(Answering):
        def request(self, url: str, method: str, **kwargs: Any) -> requests.Response:
            self.status = 406 if kwargs["microversion"] == "1.39" else 200
            return super().request(url, method, **kwargs)

    wire = Older(200, '{"versions": [{"max_version": "1.30"}], "resource_provider_generation": 5, "traits": ["A"]}')
    made = PlacementClient(wire)
    made.version = (1, 39)
    assert made.traits(UID) == (5, frozenset({"A"}))
    assert made.negotiated == (1, 30)
    assert [sent["microversion"] for sent in wire.sent] == ["1.39", None, "1.30"]
    assert made.requests == 3


@pytest.mark.parametrize(
    ("spoken", "used"), [("1.26", (1, 26)), ("1.39", (1, 39)), ("1.99", (1, 39)), ("2.0", (1, 39))]
)
def test_the_newest_version_that_both_know_is_used(spoken: str, used: tuple[int, int]) -> None:
    made = PlacementClient(Answering(200, json.dumps({"versions": [{"max_version": spoken}]})))
    assert made.version == used


def test_names_are_asked_for_in_requests_of_a_bearable_length() -> None:
    names = [f"CUSTOM_{number:0248}" for number in range(60)]
    made, wire = client(200, json.dumps({"traits": names}))
    made.ensure_traits([*names, "HW_NUMA_ROOT"])
    assert len(wire.sent) == 3
    assert max(len(sent["url"]) for sent in wire.sent) < 8000
    assert not any("HW_NUMA_ROOT" in sent["url"] for sent in wire.sent)


def test_a_placement_that_is_too_old_is_named_with_what_it_speaks() -> None:
    made = PlacementClient(Answering(200, '{"versions": [{"max_version": "1.25"}]}'))
    with pytest.raises(
        errors.PlacementRejected, match=r"^Placement speaks up to 1\.25 only; 1\.26 \(Rocky\) is needed$"
    ):
        made.tree(UID)


@pytest.mark.parametrize(
    ("raised", "kind", "said"),
    [
        (
            ksa.Unauthorized("no"),
            errors.PlacementDenied,
            "the credentials of [placement] are refused",
        ),
        (ksa.MissingAuthPlugin("none"), errors.PlacementDenied, "the credentials of [placement] are refused"),
        (ksa.EndpointNotFound("none"), errors.PlacementUnreachable, "no placement endpoint is known"),
        (ksa.EmptyCatalog("empty"), errors.PlacementUnreachable, "no placement endpoint is known"),
        (ksa.ConnectFailure("gone"), errors.PlacementUnreachable, "Placement cannot be reached: gone"),
        (requests.ConnectionError("gone"), errors.PlacementUnreachable, "Placement cannot be reached: gone"),
        (ConnectionResetError(104, "reset"), errors.PlacementUnreachable, "Placement cannot be reached: reset"),
    ],
)
def test_what_never_came_to_an_answer_is_one_of_our_errors(
    raised: Exception, kind: type[errors.PlacementError], said: str
) -> None:
    class Broken(Answering):
        def request(self, url: str, method: str, **kwargs: Any) -> requests.Response:
            raise raised

    made = PlacementClient(Broken(200, ""))
    made.version = (1, 39)
    with pytest.raises(errors.PlacementError) as caught:
        made.find("name")
    assert type(caught.value) is kind
    assert str(caught.value).casefold().startswith(said.casefold())
    assert made.requests == 1


def test_a_fixed_token_goes_to_a_fixed_place_with_the_roles_that_only_noauth_believes() -> None:
    sent: list[requests.PreparedRequest] = []

    class Answers(requests.Session):
        def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
            sent.append(request)
            response = requests.Response()
            response.status_code, response.url = 200, str(request.url)
            response._content = b'{"resource_providers": []}'
            return response

    for roles in ("admin,service", None):
        made = from_token("http://placement.test/placement", "secret", roles)
        made._adapter.session.session = Answers()
        made.version = (1, 30)
        assert made.tree(UID) == {}
    first, second = sent
    assert first.url == f"http://placement.test/placement/resource_providers?in_tree={UID}"
    assert (first.headers["X-Auth-Token"], first.headers["X-Roles"]) == ("secret", "admin,service")
    assert first.headers["OpenStack-API-Version"] == "placement 1.30"
    assert "X-Roles" not in second.headers
