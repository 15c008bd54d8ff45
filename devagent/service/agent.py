# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The agent: builds its parts, starts them, reloads, and stops them in the reverse order."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import devagent
from devagent.errors import DevagentError
from devagent.placement import client
from devagent.placement.state import StateFile
from devagent.privileged import Privileged
from devagent.service import logs, systemd
from devagent.service.beats import Beats
from devagent.service.facts import Facts
from devagent.service.fixed import kept
from devagent.service.log_loop import Opened
from devagent.service.parts import Parts, build
from devagent.service.preparing import images
from devagent.service.settings import Settings
from devagent.service.signals import Signals

LOG = logging.getLogger(__name__)

_TICK: Final = 5.0
_READY_S: Final = 120.0
"""After so long nova-compute, which waits for us, may start: what is wrong here is not to stop all virtual machines."""
_STOP_S: Final = 10.0
_FIXED: Final = {
    "state_path": "[DEFAULT] state_path",
    "socket": "[api] unix_socket",
    "socket_group": "[api] unix_socket_group",
    "remote": "[api] listen and auth",
    "threads": "[api] threads",
    "prepare_workers": "[prepare] workers",
    "kernel_log": "[health] kernel_log",
}


class Agent:
    """Runs until a signal ends it; `read` reads the configuration anew.

    `root` is where the tree of the host begins, / for the one this runs on; `kernel_log` opens its log, if it is to
    be read.
    """

    def __init__(
        self,
        privileged: Privileged,
        settings: Settings,
        read: Callable[[], Settings],
        *,
        root: Path,
        kernel_log: Opened | None,
    ) -> None:
        self._privileged, self._settings, self._read = privileged, settings, read
        self._root, self._kernel_log = root, kernel_log
        self._signals = Signals()
        self.facts, self.beats = Facts(), Beats()
        self.started = self.loaded = time.time()
        self.reload_error: str | None = None
        self.stopping = False
        self._notifier = systemd.Notifier()

    @property
    def settings(self) -> Settings:
        """What is in force now."""
        return self._settings

    def run(self) -> int:
        """Starts, serves and stops; gives the exit code. Raises StateError or ConfigurationError at the start."""
        client.from_conf(self._settings.conf)
        images.sources(self._settings)
        state = StateFile(self._settings.state_path)
        with state.locked():
            self._notifier.status("looks at the host")
            parts = build(self, state, self._privileged, root=self._root, kernel_log=self._kernel_log)
            self._signals.handle()
            LOG.info(
                "devagent %s starts: configuration %s, policy %s",
                devagent.__version__, ", ".join(self._settings.files) or "built in", self._settings.policy.origin,
            )  # fmt: skip
            code = 1
            try:
                self._start(parts)
                code = self._serve(parts)
            finally:
                self._stop(parts)
            return code

    def _start(self, parts: Parts) -> None:
        parts.preparations.start()
        # The API first, though it ends first too: what is wrong with its socket is known before a device is touched.
        for loop in (parts.loops[-1], *parts.loops[:-1]):
            loop.start()

    def _serve(self, parts: Parts) -> int:
        ready_by = time.monotonic() + _READY_S
        ready = False
        tick = min(_TICK, self._notifier.watchdog_s / 3) if self._notifier.watchdog_s else _TICK
        while True:
            if not ready and (self.facts.published.is_set() or time.monotonic() > ready_by):
                ready = True
                self._notifier.ready()
            self._notifier.status(self._headline())
            late = self.beats.late()
            if late:
                LOG.critical("no progress of: %s; the watchdog is no longer fed", ", ".join(late))
            else:
                self._notifier.watchdog()
            if not self._privileged.alive:
                LOG.critical("the privileged process has died: the agent ends, so that both are started anew")
                return 1
            number = self._signals.wait(tick if ready else 0.1)
            if number in (signal.SIGTERM, signal.SIGINT):
                LOG.info("stops: %s", signal.Signals(number).name)
                return 0
            if number == signal.SIGHUP:
                self._reload(parts)

    def _reload(self, parts: Parts) -> None:
        """Puts the configuration and the policy as they are now in force, both or neither; no call is dropped."""
        self._notifier.reloading()
        try:
            new = self._read()
            client.from_conf(new.conf)
            images.sources(new)
            logs.setup(new.conf)
        except DevagentError as error:
            self.reload_error = str(error)
            LOG.error("not reloaded, what was in force stays: %s", error)
        else:
            self._settings = kept(self._settings, new, _FIXED)
            self.reload_error, self.loaded = None, time.time()
            LOG.info("reloaded: configuration %s, policy %s", ", ".join(new.files) or "built in", new.policy.origin)
            for loop in parts.loops:
                loop.reset()
        parts.metrics.reloaded(ok=self.reload_error is None)
        self._notifier.ready()

    def _stop(self, parts: Parts) -> None:
        self.stopping = True
        self._notifier.stopping()
        for loop in reversed(parts.loops):
            loop.stop()
        end = time.monotonic() + _STOP_S
        for loop in reversed(parts.loops):
            loop.wait(max(0.0, end - time.monotonic()))
        parts.close(self._settings.drain_timeout)
        LOG.info("stopped")

    def _headline(self) -> str:
        """Says in one line what `systemctl status` shows."""
        seen, reported = self.facts.seen, self.facts.reported
        if seen is None:
            return self.facts.look_error or "looks at the host"
        given = sum(device.decision.managed for device in seen.devices)
        placement = reported.error or {"never": "not reported yet"}.get(reported.state, "Placement is up to date")
        return f"{len(seen.devices)} devices, {given} given; {placement}"[:200]
