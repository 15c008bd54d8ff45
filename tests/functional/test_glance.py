# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Images from a real Glance: uploaded as an operator does, seen as Glance lets a user see them."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from keystoneauth1 import adapter, session, token_endpoint

from devagent.images.cache import Cache
from devagent.images.directory import Directory
from devagent.images.glance import Glance
from devagent.images.index import Index
from devagent.images.library import Image, Library, Sources
from devagent.images.refused import NoImage
from devagent.images.signature import SigningKey
from devagent.model.preparation import RefusalKind

from . import glance_process

pytestmark = pytest.mark.skipif(not glance_process.PYTHON.exists(), reason=glance_process.MISSING)

PATIENCE_S = 60.0
DATA = b"\x5a" * 3_000_000
OURS, THEIRS = uuid.uuid4().hex, uuid.uuid4().hex


def identity(project: str) -> dict[str, str]:
    """Gives what Keystone's middleware says of a user without the admin role."""
    roles = {"X-Identity-Status": "Confirmed", "X-Roles": "member,reader", "X-User-Id": "u"}
    return {**roles, "X-Project-Id": project, "X-Tenant-Id": project}


@dataclass(frozen=True)
class Tenant:
    """Somebody with a project."""

    url: str
    project: str

    def call(self, method: str, path: str, expected: int, **more: Any) -> Any:
        headers = {**identity(self.project), **more.pop("headers", {})}
        answer = requests.request(method, f"{self.url}/v2{path}", headers=headers, timeout=PATIENCE_S, **more)
        assert answer.status_code == expected, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def create(self, name: str, **more: Any) -> str:
        """Makes an image without data."""
        body = {"name": name, "disk_format": "raw", "container_format": "bare", "visibility": "private", **more}
        return str(self.call("POST", "/images", 201, json=body)["id"])

    def upload(self, name: str, data: bytes, **more: Any) -> str:
        """Makes an image with its data."""
        own = self.create(name, **more)
        kind = {"Content-Type": "application/octet-stream"}
        self.call("PUT", f"/images/{own}/file", 204, data=data, headers=kind)
        return own


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder, glance_process.running(Path(folder)) as own:
        yield own


@pytest.fixture
def ours(url: str) -> Tenant:
    return Tenant(url, OURS)


@pytest.fixture
def theirs(url: str) -> Tenant:
    return Tenant(url, THEIRS)


def library(url: str, top: Path, key: SigningKey | None = None) -> Library:
    own = session.Session(auth=token_endpoint.Token(url, "t"), additional_headers=identity(OURS))
    glance = Glance(adapter.Adapter(own, service_type="image"))
    cache = Cache(top / "images", frozenset, lambda: 64)
    return Library(cache, Index(top / "images.json"), lambda: Sources(Directory(top / "bitstreams"), glance, key))


def get(library: Library, name: str) -> Image:
    with library.holding([name], time.monotonic() + PATIENCE_S, threading.Event(), lambda _: None) as images:
        return images[name]


def refused(library: Library, name: str) -> tuple[RefusalKind, str]:
    with pytest.raises(NoImage) as caught:
        get(library, name)
    return caught.value.refusal.kind, caught.value.refusal.reason


def test_an_image_is_had_by_id_and_by_name(ours: Tenant, url: str, tmp_path: Path) -> None:
    name = uuid.uuid4().hex[:12]
    own = ours.upload(name, DATA)
    found = library(url, tmp_path)
    for each in (own, name):
        assert get(found, each).digest == hashlib.sha256(DATA).hexdigest()
    assert (tmp_path / "images" / hashlib.sha256(DATA).hexdigest()).read_bytes() == DATA


def test_what_others_keep_to_themselves_is_not_seen_and_what_they_share_is_by_its_id(
    theirs: Tenant, url: str, tmp_path: Path
) -> None:
    name = uuid.uuid4().hex[:12]
    found = library(url, tmp_path)
    private, community = theirs.upload(name, DATA), theirs.upload(name, DATA, visibility="community")
    for each in (private, name):
        kind, reason = refused(found, each)
        assert (kind, "no image is called" in reason) == (RefusalKind.INVALID, True)
    assert get(found, community).digest == hashlib.sha256(DATA).hexdigest()


def test_an_image_without_its_data_is_not_there_yet_and_a_deleted_one_not_any_more(
    ours: Tenant, url: str, tmp_path: Path
) -> None:
    name = uuid.uuid4().hex[:12]
    own = ours.create(name)
    found = library(url, tmp_path)
    assert refused(found, name) == (RefusalKind.RETRY, f"Glance's image {own} is not there yet: it is queued")
    ours.call("DELETE", f"/images/{own}", 204)
    assert refused(found, own)[0] is RefusalKind.INVALID


def test_a_deactivated_image_is_refused_also_while_it_is_here(ours: Tenant, url: str, tmp_path: Path) -> None:
    own = ours.upload(uuid.uuid4().hex[:12], DATA)
    found = library(url, tmp_path)
    get(found, own)
    ours.call("POST", f"/images/{own}/actions/deactivate", 204, headers={"X-Roles": "admin"})
    kind, reason = refused(found, own)
    assert (kind, reason) == (RefusalKind.INVALID, f"Glance's image {own} is deactivated, not active")


def test_two_images_of_one_name_are_told_apart_by_their_ids(ours: Tenant, url: str, tmp_path: Path) -> None:
    name = uuid.uuid4().hex[:12]
    both = [ours.upload(name, data) for data in (DATA, DATA + b"x")]
    kind, reason = refused(library(url, tmp_path), name)
    assert (kind, all(each in reason for each in both)) == (RefusalKind.INVALID, True)


def test_a_store_that_lost_the_data_or_damaged_it_is_told(
    ours: Tenant, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devagent.images.download._PAUSE_S", 0.0)
    own = ours.upload(uuid.uuid4().hex[:12], DATA)
    (path,) = Path(tempfile.gettempdir()).glob(f"*/store/{own}")
    found = library(url, tmp_path)
    path.write_bytes(b"x" + DATA[1:])
    kind, reason = refused(found, own)
    assert (kind, "is damaged: its sha512 is" in reason) == (RefusalKind.PERMANENT, True)
    path.unlink()
    assert refused(found, own)[0] in (RefusalKind.INVALID, RefusalKind.RETRY)
    assert list((tmp_path / "images").iterdir()) == []


def test_a_signature_is_a_property_as_the_documentation_says(ours: Tenant, url: str, tmp_path: Path) -> None:
    private, public, data = (tmp_path / name for name in ("private.pem", "public.pem", "data"))
    data.write_bytes(DATA)
    for command in (
        f"genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out {private}",
        f"pkey -in {private} -pubout -out {public}",
        f"dgst -sha256 -sign {private} -out {tmp_path}/sig {data}",
    ):
        subprocess.run(["openssl", *command.split()], check=True, capture_output=True)
    signature = base64.b64encode((tmp_path / "sig").read_bytes()).decode()
    signed = ours.upload(uuid.uuid4().hex[:12], DATA, devagent_signature=signature)
    unsigned = ours.upload(uuid.uuid4().hex[:12], DATA)
    found = library(url, tmp_path, SigningKey(public))
    assert get(found, signed)
    kind, reason = refused(found, unsigned)
    assert (kind, "is not signed" in reason) == (RefusalKind.PERMANENT, True)
