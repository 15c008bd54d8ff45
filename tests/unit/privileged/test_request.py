# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Nothing but the verbs, with arguments of their patterns, is ever carried out."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devagent.model.pci import is_address
from devagent.privileged.request import Refused, parse
from devagent.privileged.verbs import VERBS

GOOD: dict[str, Any] = {
    "verb": "set_vf_count",
    "arguments": {"address": "0000:3b:00.0", "count": 8},
    "deadline_s": 30,
}


def refusal(raw: Any) -> str:
    with pytest.raises(Refused) as caught:
        parse(json.dumps(raw).encode(), ("look",))
    return str(caught.value)


def test_a_verb_and_a_service() -> None:
    request = parse(json.dumps(GOOD).encode(), ())
    assert (request.name, request.arguments, request.deadline_s) == ("set_vf_count", GOOD["arguments"], 30.0)
    assert request.address == "0000:3b:00.0"
    assert parse(b'{"service": "look"}', ("look",)).deadline_s is None


@pytest.mark.parametrize(
    "address",
    ["../../etc", "0000:3b:00.0/../x", "0000:3b:00.8", "0000:3B:00.0", "", "0000:3b:00.0\n", "\u0660000:3b:00.0",
     None, 1, ["0000:3b:00.0"], {"a": 1}, "\ud800"],
)  # fmt: skip
def test_what_is_no_address(address: Any) -> None:
    assert "as address" in refusal(GOOD | {"arguments": {"address": address, "count": 8}})


@pytest.mark.parametrize("count", [-1, 65536, 1.0, True, "8", None, [8], 10**100])
def test_what_is_no_count(count: Any) -> None:
    assert "as count" in refusal(GOOD | {"arguments": {"address": "0000:3b:00.0", "count": count}})


@pytest.mark.parametrize("deadline", [0, -1, 3601, "1", None, True, float("inf"), float("nan")])
def test_what_is_no_deadline(deadline: Any) -> None:
    assert "deadline_s is not" in refusal(GOOD | {"deadline_s": deadline})


def test_neither_more_nor_less_than_what_is_known() -> None:
    assert refusal(GOOD | {"verb": "rm"}) == "there is no verb 'rm'"
    assert refusal({"service": "shell"}) == "there is no service 'shell'"
    assert refusal({"service": ["look"]}) == "there is no service ['look']"
    assert refusal(GOOD | {"arguments": {"count": 8}}) == "set_vf_count takes address, count"
    assert refusal(GOOD | {"arguments": {"address": "0000:3b:00.0", "count": 8, "root": "/"}}).startswith("set_vf_")
    assert refusal({"verb": "ping", "arguments": [], "deadline_s": 1}) == "ping takes no arguments"
    for raw in (GOOD | {"root": "/"}, {"service": "look", "deadline_s": 1}, {}, {"verb": "ping"}):
        assert refusal(raw).startswith("has not the keys")
    assert len(refusal(GOOD | {"verb": "x" * 3000})) < 100


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 4000, b"9" * 4096, b"NaN", b"[]", b'"ping"', b"null"])
def test_what_is_no_request_at_all(data: bytes) -> None:
    with pytest.raises(Refused):
        parse(data, ())


_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
_LEAVES |= st.sampled_from(["0000:3b:00.0", "10000:01:00.0", 8, "set_vf_count", "ping"])
_ANY = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner))


@given(
    st.fixed_dictionaries(
        {
            "verb": st.sampled_from([*VERBS, "other"]) | _ANY,
            "arguments": st.fixed_dictionaries({}, optional={"address": _ANY, "count": _ANY, "more": _ANY}) | _ANY,
            "deadline_s": st.floats() | _ANY,
        }
    )
    | _ANY
)
def test_whatever_comes_is_refused_or_fits_the_patterns(raw: Any) -> None:
    with suppress(Refused):
        request = parse(json.dumps(raw).encode(), ("look",))
        assert request.name in VERBS
        assert request.deadline_s is not None
        assert 0 < request.deadline_s <= 3600
        if request.name == "set_vf_count":
            assert request.arguments.keys() == {"address", "count"}
            assert is_address(request.arguments["address"])
            assert 0 <= request.arguments["count"] <= 65535
        else:
            assert request.arguments == {}


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_understood(data: bytes) -> None:
    with suppress(Refused):
        parse(data, ())
