# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Images that somebody must have signed: by openssl, as the documentation says."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from devagent.errors import ConfigurationError
from devagent.images.signature import SigningKey
from devagent.model.preparation import RefusalKind

from .conftest import RAW, Room, put
from .glances import FakeGlance

KINDS = {
    "rsa": ("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
    "ec": ("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
}


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@pytest.fixture(params=KINDS)
def private(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "private.pem"
    openssl(*KINDS[request.param], "-out", path)
    return path


def public(private: Path) -> SigningKey:
    path = private.with_suffix(".pub")
    openssl("pkey", "-in", private, "-pubout", "-out", path)
    return SigningKey(path)


def sign(private: Path, path: Path) -> Path:
    made = path.with_name(path.name + ".sig")
    openssl("dgst", "-sha256", "-sign", private, "-out", made, path)
    return made


def test_a_signed_image_is_taken_and_each_other_is_refused(room: Room, private: Path) -> None:
    room.key = public(private)
    put(room, "a", RAW)
    refusal = room.refused("a")
    assert (refusal.kind, "is not signed" in refusal.reason) == (RefusalKind.PERMANENT, True)
    signature = sign(private, room.directory / "a")
    assert room.get("a")
    put(room, "a", RAW + b"x")
    refusal = room.refused("a")
    assert (refusal.kind, "its signature is not by the key in" in refusal.reason) == (RefusalKind.PERMANENT, True)
    put(room, "a", RAW)
    for wrong in (b"", b"x", signature.read_bytes()[:-1], bytes(256)):
        signature.write_bytes(wrong)
        assert room.refused("a").kind is RefusalKind.PERMANENT


def test_an_image_of_glance_s_has_its_signature_as_a_property_also_while_glance_is_away(
    cloud: Room, glance: FakeGlance, private: Path, tmp_path: Path
) -> None:
    cloud.key = public(private)
    (tmp_path / "a").write_bytes(RAW)
    signature = base64.b64encode(sign(private, tmp_path / "a").read_bytes()).decode()
    own, unsigned = glance.add("a", RAW, devagent_signature=signature), glance.add("b", RAW)
    assert cloud.get(own)
    assert cloud.refused(unsigned).kind is RefusalKind.PERMANENT
    cloud.glance = FakeGlance("http://127.0.0.1:1")
    cloud.start()
    assert cloud.get(own)
    openssl(*KINDS["rsa"], "-out", tmp_path / "other.pem")
    cloud.key = public(tmp_path / "other.pem")
    assert cloud.refused(own).kind is RefusalKind.PERMANENT


@pytest.mark.parametrize("text", [None, "", "no key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_a_key_that_is_none_is_a_mistake_of_the_configuration(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "key.pem"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigurationError, match=rf"^configuration: \[images\] signing_key: {path}: "):
        SigningKey(path)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    openssl("genpkey", "-algorithm", "ED25519", "-out", tmp_path / "private.pem")
    with pytest.raises(ConfigurationError, match="is neither an RSA nor an EC key"):
        public(tmp_path / "private.pem")
