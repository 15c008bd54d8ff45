# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The listener: connects to the broker in a thread of its own, passes on what comes, reloads, and stops."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from typing import Final

import devagent
from devagent.errors import BrokerError, DevagentError
from devagent.notifications import relay as relaying
from devagent.notifications.lane import Events, Outcome
from devagent.notifications.listener import Listener
from devagent.notifications.relay import Relay
from devagent.service import logs, systemd
from devagent.service.fixed import kept
from devagent.service.listener_settings import ListenerSettings
from devagent.service.signals import Signals

LOG = logging.getLogger(__name__)

_TICK: Final = 5.0
_AGAIN_S: Final = 30.0
_TALLY_S: Final = 600.0
_STOP_S: Final = 20.0
_STALLED_S: Final = 180.0
"""Above the tries of one notification with all their time-outs and pauses, for a few hosts."""
_FIXED: Final = {
    "own": "[notifications] mode and nova_host",
    "url": "[notifications] transport_url",
    "topics": "[notifications] topics",
    "exchange": "[notifications] exchange",
    "pool": "[notifications] pool",
    "threads": "[notifications] threads",
}


class ListenerService:
    """Runs until a signal ends it; `read` reads the configuration anew. Raises ConfigurationError."""

    def __init__(self, settings: ListenerSettings, read: Callable[[], ListenerSettings]) -> None:
        self._settings, self._read = settings, read
        self._signals, self._notifier = Signals(), systemd.Notifier()
        self._stopping = threading.Event()
        self._reload_error: str | None = None
        self._broken: str | None = None
        self._connected = False
        self._beaten = time.monotonic()
        self.relay = Relay(
            self._hand_over, lambda: self._settings.limits, patient=max(1, settings.threads // 4), own=settings.own
        )
        self._listener = Listener(
            settings.conf, settings.url, self.relay.take, topics=settings.topics, exchange=settings.exchange,
            pool=settings.pool, threads=settings.threads,
        )  # fmt: skip

    def run(self) -> int:
        """Starts, serves and stops; gives the exit code."""
        self._signals.handle()
        LOG.info(
            "devagent %s listens to %s in the pool %s, for %s",
            devagent.__version__, ", ".join(self._settings.topics), self._settings.pool or "of Nova's queues",
            self._settings.own or "all hosts",
        )  # fmt: skip
        for name, work in (("connect", self._connect), ("again", self._go_on)):
            threading.Thread(target=work, name=name, daemon=True).start()
        self._notifier.ready()
        self._serve()
        self._stop()
        return 0

    def _serve(self) -> None:
        tick = min(_TICK, self._notifier.watchdog_s / 3) if self._notifier.watchdog_s else _TICK
        tally = time.monotonic() + _TALLY_S
        while True:
            self._notifier.status(self._headline())
            if self._stalled():
                LOG.critical("notifications are passed on no more; the watchdog is no longer fed")
            else:
                self._notifier.watchdog()
            if time.monotonic() > tally:
                tally = time.monotonic() + _TALLY_S
                LOG.info("%s", self._headline())
            number = self._signals.wait(tick)
            if number in (signal.SIGTERM, signal.SIGINT):
                LOG.info("stops: %s", signal.Signals(number).name)
                return
            if number == signal.SIGHUP:
                self._reload()

    def _connect(self) -> None:
        """Starts to listen, as soon as the broker is there and has what we want."""
        while not self._stopping.is_set():
            try:
                self._listener.start()
            except BrokerError as error:
                if str(error) != self._broken:
                    LOG.error("not listening, tried again every %g s: %s", _AGAIN_S, error)
                self._broken = str(error)
                self._stopping.wait(_AGAIN_S)
            else:
                self._broken, self._connected = None, True
                LOG.info("listens")
                return

    def _go_on(self) -> None:
        """Tells agents that are back what they missed."""
        while not self._stopping.wait(min(_TICK, self._settings.limits.cool_down)):
            self._beat()
            try:
                self.relay.again(self._beat)
            except Exception:  # a loop that ended would be missed only much later
                LOG.exception("what agents missed was not told; it is tried again")

    def _beat(self) -> None:
        self._beaten = time.monotonic()

    def _stalled(self) -> bool:
        return max(self.relay.longest, time.monotonic() - self._beaten) > _STALLED_S

    def _hand_over(self, host: str, events: Events) -> None:
        self._settings.hand_over(host, events)

    def _reload(self) -> None:
        """Puts the configuration as it is now in force, all or nothing."""
        self._notifier.reloading()
        try:
            new = self._read()
            logs.setup(new.conf)
        except DevagentError as error:
            self._reload_error = str(error)
            LOG.error("not reloaded, what was in force stays: %s", error)
        else:
            self._settings = kept(self._settings, new, _FIXED)
            self._reload_error = None
            LOG.info("reloaded: configuration %s", ", ".join(new.files) or "built in")
        self._notifier.ready()

    def _stop(self) -> None:
        """Lets what is on its way arrive, for a while; what does not goes back to the broker."""
        self._notifier.stopping()
        self._stopping.set()
        end = threading.Thread(target=self._hang_up, name="hang-up", daemon=True)
        end.start()
        end.join(_STOP_S / 2)
        self.relay.end()
        end.join(_STOP_S / 2)
        LOG.info("stopped; %s", self._tally())

    def _hang_up(self) -> None:
        # Without a connection there is nothing to hang up, and oslo.messaging would wait for one.
        if self._connected:
            self._listener.stop()

    def _headline(self) -> str:
        """Says in one line what `systemctl status` shows."""
        words = self._listener.words.trouble
        trouble = self._broken or (words and f"no broker: {words}")
        state = trouble or ("listens" if self._connected else "waits for the broker")
        reload = f"not reloaded: {self._reload_error}; " if self._reload_error else ""
        away = f"; {self.relay.away} agents away" if self.relay.away else ""
        return f"{reload}{state}; {self._tally()}{away}"

    def _tally(self) -> str:
        counts = self.relay.counts
        always = (relaying.RECEIVED, Outcome.HANDED, Outcome.LEFT)
        return ", ".join(f"{number} {name}" for name, number in counts.items() if number or name in always)
