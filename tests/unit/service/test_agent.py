# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the agent's main thread does: feeds the watchdog, reloads, and ends."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from devagent.errors import PolicyError
from devagent.inventory.default_policy import DEFAULT
from devagent.service import agent as module
from devagent.service.agent import Agent
from devagent.service.settings import Settings


class Ear:
    """The service manager's end of the line."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(60)

    def until(self, text: str) -> list[str]:
        """Gives what was said up to a message that begins so."""
        said: list[str] = []
        while not any(line.startswith(text) for line in said):
            said += self.socket.recv(4096).decode().splitlines()
        return said


@pytest.fixture
def ear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ear]:
    ear = Ear(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "30000")
    yield ear
    ear.socket.close()


class Scene:
    """An agent whose parts do nothing, running in a thread."""

    def __init__(self, read: Callable[[], Settings]) -> None:
        self.privileged = SimpleNamespace(alive=True)
        settings: Any = SimpleNamespace(files=(), policy=DEFAULT, **dict.fromkeys(module._FIXED))
        self.agent = Agent(self.privileged, settings, read, root=Path("/host"), kernel_log=None)  # type: ignore[arg-type]
        self.reset, self.reloads = 0, list[bool]()
        loop = SimpleNamespace(reset=self._reset)
        metrics = SimpleNamespace(reloaded=lambda ok: self.reloads.append(ok))
        self.parts: Any = SimpleNamespace(loops=(loop,), metrics=metrics)
        self.code: int | None = None
        self.thread = threading.Thread(target=self._run)

    def _reset(self) -> None:
        self.reset += 1

    def _run(self) -> None:
        self.code = self.agent._serve(self.parts)

    def start(self) -> Scene:
        self.thread.start()
        return self

    def signal(self, number: int) -> None:
        self.agent._signals.put(number)

    def end(self) -> int | None:
        self.signal(signal.SIGTERM)
        self.thread.join(60)
        return self.code


@pytest.fixture
def scene(ear: Ear) -> Iterator[Scene]:
    """Gives an agent that tells `ear` how it does; what it would reload is wrong."""

    def wrong() -> Settings:
        raise PolicyError("devices.yaml", 3, "rules", "is wrong")

    scene = Scene(wrong)
    yield scene
    if scene.thread.is_alive():
        scene.end()


def test_the_watchdog_is_fed_until_one_loop_is_late(scene: Scene, ear: Ear, caplog: pytest.LogCaptureFixture) -> None:
    scene.agent.facts.published.set()
    scene.start()
    ear.until("WATCHDOG=1")
    scene.agent.beats.expect("report", -1.0)
    wait(lambda: "no progress of: report" in caplog.text)
    ear.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:  # what was said before
            ear.socket.recv(4096)
    turns = len(caplog.records)
    wait(lambda: len(caplog.records) > turns + 5)
    with pytest.raises(BlockingIOError):
        ear.socket.recv(4096)
    assert scene.end() == 0


def wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_it_is_ready_when_the_host_was_looked_at(scene: Scene, ear: Ear) -> None:
    scene.start()
    assert "READY=1" not in ear.until("WATCHDOG=1")
    scene.agent.facts.published.set()
    ear.until("READY=1")
    assert scene.end() == 0


def test_a_reload_that_fails_leaves_all_as_it_was_and_is_counted(scene: Scene, ear: Ear) -> None:
    scene.agent.facts.published.set()
    scene.start()
    ear.until("READY=1")
    before = scene.agent.settings
    scene.signal(signal.SIGHUP)
    ear.until("RELOADING=1")
    ear.until("READY=1")
    assert scene.end() == 0
    assert (scene.agent.settings, scene.reset, scene.reloads) == (before, 0, [False])
    assert scene.agent.reload_error == "devices.yaml:3: rules: is wrong"


def test_it_ends_with_an_error_when_the_privileged_process_has_died(scene: Scene, ear: Ear) -> None:
    scene.privileged.alive = False
    scene.start()
    scene.thread.join(60)
    assert scene.code == 1
