# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Images of preparations: fetched before anything is planned, shown while they come, kept while they are needed."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from devagent.api.schemas import mistake
from devagent.cli.render import preparations as rendered
from devagent.errors import NoSuchPreparation, NotPrepared
from devagent.images.directory import Directory
from devagent.images.library import Sources
from devagent.model.claim import Mode
from devagent.model.plan import Arguments, Step
from devagent.model.policy import Policy, Prepare
from devagent.service.preparing import images, preparer

from ...images.glances import FakeGlance, Handler, serving
from ...prepare.scenes import ALICE, BOB, Machine, described_host, provider
from ...worlds import rule
from .one_host import PATIENCE_S, Agent, Host

N3000 = "0000:18:00.0"
INTERFACE = "f3c9941350814aadbced07eb84a6d0bb"


def fpga_image(content: bytes) -> bytes:
    return b"\x80\x86\x1f\x1d" + bytes.fromhex(INTERFACE)[::-1] + content


LOOPBACK, BLANK = fpga_image(b"loopback" * 1000), fpga_image(b"blank" * 1000)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class FpgaHost(Host):
    """A host whose cards take any image that fits."""

    def __init__(self) -> None:
        super().__init__(0)
        self.machine = Machine(described_host("fpga"))

    def before(self, step: Step, seconds: float) -> Arguments:
        return super().before(step, seconds) if step.verb == "bind" else step.undo or {}

    def check(self, step: Step, seconds: float) -> bool:
        if step.verb == "bind":
            return super().check(step, seconds)
        return self.machine.images.get((step.target, step.arguments["port"])) == step.arguments["digest"]


class FpgaAgent(Agent):
    """Its images are in a directory and in Glance."""

    glance: FakeGlance | None = None

    def sources(self, settings: Any) -> Sources:
        return Sources(Directory(settings.images_directory), self.glance.client() if self.glance else None)

    def put(self, consumer: str, count: int = 1, *, wait: float = PATIENCE_S, **properties: Any) -> Any:
        group = {"provider": provider(N3000, self.host.machine.devices), "resources": {"FPGA": count}}
        found, status = self.own.put(consumer, {"groups": [{**group, "properties": properties}]}, wait)
        assert mistake("preparations#preparation", found) is None
        return found, status

    def refused(self, consumer: str, **properties: Any) -> NotPrepared:
        with pytest.raises(NotPrepared) as caught:
            self.put(consumer, **properties)
        assert mistake("preparations#preparation", self.own.get(consumer)) is None
        return caught.value

    def offer(self, name: str, data: bytes) -> str:
        """Has the operator put an image into the directory."""
        folder: Path = self.settings.images_directory
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
        (folder / f"{name}.sha256").write_text(f"{sha256(data)}  {name}\n")
        return sha256(data)

    def cached(self) -> set[str]:
        folder = self.state_path / "images"
        return {path.name for path in folder.iterdir()} if folder.exists() else set()

    @property
    def loaded(self) -> set[str]:
        """What the cards were programmed with last, by slot."""
        return set(self.host.machine.images.values())

    def wiping(self, blank: bytes) -> None:
        """Has the policy wipe all FPGAs after use."""
        prepare = Prepare(scrub="fpga-blank", blank=f"sha256:{sha256(blank)}")
        self.settings.policy = Policy((rule(Mode.WHOLE, prepare=prepare),), "test")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparer, "_BUSY_S", 0.3)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[FpgaAgent]:
    made = FpgaAgent(tmp_path, FpgaHost())
    yield made
    assert made.own.close(PATIENCE_S)


@pytest.fixture
def glance(agent: FpgaAgent) -> Iterator[FakeGlance]:
    with serving() as agent.glance:
        yield agent.glance


def test_the_image_is_fetched_and_the_card_programmed_with_it(agent: FpgaAgent) -> None:
    digest = agent.offer("loopback", LOOPBACK)
    found, _ = agent.put(ALICE, bitstream="loopback")
    assert (found["state"], agent.loaded) == ("prepared", {digest})
    assert (found["timings"]["images"] > 0, found["progress"]) == (True, None)
    assert agent.cached() == {digest}


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("nothing", "invalid", "no image is called 'nothing': it is not in"),
        ("bare", "permanent", "its checksum is not beside it"),
        ("foreign", "permanent", "is for interface 38d782e3b6125343b9342433e348ac4c"),
        ("half", "invalid", "it is a GBS (legacy) that ends before its data begins"),
        ("../loopback", "invalid", "no image is called '../loopback'"),
    ],
)
def test_without_a_right_image_nothing_is_done(agent: FpgaAgent, name: str, kind: str, said: str) -> None:
    agent.offer("half", LOOPBACK[:20])
    agent.offer("foreign", b"\x80\x86\x1f\x1d" + bytes.fromhex("38d782e3b6125343b9342433e348ac4c")[::-1] + b"data")
    agent.offer("bare", LOOPBACK)
    (agent.settings.images_directory / "bare.sha256").unlink()
    before = agent.host.machine.state()
    error = agent.refused(ALICE, bitstream=name)
    assert (error.kind, said in str(error)) == (kind, True), str(error)
    assert agent.host.machine.state() == before


def test_progress_is_shown_while_it_comes(agent: FpgaAgent, glance: FakeGlance) -> None:
    go_on = glance.halt_after(1000)
    own = glance.add("loopback", LOOPBACK)
    found, status = agent.put(ALICE, wait=0, bitstream=own)
    assert (status, found["state"]) == (202, "preparing")
    agent.until(lambda: agent.own.get(ALICE)["progress"] is not None and agent.own.get(ALICE)["progress"]["bytes"])
    shown = agent.own.get(ALICE)
    assert mistake("preparations#preparation", shown) is None
    assert shown["progress"] == {"bitstream": own, "bytes": 1000, "total": len(LOOPBACK)}
    assert f"fetches the image {own}: 0.0 of 0.0 MiB" in rendered.detail(shown, time.time())
    go_on.set()
    found, status = agent.put(ALICE, bitstream=own)
    assert (status, found["state"], found["progress"]) == (200, "prepared", None)


def test_who_takes_his_request_back_does_not_wait_for_the_image(agent: FpgaAgent, glance: FakeGlance) -> None:
    go_on = threading.Event()

    def slow(handler: Handler, data: bytes) -> None:
        go_on.wait(PATIENCE_S)
        handler.whole(data)

    glance.send = slow
    glance.add("loopback", LOOPBACK)
    agent.put(ALICE, wait=0, bitstream="loopback")
    agent.until(lambda: glance.downloads() == 1)
    assert agent.own.delete(ALICE, PATIENCE_S) == (None, 204)
    with pytest.raises(NoSuchPreparation):
        agent.own.get(ALICE)
    go_on.set()
    assert agent.loaded == set()


def test_two_consumers_of_one_image_have_it_fetched_once(agent: FpgaAgent, glance: FakeGlance) -> None:
    glance.add("loopback", LOOPBACK)
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(_state, agent, each) for each in (ALICE, BOB)]
        assert sorted(each.result(PATIENCE_S) for each in answers) == ["prepared", "retry"], "there is one card"
    assert glance.downloads() == 1


def _state(agent: FpgaAgent, consumer: str) -> str:
    try:
        return str(agent.put(consumer, bitstream="loopback")[0]["state"])
    except NotPrepared as error:
        return error.kind


def test_what_is_prepared_keeps_its_image_and_what_is_released_does_not(agent: FpgaAgent) -> None:
    agent.settings.images_cache_size = 1
    first = agent.offer("loopback", LOOPBACK)
    agent.put(ALICE, bitstream="loopback")
    big = agent.offer("big", bytes(1 << 20))
    assert "the images that are in use fill it" in str(agent.refused(BOB, bitstream="big"))
    assert agent.cached() == {first}
    agent.own.delete(ALICE, PATIENCE_S)
    assert "says no interface" not in str(agent.refused(BOB, bitstream="big"))
    assert agent.cached() == {big}


def test_a_card_is_wiped_with_the_policy_s_image_also_after_a_restart_without_its_directory(agent: FpgaAgent) -> None:
    agent.wiping(BLANK)
    image, blank = agent.offer("loopback", LOOPBACK), agent.offer("wipe-v3", BLANK)
    assert agent.upkeep.turn() is None
    assert agent.cached() == {blank}
    agent.put(ALICE, bitstream="loopback")
    assert (agent.loaded, agent.cached()) == ({image}, {image, blank})
    for path in agent.settings.images_directory.iterdir():
        path.unlink()
    agent.restart()
    assert agent.upkeep.turn() is None
    assert agent.own.delete(ALICE, PATIENCE_S) == (None, 204)
    assert blank in agent.loaded


@pytest.mark.parametrize("restarted", [False, True])
def test_a_rule_that_is_gone_does_not_spare_the_wipe(agent: FpgaAgent, restarted: bool) -> None:
    agent.wiping(BLANK)
    agent.offer("loopback", LOOPBACK)
    blank = agent.offer("wipe-v3", BLANK)
    agent.put(ALICE, bitstream="loopback")
    agent.settings.policy = Policy((), "test")
    for path in agent.settings.images_directory.iterdir():
        path.unlink()
    if restarted:
        agent.restart()
    assert agent.upkeep.turn() is None
    assert agent.own.delete(ALICE, PATIENCE_S) == (None, 204)
    assert blank in agent.loaded


def test_a_card_that_could_not_be_wiped_is_not_given_and_the_status_says_what_is_lacking(agent: FpgaAgent) -> None:
    agent.wiping(BLANK)
    agent.offer("loopback", LOOPBACK)
    trouble = str(agent.upkeep.turn())
    assert (sha256(BLANK) in trouble, "put it there, and its .sha256 beside it" in trouble) == (True, True)
    error = agent.refused(ALICE, bitstream="loopback")
    assert (error.kind, error.address) == ("permanent", N3000)
    assert str(error).endswith("(see `devagent status`): it could not be wiped afterwards")
    assert agent.loaded == set()
    agent.offer("wipe-v3", BLANK)
    assert agent.put(ALICE, bitstream="loopback")[0]["state"] == "prepared"


def test_what_was_lacking_is_looked_for_again(agent: FpgaAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_AGAIN_S", 0.0)
    agent.wiping(BLANK)
    assert agent.upkeep.turn() is not None
    blank = agent.offer("wipe-v3", BLANK)
    assert (agent.upkeep.turn(), agent.cached()) == (None, {blank})


def test_an_image_that_was_lost_while_the_agent_was_away_is_fetched_again(agent: FpgaAgent, glance: FakeGlance) -> None:
    glance.add("loopback", LOOPBACK)
    agent.put(ALICE, bitstream="loopback")
    path = agent.state_path / "images" / sha256(LOOPBACK)
    path.write_bytes(b"damaged")
    agent.restart()
    assert agent.upkeep.turn() is None
    assert path.read_bytes() == LOOPBACK
    path.write_bytes(b"damaged")
    glance.fails = [("", 503)] * 99
    agent.restart()
    trouble = str(agent.upkeep.turn())
    assert ("Glance answers 503" in trouble, "put it there" in trouble) == (True, False)
