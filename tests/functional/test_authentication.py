# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Every way of keystoneauth to reach Placement, as [placement] says it: plugins, regions, interfaces, TLS."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from devagent import conf
from devagent.placement import client
from devagent.placement.reporter import Reporter

from . import keystone
from .cloud import Cloud, assert_is
from .conftest import Describe, Devagent, Ran, Write
from .descriptions import small
from .keystone import PASSWORD, SECRET, Keystone

Report = Callable[..., Ran]

USER = {"username": "devagent", "user_domain_name": "Default"}
PROJECT = {"project_name": "service", "project_domain_name": "Default"}
WHERE = {"region_name": "RegionOne", "valid_interfaces": "internal"}


@pytest.fixture
def identity(placement: str) -> Iterator[Keystone]:
    """Runs a Keystone in front of the Placement."""
    with keystone.serving(Keystone(placement)) as running:
        yield running


@pytest.fixture
def report(describe: Describe, write: Write, devagent: Devagent, tmp_path: Path) -> Report:
    """Runs `devagent report` with the given [placement] options."""

    def run(cloud: Cloud, **options: str) -> Ran:
        lines = "".join(f"{name} = {value}\n" for name, value in options.items())
        text = f"[DEFAULT]\nhost = {cloud.name}\nstate_path = {tmp_path}\n[placement]\n{lines}"
        return devagent("report", "--once", "--root", describe(small()), "--config-file", write("devagent.conf", text))

    return run


def password(identity: Keystone, **other: str) -> dict[str, str]:
    return {"auth_type": "password", "auth_url": f"{identity.url}/v3", "password": PASSWORD, **USER, **PROJECT, **other}


def test_a_password_gets_a_token(report: Report, cloud: Cloud, identity: Keystone) -> None:
    ran = report(cloud, **password(identity, **WHERE))
    assert (ran.code, ran.err) == (0, "")
    assert identity.logins == ["password"]
    assert len(cloud.ours()) == 3


def test_an_application_credential_gets_a_token(report: Report, cloud: Cloud, identity: Keystone) -> None:
    options = {"application_credential_id": "some-id", "application_credential_secret": SECRET}
    auth = {"auth_type": "v3applicationcredential", "auth_url": f"{identity.url}/v3"}
    assert report(cloud, **auth, **options, **WHERE).code == 0
    assert identity.logins == ["application_credential"]
    assert len(cloud.ours()) == 3


def test_a_token_and_an_endpoint_need_no_keystone(report: Report, cloud: Cloud) -> None:
    assert report(cloud, auth_type="admin_token", endpoint=cloud.url, token="admin").code == 0
    assert len(cloud.ours()) == 3


def test_a_wrong_password_is_one_message(report: Report, cloud: Cloud, identity: Keystone) -> None:
    ran = report(cloud, **{**password(identity, **WHERE), "password": "wrong"})
    assert (ran.code, ran.out) == (1, "")
    (line,) = ran.err.splitlines()
    assert line.startswith("devagent: error: the credentials of [placement] are refused or incomplete")


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"region_name": "RegionTwo", "valid_interfaces": "internal"}, "cannot be reached"),
        ({"region_name": "RegionOne", "valid_interfaces": "public"}, "cannot be reached"),
        ({"region_name": "RegionThree", "valid_interfaces": "internal"}, "no placement endpoint is known"),
        ({"region_name": "RegionOne", "valid_interfaces": "admin"}, "no placement endpoint is known"),
    ],
)
def test_region_and_interface_choose_the_endpoint(
    report: Report, cloud: Cloud, identity: Keystone, where: dict[str, str], said: str
) -> None:
    ran = report(cloud, connect_retries="0", **password(identity, **where))
    assert ran.code == 1
    assert said in ran.err


def test_an_endpoint_override_beats_the_catalog(report: Report, cloud: Cloud, identity: Keystone) -> None:
    options = password(identity, region_name="RegionTwo", endpoint_override=f"{identity.url}/placement")
    assert report(cloud, **options).code == 0


def test_a_token_that_expires_is_renewed_without_a_word(
    cloud: Cloud, identity: Keystone, describe: Describe, write: Write
) -> None:
    lines = "".join(f"{name} = {value}\n" for name, value in password(identity, **WHERE).items())
    own = client.from_conf(conf.load([str(write("devagent.conf", f"[placement]\n{lines}"))]))
    reporter, desired = Reporter(own), cloud.want(describe(small()))
    assert reporter.report(desired).failures == {}
    identity.expire()
    changed = cloud.want(describe(small(vfs=2)))
    assert reporter.report(changed).failures == {}
    assert identity.logins == ["password", "password"]
    assert {uuid: cloud.ours()[uuid] for uuid in changed.by_uuid()} == changed.by_uuid()


def test_without_the_role_service_inventories_go_one_by_one(
    cloud: Cloud, identity: Keystone, describe: Describe, write: Write
) -> None:
    identity.roles = "admin"
    lines = "".join(f"{name} = {value}\n" for name, value in password(identity, **WHERE).items())
    own = client.from_conf(conf.load([str(write("devagent.conf", f"[placement]\n{lines}"))]))
    reporter, desired = Reporter(own), cloud.want(describe(small()))
    assert reporter.report(desired).failures == {}
    assert_is(cloud, desired)
    assert reporter.memory.reshape_refused > 0


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Gives a certificate authority that nobody knows."""
    return trustme.CA()


@pytest.fixture
def secure(placement: str, authority: trustme.CA) -> Iterator[Keystone]:
    """Runs the Keystone and Placement over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with keystone.serving(Keystone(placement), context) as running:
        yield running


def test_tls_with_an_own_authority(
    report: Report, cloud: Cloud, secure: Keystone, authority: trustme.CA, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    assert report(cloud, **password(secure, **WHERE, cafile=str(file))).code == 0
    assert len(cloud.ours()) == 3


def test_an_unknown_authority_is_refused_with_the_reason(report: Report, cloud: Cloud, secure: Keystone) -> None:
    ran = report(cloud, connect_retries="0", **password(secure, **WHERE))
    assert (ran.code, ran.out) == (1, "")
    assert "certificate verify failed" in ran.err.lower()
    assert len(ran.err.splitlines()) == 1
