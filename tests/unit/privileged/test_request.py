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


def test_a_verb_and_a_service_are_parsed() -> None:
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


UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"
FUNCTION = {"address": "0000:3b:00.1"}
MDEV = FUNCTION | {"type": "nvidia-558", "uuid": UUID}
VALUES: dict[str, Any] = {"mac": "fa:16:3e:0b:7c:01", "vlan": 120, "trust": 1, "rate": 2500}
NOTHING = dict.fromkeys(VALUES)
IMAGE: dict[str, Any] = {"region": "region1", "port": 3, "digest": "0123456789abcdef" * 4}
PROGRAM: dict[str, Any] = IMAGE | {"interface": "f3c994130e6b4f2c9a3b8d6e7a1c0d11"}

DRIVERS = ("", ".", "..", "../x", "a/b", "a b", "vfio-pci\n", 1, "x" * 65)

FITTING: list[tuple[str, dict[str, Any]]] = [
    ("bind", {"driver": "vfio-pci", "override": "vfio-pci"}),
    ("bind", {"driver": "4xxx", "override": None}),
    ("bind", {"driver": None, "override": "nvme"}),
    ("driver", {}),
    ("reset", {"method": "flr"}),
    ("reset", {"method": None}),
    ("create_mdev", {"type": "i915-GVTg_V5_4", "uuid": UUID}),
    ("remove_mdev", {"type": "nvidia-558", "uuid": UUID}),
    ("vgpu_type", {}),
    ("set_vgpu_type", {"type": 1155}),
    ("vf_attributes", {"index": 3}),
    ("set_vf_attributes", {"index": 3, **VALUES}),
    ("set_vf_attributes", {"index": 3, **NOTHING}),
    ("mig_placement", {"profile": "1g.10gb", "promised": []}),
    ("mig_placement", {"profile": "1g.10gb", "promised": ["1g.12gb+me.all@0", "3g.40gb@63"]}),
    ("create_mig", {"profile": "1g.10gb", "placement": None}),
    ("create_mig", {"profile": "1g.12gb+me.all", "placement": 6}),
    ("destroy_mig", {"profile": "2g.20gb-me", "placement": 0}),
    ("set_mig_mode", {"enabled": 1}),
    ("fpga_image", IMAGE),
    ("program_fpga", PROGRAM),
    ("program_fpga", PROGRAM | {"region": None, "port": None, "interface": None}),
]


@pytest.mark.parametrize(("verb", "arguments"), FITTING, ids=lambda value: str(value)[:30])
def test_what_a_plan_asks_of_the_verbs_is_taken(verb: str, arguments: dict[str, Any]) -> None:
    raw = {"verb": verb, "arguments": FUNCTION | arguments, "deadline_s": 30}
    assert parse(json.dumps(raw).encode(), ()).arguments == FUNCTION | arguments


@pytest.mark.parametrize(
    ("verb", "arguments", "value"),
    [
        *(("bind", {"driver": 0, "override": None}, value) for value in DRIVERS),
        *(("bind", {"driver": None, "override": 0}, value) for value in DRIVERS),
        *(("reset", {"method": 0}, value) for value in ("", "flr bus", "default", 1, ["flr"])),
        *(("create_mdev", MDEV | {"type": 0}, value) for value in (None, "", "..", "../create", "a/b", "a\n")),
        *(("remove_mdev", MDEV | {"uuid": 0}, value) for value in (None, "", "..", UUID.upper(), UUID + "\n", "../x")),
        *(("set_vgpu_type", {"type": 0}, value) for value in (None, -1, "1155", 1.0, True, 10**9)),
        *(("vf_attributes", {"index": 0}, value) for value in (None, -1, 65536, "3")),
        *(
            ("mig_placement", {"profile": 0, "promised": []}, value)
            for value in (None, 19, "", "1g", "../1g.10gb", "1g.10gb/x")
        ),
        *(
            ("mig_placement", {"profile": "1g.10gb", "promised": 0}, value)
            for value in (None, "1g.10gb@6", ["1g.10gb"], ["1g.10gb@64"], ["1g.10gb@6\n"], [6], ["1g.10gb@6"] * 17)
        ),
        *(("destroy_mig", {"profile": "1g.10gb", "placement": 0}, value) for value in (None, -1, 64, "6", True)),
        *(("set_mig_mode", {"enabled": 0}, value) for value in (None, 2, True, "1")),
        *(("set_vf_attributes", {"index": 3, **NOTHING, "mac": 0}, value) for value in ("", "fa:16:3e:0b:7c", "FA")),
        *(("set_vf_attributes", {"index": 3, **NOTHING, "vlan": 0}, value) for value in (-1, 4095, "5", True)),
        *(("set_vf_attributes", {"index": 3, **NOTHING, "trust": 0}, value) for value in (2, True, "true")),
        *(("set_vf_attributes", {"index": 3, **NOTHING, "rate": 0}, value) for value in (-1, 2**32, "1")),
        *(("program_fpga", PROGRAM | {"region": 0}, value) for value in ("", "..", "region1/..", "region1\n")),
        *(("program_fpga", PROGRAM | {"port": 0}, value) for value in (-1, 256, "0", True, 1.0)),
        *(("program_fpga", PROGRAM | {"digest": 0}, value) for value in (None, "", "A" * 64, "a" * 63, "a" * 65)),
        *(("program_fpga", PROGRAM | {"interface": 0}, value) for value in ("", "a" * 33, "A" * 32, 7)),
        *(("fpga_image", IMAGE | {"digest": 0}, value) for value in (None, "../../etc/shadow", "sha256:" + "a" * 64)),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_what_they_do_not_take(verb: str, arguments: dict[str, Any], value: Any) -> None:
    name = next((name for name in arguments if arguments[name] == 0 and type(arguments[name]) is int), "")
    text = refusal(GOOD | {"verb": verb, "arguments": FUNCTION | arguments | {name: value}})
    assert text.startswith(f"{verb} does not take ")
    assert text.endswith(f" as {name}")


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
_NAMES = sorted({name for verb in VERBS.values() for name in verb.arguments} | {"more"})
_ANY = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner))


@given(
    st.fixed_dictionaries(
        {
            "verb": st.sampled_from([*VERBS, "other"]) | _ANY,
            "arguments": st.fixed_dictionaries({}, optional=dict.fromkeys(_NAMES, _ANY)) | _ANY,
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
        checks = VERBS[request.name].arguments
        assert request.arguments.keys() == checks.keys()
        assert all(check(request.arguments[name]) for name, check in checks.items())


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_understood(data: bytes) -> None:
    with suppress(Refused):
        parse(data, ())
