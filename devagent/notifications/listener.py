# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Hears Nova's notifications from the broker: the only module that imports oslo.messaging.

Whoever imports it has chosen oslo.service's threads before: oslo.messaging would choose eventlet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import oslo_messaging
from oslo_messaging import opts

from devagent.errors import BrokerError, ConfigurationError

LOG = logging.getLogger(__name__)

RABBIT: Final = "oslo_messaging_rabbit"
_DRIVER_LOG: Final = "oslo.messaging._drivers.impl_rabbit"
_AGAIN: Final = "Reconnected"
_UNANSWERED: Final = 16
"""So many messages the driver may keep without an answer while it is connected: those that come again after a lost
connection and of which it knows (oslo_messaging._drivers.amqp, DUP_MSG_CHECK_SIZE) that they were done."""

Take = Callable[[object, object, object, object], bool]
"""Takes publisher, event type, payload and message id; False: it goes back to the broker. Never raises."""


class Listener:
    """Gives each notification of `topics` to `take`, in up to `threads` threads, and acknowledges it after that.

    `pool` is the queue that all listeners of the same name share: each message comes to one of them; empty for those
    that Nova makes for the topics. `conf` is oslo.config's object, with [oslo_messaging_rabbit].
    Raises ConfigurationError.
    """

    def __init__(
        self, conf: Any, url: str, take: Take, *, topics: Sequence[str], exchange: str, pool: str, threads: int
    ) -> None:
        self._threads, self._pool = threads, pool
        self.words = _Words()
        for group, options in opts.list_opts():
            conf.register_opts(options, group)
        # Without a bound the first listener takes all there is, however long it takes with each.
        conf.set_default("rabbit_qos_prefetch_count", threads + _UNANSWERED, RABBIT)
        try:
            self._transport = oslo_messaging.get_notification_transport(conf, url=url)
        except (oslo_messaging.InvalidTransportURL, oslo_messaging.DriverLoadFailure, ValueError) as error:
            raise ConfigurationError(f"configuration: [notifications] transport_url: {_plain(error, url)}") from None
        self._targets = [oslo_messaging.Target(topic=topic, exchange=exchange) for topic in topics]
        self._take = take
        self._server: Any = None

    def start(self) -> None:
        """Begins to listen; waits for as long as the broker is away.

        Raises BrokerError if the broker refuses us, or has the queue or exchange otherwise; call it again then.
        """
        logging.getLogger(_DRIVER_LOG).addHandler(self.words)
        # One that has failed to start does not try again.
        server = oslo_messaging.get_notification_listener(
            self._transport, self._targets, [_Endpoint(self._take, self.words)], executor="threading",
            allow_requeue=True, pool=self._pool or None,
        )  # fmt: skip
        server.dispatcher = _Dispatcher(server.dispatcher, self._take)
        try:
            server.start(override_pool_size=self._threads)
        except oslo_messaging.MessageDeliveryFailure as error:
            raise BrokerError(
                f"the broker refuses what is to be listened to: {error}: amqp_durable_queues, rabbit_quorum_queue and "
                f"the like in [{RABBIT}] must be as in nova.conf; a queue that stands in the way is to be deleted"
            ) from None
        except Exception as error:  # of the library below the driver: a login that is refused, a certificate
            raise BrokerError(f"no broker at [notifications] transport_url: {_words(error)}") from error
        self._server = server
        self.words.clear()

    def stop(self) -> None:
        """Takes no more, waits for what is being taken, and hangs up."""
        if self._server is not None:
            self._server.stop()
            self._server.wait()
        self._transport.cleanup()


class _Endpoint:
    """Has a method for each priority that Nova tells with, as oslo.messaging wants it."""

    def __init__(self, take: Take, words: _Words) -> None:
        self._take, self._words = take, words

    def info(self, _context: object, publisher: object, kind: object, payload: object, meta: Mapping[str, Any]) -> str:
        """Takes one."""
        self._words.clear()
        done = self._take(publisher, kind, payload, meta.get("message_id"))
        result: str = oslo_messaging.NotificationResult.HANDLED if done else oslo_messaging.NotificationResult.REQUEUE
        return result

    warn = error = info


class _Dispatcher:
    """Has what breaks oslo.messaging's own dispatcher dropped: that would send it back, and have it again, for ever."""

    def __init__(self, inner: Any, take: Take) -> None:
        self._inner, self._take = inner, take

    def dispatch(self, incoming: Any) -> Any:
        """Gives one to the endpoint."""
        try:
            return self._inner.dispatch(incoming)
        except Exception as error:  # what the endpoint raises does not come here
            LOG.debug("no notification: %s", _words(error))
            self._take(None, None, None, None)  # is counted, and told once, as what is malformed
            return oslo_messaging.NotificationResult.HANDLED


class _Words(logging.Handler):
    """Keeps what oslo.messaging's driver says of a connection that fails: it tells that to its log alone."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._said: str | None = None

    @property
    def trouble(self) -> str | None:
        """Why there is no connection, as far as is known."""
        return self._said

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps one message."""
        text = record.getMessage()
        if _AGAIN in text:
            self.clear()
        elif record.levelno >= logging.WARNING:
            self._said = " ".join(text.split())

    def clear(self) -> None:
        """Forgets it: messages come."""
        self._said = None


def _words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _plain(error: Exception, url: str) -> str:
    """Gives an error without the URL, in which a password stands."""
    return " ".join(str(error).replace(url, "...").split())
