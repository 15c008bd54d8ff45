# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Images for FPGAs through the agent's API and commands: a real Placement, a directory, and a server that is a Glance.

A tree of files cannot be programmed, so each ends with that; what comes before is real. Programming is in tests/kernel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from unit.images.glances import PATIENCE_S, TOKEN, FakeGlance, serving

from devagent.api.schemas import mistake
from devagent.errors import AgentRefused

from .cloud import Cloud
from .conftest import HOSTS, Describe
from .descriptions import small
from .running_agent import RunningAgent, command, running, write_configuration

N3000 = "0000:18:00.0"
INTERFACE = bytes.fromhex("f3c9941350814aadbced07eb84a6d0bb")
LOOPBACK, BLANK = (b"\x80\x86\x1f\x1d" + INTERFACE[::-1] + content * 50_000 for content in (b"loop", b"wipe"))

Start = Callable[..., RunningAgent]


@pytest.fixture
def glance() -> Iterator[FakeGlance]:
    """Runs a Glance without any image."""
    with serving() as own:
        yield own


@pytest.fixture
def start(place: Path, cloud: Cloud, describe: Describe) -> Iterator[Start]:
    """Starts agents for a host with FPGA cards, with a directory of images of their own."""
    described = yaml.load((HOSTS / "fpga.yaml").read_text(), Loader=yaml.BaseLoader)
    host = describe({**described, "compute_id": cloud.root})
    with ExitStack() as stack:

        def begin(**sections: Any) -> RunningAgent:
            return stack.enter_context(running(host, configure(place, cloud, **sections))).reported()

        yield begin


def configure(place: Path, cloud: Cloud, **sections: Any) -> Path:
    images = {"directory": str(place / "bitstreams")}
    return write_configuration(place, cloud.name, cloud.url, **{"images": images, **sections})


def of(glance: FakeGlance) -> dict[str, str]:
    """Gives the section of the configuration that names this Glance."""
    return {"auth_type": "admin_token", "endpoint": glance.url, "token": TOKEN}


def put(place: Path, name: str, data: bytes) -> str:
    """Puts an image into the directory; gives its sha256."""
    directory = place / "bitstreams"
    directory.mkdir(exist_ok=True)
    digest = hashlib.sha256(data).hexdigest()
    (directory / name).write_bytes(data)
    (directory / f"{name}.sha256").write_text(f"{digest}  {name}\n")
    return digest


def consumer(cloud: Cloud) -> tuple[str, str]:
    """Gives a consumer that has the card in Placement, and the card's resource provider."""
    (provider,) = (each["uuid"] for name, each in cloud.tree().items() if name.endswith(N3000))
    return cloud.allocate(provider, FPGA=1), provider


def asked(provider: str, bitstream: str) -> dict[str, Any]:
    return {"groups": [{"provider": provider, "resources": {"FPGA": 1}, "properties": {"bitstream": bitstream}}]}


def refused(agent: RunningAgent, cloud: Cloud, bitstream: str) -> AgentRefused:
    own, provider = consumer(cloud)
    with pytest.raises(AgentRefused) as caught:
        agent.api.put(f"/v1/preparations/{own}", asked(provider, bitstream), wait=60)
    cloud.call("DELETE", f"/allocations/{own}")
    return caught.value


def test_an_image_of_glance_s_is_fetched_while_its_progress_is_shown(
    start: Start, cloud: Cloud, place: Path, glance: FakeGlance
) -> None:
    go_on = glance.halt_after(100_000)
    image = glance.add("loopback", LOOPBACK)
    agent = start(glance=of(glance))
    own, provider = consumer(cloud)
    found = agent.api.put(f"/v1/preparations/{own}", asked(provider, image), wait=0)
    assert found["state"] == "preparing"
    agent.until(lambda: (agent.api.get(f"/v1/preparations/{own}")["progress"] or {}).get("bytes") == 100_000)
    shown = agent.api.get(f"/v1/preparations/{own}")
    assert mistake("preparations#preparation", shown) is None
    assert shown["progress"] == {"bitstream": image, "bytes": 100_000, "total": len(LOOPBACK)}
    assert f"fetches the image {image}: 0.1 of 0.2 MiB" in command(agent, "preparations", "show", own).stdout
    go_on.set()
    agent.until(lambda: agent.api.get(f"/v1/preparations/{own}")["state"] == "failed")
    error = agent.api.get(f"/v1/preparations/{own}")["error"]
    assert (error["address"], "image" in error["reason"].partition(":")[0]) == (N3000, False), error
    path = place / "state" / "images" / hashlib.sha256(LOOPBACK).hexdigest()
    assert (path.read_bytes() == LOOPBACK, path.stat().st_mode & 0o777) == (True, 0o644)


def test_an_unknown_image_is_invalid_until_a_reload_tells_where_it_is(
    start: Start, cloud: Cloud, place: Path, glance: FakeGlance
) -> None:
    glance.add("loopback", LOOPBACK)
    agent = start()
    error = refused(agent, cloud, "loopback")
    assert (error.status, error.code) == (400, "devagent.preparation.invalid")
    assert f"it is not in {place / 'bitstreams'}, and [glance] is not configured" in str(error)
    configure(place, cloud, glance=of(glance))
    agent.reload()
    assert "no image is called" not in str(refused(agent, cloud, "loopback"))
    configure(place, cloud, glance={"auth_type": "nothing"})
    agent.reload()
    assert "[glance] auth_type: there is no plugin nothing" in str(agent.status()["configuration"]["error"])
    assert "no image is called" not in str(refused(agent, cloud, "loopback"))


def test_a_policy_without_its_blank_image_is_told_and_gives_no_card(start: Start, cloud: Cloud, place: Path) -> None:
    digest = hashlib.sha256(BLANK).hexdigest()
    policy = place / "devices.yaml"
    rule = f"{{name: f, match: {{kind: fpga}}, mode: whole, prepare: {{scrub: fpga-blank, blank: 'sha256:{digest}'}}}}"
    policy.write_text(f"schema_version: 1\nrules:\n  - {rule}\n")
    put(place, "loopback", LOOPBACK)
    agent = start(inventory={"policy_file": str(policy)})
    agent.until(lambda: any(digest in reason for reason in agent.status()["reasons"]))
    assert agent.status()["state"] == "degraded"
    assert "it could not be wiped afterwards" in str(refused(agent, cloud, "loopback"))
    put(place, "wipe-v3.gbs", BLANK)
    agent.reload()
    agent.until(lambda: agent.status()["reasons"] == [])
    assert (place / "state" / "images" / digest).read_bytes() == BLANK
    assert "wiped" not in str(refused(agent, cloud, "loopback"))


def test_a_key_that_is_none_keeps_the_agent_from_starting(place: Path, cloud: Cloud, describe: Describe) -> None:
    configuration = configure(place, cloud, images={"signing_key": str(place / "nothing.pem")})
    with running(describe(small()), configuration) as agent:
        assert agent.process.wait(PATIENCE_S) == 2
    assert f"[images] signing_key: {place / 'nothing.pem'}: no such file or directory" in agent.log
