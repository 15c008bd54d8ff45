# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Images from Glance: what is taken, what is refused and how, and what is still had while Glance is away."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from oslo_config import cfg

from devagent.errors import ConfigurationError
from devagent.images import glance as module
from devagent.images.refused import NoImage
from devagent.model.preparation import Progress, RefusalKind

from ..model.images import FUNCTION, INTERFACE, gbs
from .conftest import Room, put
from .glances import PATIENCE_S, FakeGlance, Handler

DATA = gbs(b"\xa5" * 300_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
INVALID, PERMANENT, RETRY = RefusalKind.INVALID, RefusalKind.PERMANENT, RefusalKind.RETRY


def test_an_image_is_had_by_its_id_and_by_its_name(cloud: Room, glance: FakeGlance) -> None:
    own = glance.add("loopback", DATA)
    for name in (own, "loopback"):
        (image,) = cloud.get(name)
        assert (image.digest, image.header.interface_id, image.header.function_id) == (SHA256, INTERFACE, FUNCTION)
    assert (glance.downloads(), cloud.cached()) == (1, {SHA256})
    assert cloud.cache.path(SHA256).read_bytes() == DATA


def test_its_progress_is_told(cloud: Room, glance: FakeGlance) -> None:
    half, go_on = threading.Event(), threading.Event()

    def slow(handler: Handler, data: bytes) -> None:
        handler.begin("application/octet-stream", len(data))
        handler.wfile.write(data[:1000])
        half.set()
        go_on.wait(PATIENCE_S)
        handler.wfile.write(data[1000:])

    glance.send = slow
    glance.add("loopback", DATA)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(cloud.get, "loopback")
        assert half.wait(PATIENCE_S)
        until(lambda: cloud.told[-1:] == [Progress("loopback", 1000, len(DATA))])
        go_on.set()
        future.result(PATIENCE_S)
    assert cloud.told[-2:] == [Progress("loopback", len(DATA), len(DATA)), None]


def test_glance_is_asked_each_time_and_gives_the_data_once(cloud: Room, glance: FakeGlance) -> None:
    own = glance.add("loopback", DATA)
    cloud.get("loopback")
    cloud.start()
    cloud.get(own)
    assert (glance.asked.count(f"/v2/images/{own}"), glance.downloads()) == (1, 1)
    glance.images[own]["status"] = "deactivated"
    assert cloud.refused(own).kind is INVALID


def test_who_asks_at_the_same_time_shares_one_download(cloud: Room, glance: FakeGlance) -> None:
    everybody = threading.Event()

    def slow(handler: Handler, data: bytes) -> None:
        everybody.wait(PATIENCE_S)
        handler.whole(data)

    glance.send = slow
    own = glance.add("loopback", DATA)
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(cloud.get, name) for name in (own, "loopback") * 4]
        until(lambda: len(glance.asked) == 9)
        everybody.set()
        assert {future.result(PATIENCE_S)[0].digest for future in futures} == {SHA256}
    assert glance.downloads() == 1


def test_who_has_no_time_left_or_is_cancelled_is_told_and_others_get_it(cloud: Room, glance: FakeGlance) -> None:
    go_on = glance.halt_after(1000)
    glance.add("loopback", DATA)
    cancelled = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        patient = pool.submit(cloud.get, "loopback")
        until(lambda: glance.downloads() == 1)
        other = pool.submit(cloud.get, "loopback", cancelled=cancelled)
        refusal = cloud.refused("loopback", seconds=0.3)
        assert (refusal.kind, "no time is left" in refusal.reason) == (RETRY, True)
        cancelled.set()
        with pytest.raises(NoImage, match="is not wanted any more"):
            other.result(PATIENCE_S)
        go_on.set()
        assert patient.result(PATIENCE_S)[0].digest == SHA256
    assert glance.downloads() == 1


def test_a_body_that_trickles_holds_up_nobody_beyond_the_deadline(cloud: Room, glance: FakeGlance) -> None:
    ended = threading.Event()

    def trickle(handler: Handler, data: bytes) -> None:
        try:
            handler.begin("application/octet-stream", len(data))
            for byte in data[:3000]:
                handler.wfile.write(bytes([byte]))
                time.sleep(0.01)
        finally:
            ended.set()

    glance.send = trickle
    glance.add("loopback", DATA)
    assert cloud.refused("loopback", seconds=0.3).kind is RETRY
    assert ended.wait(PATIENCE_S), "nobody reads it any more"
    until(lambda: cloud.cached() == set())


@pytest.mark.parametrize("send", [Handler.whole, Handler.chunked])
def test_however_the_body_comes_it_is_the_same(cloud: Room, glance: FakeGlance, send: Any) -> None:
    glance.send = send
    glance.add("loopback", DATA)
    assert cloud.get("loopback")[0].digest == SHA256


@pytest.mark.parametrize(
    ("send", "kind", "said"),
    [
        (Handler.endless, PERMANENT, "is longer than the"),
        (Handler.cut, RETRY, "does not come any further"),
        (lambda handler, data: handler.whole(data[:-1]), RETRY, f"ended after {len(DATA) - 1} of {len(DATA)} bytes"),
        (lambda handler, data: handler.whole(b"x" + data[1:]), PERMANENT, "is damaged: its sha512 is"),
        (lambda handler, data: handler.whole(data + b"x"), PERMANENT, "is longer than the"),
        (lambda handler, data: handler.begin("text/plain", 0, 204), RETRY, "ended after 0 of"),
    ],
)
def test_a_body_that_is_not_the_image_is_tried_again_and_refused(
    cloud: Room, glance: FakeGlance, send: Any, kind: RefusalKind, said: str
) -> None:
    glance.send = send
    glance.add("loopback", DATA)
    refusal = cloud.refused("loopback")
    assert (refusal.kind, said in refusal.reason) == (kind, True), refusal.reason
    assert (cloud.cached(), glance.downloads()) == (set(), 3)
    glance.send = Handler.whole
    assert cloud.get("loopback")


def test_a_glance_that_is_restarted_meanwhile_is_asked_again(cloud: Room, glance: FakeGlance) -> None:
    glance.fails = [("/file", 503), ("/file", 502)]
    glance.add("loopback", DATA)
    assert cloud.get("loopback")[0].digest == SHA256


@pytest.mark.parametrize(
    ("end", "status", "kind", "said"),
    [
        ("", 401, RETRY, "the credentials of [glance] are refused"),
        ("", 403, PERMANENT, "may not read that image, or it was deactivated"),
        ("", 404, INVALID, "no image is called"),
        ("", 410, INVALID, "no image is called"),
        ("", 500, RETRY, "Glance answers 500"),
        ("", 503, RETRY, "Glance answers 503"),
        ("", 429, RETRY, "Glance answers 429"),
        ("", 301, PERMANENT, "check [glance] endpoint_override"),
        ("/file", 401, RETRY, "the credentials of [glance] are refused"),
        ("/file", 403, PERMANENT, "may not read that image, or it was deactivated"),
        ("/file", 404, INVALID, "is not there any more"),
        ("/file", 410, INVALID, "is not there any more"),
        ("/file", 302, PERMANENT, "check [glance] endpoint_override"),
    ],
)
def test_each_status_is_told_as_what_can_be_done_about_it(
    cloud: Room, glance: FakeGlance, end: str, status: int, kind: RefusalKind, said: str
) -> None:
    own = glance.add("loopback", DATA)
    glance.fails = [(own + end, status)] * 3
    refusal = cloud.refused(own)
    assert (refusal.kind, said in refusal.reason) == (kind, True), refusal.reason
    assert "/elsewhere" not in glance.asked, "nobody else is sent the token"


@pytest.mark.parametrize(
    ("more", "kind", "said"),
    [
        ({"status": "saving"}, RETRY, "is not there yet: it is saving"),
        ({"status": "queued", "size": None, "os_hash_algo": None}, RETRY, "is not there yet: it is queued"),
        ({"status": "deactivated"}, INVALID, "is deactivated, not active"),
        ({"status": "killed"}, INVALID, "is killed, not active"),
        ({"status": None}, INVALID, "not active"),
        ({"os_hash_algo": None}, PERMANENT, "has no os_hash_value"),
        ({"os_hash_value": ""}, PERMANENT, "has no os_hash_value"),
        ({"os_hash_algo": "md5", "os_hash_value": "0" * 32}, PERMANENT, "cannot be checked by its os_hash_value"),
        ({"os_hash_algo": "sha512", "os_hash_value": "zz"}, PERMANENT, "cannot be checked by its os_hash_value"),
        ({"os_hash_algo": ["x"]}, PERMANENT, "has no os_hash_value"),
        ({"size": 1 << 40}, INVALID, "an image has 1 to"),
        ({"size": 0}, INVALID, "an image has 1 to"),
        ({"size": None}, INVALID, "an image has 1 to"),
        ({"size": 1 << 27}, PERMANENT, "[images] cache_size"),
        ({"id": "../../v3/users"}, INVALID, "no image is called"),
    ],
)
def test_an_image_that_cannot_be_used_is_refused_without_its_data(
    cloud: Room, glance: FakeGlance, more: dict[str, Any], kind: RefusalKind, said: str
) -> None:
    own = glance.add("loopback", DATA, **more)
    refusal = cloud.refused(own)
    assert (refusal.kind, said in refusal.reason) == (kind, True), refusal.reason
    assert glance.downloads() == 0


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{}", b'{"images": 3}', b'{"images": [3]}', b"<html>", b"[" * 999]
)
def test_an_answer_that_is_not_glance_s_is_no_crash(cloud: Room, glance: FakeGlance, body: bytes) -> None:
    own = glance.add("x", DATA)
    glance.images[own] = _Raw(body)
    assert cloud.refused(own).kind in (RETRY, INVALID)


class _Raw(dict[str, Any]):
    """What json.dumps makes of it does not matter: it is sent as it is."""

    def __init__(self, body: bytes) -> None:
        super().__init__({"name": "x"})
        self.body = body


@pytest.fixture(autouse=True)
def raw(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Handler.json

    def send(handler: Handler, document: Any) -> None:
        if isinstance(document, _Raw):
            handler.begin("application/json", len(document.body))
            handler.wfile.write(document.body)
        else:
            usual(handler, document)

    monkeypatch.setattr(Handler, "json", send)


def test_an_answer_without_an_end_is_given_up(cloud: Room, glance: FakeGlance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "json", lambda handler, _: handler.endless(b" " * 5000))
    glance.add("loopback", DATA)
    assert "its answer has no end" in cloud.refused("loopback").reason


def test_a_name_must_mean_one_image(cloud: Room, glance: FakeGlance) -> None:
    first, second = (glance.add("loopback", DATA) for _ in range(2))
    refusal = cloud.refused("loopback")
    assert (refusal.kind, all(each in refusal.reason for each in (first, second))) == (INVALID, True)
    glance.images[first]["status"] = "deactivated"
    assert cloud.get("loopback")[0].digest == SHA256
    assert cloud.refused("in:loopback,x").kind is INVALID


def test_the_directory_comes_before_glance(cloud: Room, glance: FakeGlance) -> None:
    glance.add("loopback", DATA)
    digest = put(cloud, "loopback", gbs(b"other"))
    assert cloud.get("loopback")[0].digest == digest
    assert glance.asked == []


def test_while_glance_is_away_an_image_is_known_by_its_id_only(cloud: Room, glance: FakeGlance) -> None:
    own, other = glance.add("loopback", DATA), str(uuid.uuid4())
    cloud.get("loopback")
    away = FakeGlance("http://127.0.0.1:1")
    cloud.glance = away
    cloud.start()
    assert cloud.get(own)[0].digest == SHA256
    for name in ("loopback", other):
        refusal = cloud.refused(name)
        assert (refusal.kind, "Glance cannot be reached" in refusal.reason) == (RETRY, True)
    cloud.cache.path(SHA256).write_bytes(b"damaged")
    assert cloud.refused(own).kind is RETRY


def test_an_image_that_another_one_brought_here_is_known_too_while_glance_is_away(
    cloud: Room, glance: FakeGlance
) -> None:
    first, second = glance.add("loopback", DATA), glance.add("also", DATA)
    cloud.get(first)
    cloud.get(second)
    cloud.glance = FakeGlance("http://127.0.0.1:1")
    cloud.start()
    for _ in range(2):
        assert [image.digest for image in cloud.get(first, second)] == [SHA256, SHA256]


def test_what_the_journal_needs_is_fetched_again_by_what_glance_was_known_to_have(
    cloud: Room, glance: FakeGlance
) -> None:
    glance.add("loopback", DATA)
    cloud.get("loopback")
    cloud.cache.path(SHA256).write_bytes(b"damaged")
    cloud.start()
    cloud.library.keep(SHA256, time.monotonic() + PATIENCE_S)
    assert cloud.cache.path(SHA256).read_bytes() == DATA


@pytest.mark.parametrize("text", ["", "{", "[]", '{"images": {"x": 3}}', '{"images": {"x": {}}}', "\xff"])
def test_a_damaged_index_costs_a_download_only(cloud: Room, glance: FakeGlance, text: str) -> None:
    own = glance.add("loopback", DATA)
    cloud.get(own)
    (cloud.top / "images.json").write_text(text, encoding="latin-1")
    cloud.start()
    assert cloud.get(own)[0].digest == SHA256
    assert glance.downloads() == 2
    assert json.loads((cloud.top / "images.json").read_text())["images"].keys() == {own}


def test_an_endpoint_that_has_the_version_already_is_not_given_it_twice(cloud: Room, glance: FakeGlance) -> None:
    own = glance.add("loopback", DATA)
    glance.url += "/v2"
    cloud.get(own)
    assert glance.asked[0] == f"/v2/images/{own}"


def configuration(text: str, tmp_path: Any) -> cfg.ConfigOpts:
    path = tmp_path / "devagent.conf"
    path.write_text(text)
    conf = cfg.ConfigOpts()
    conf(args=[], default_config_files=[str(path)], default_config_dirs=[])
    return conf


def test_without_credentials_there_is_no_glance(tmp_path: Any) -> None:
    assert module.from_conf(configuration("[glance]\nregion_name = x\n", tmp_path)) is None


@pytest.mark.parametrize("section", ["glance", "placement"])
def test_its_credentials_may_stand_in_a_section_of_their_own(
    tmp_path: Any, section: str, cloud: Room, glance: FakeGlance
) -> None:
    own = glance.add("loopback", DATA)
    also = "auth_section = placement\n" if section == "placement" else ""
    token = f"[{section}]\nauth_type = admin_token\nendpoint = {glance.url}\ntoken = t0ken\n"
    found = module.from_conf(configuration(f"[glance]\n{also}{token}", tmp_path))
    assert found is not None
    offer = found.find(own, PATIENCE_S)
    assert offer is not None
    assert offer.glance_id == own


def test_an_unknown_plugin_is_a_mistake_of_the_configuration(tmp_path: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^\[glance\]: "):
        module.from_conf(configuration("[glance]\nauth_type = nothing\n", tmp_path))


def test_a_signature_that_is_no_base64_is_refused(cloud: Room, glance: FakeGlance) -> None:
    glance.add("loopback", DATA, devagent_signature="%%%")
    assert "is no base64" in cloud.refused("loopback").reason
    glance.images.clear()
    glance.add("loopback", DATA, devagent_signature=base64.b64encode(b"whatever").decode())
    assert cloud.get("loopback")


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
