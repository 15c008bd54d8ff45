# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Relays beside a real broker: two that share a pool, one with tokens of Keystone, messages that are none of Nova's."""

from __future__ import annotations

import json
import signal
import socket
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from kombu.connection import Connection
from unit.api.authority import Authority

from . import broker, keystone, running_agent, running_listener
from .broker import Broker
from .cloud import Cloud
from .conftest import Describe
from .descriptions import small
from .endpoint import Endpoint
from .keystone import PASSWORD, Keystone
from .running_listener import RunningListener

pytestmark = pytest.mark.skipif(not broker.SERVER.exists(), reason=broker.MISSING)

DELETED = "instance.delete.end"
DEPTH = 100_000


@pytest.fixture
def agents(place: Path) -> Iterator[Endpoint]:
    with Endpoint(place) as running:
        yield running


@pytest.fixture
def relay(place: Path, rabbit: Broker) -> Iterator[Callable[..., RunningListener]]:
    """Starts relays with these sections in their configuration, which listen."""
    with ExitStack() as stack:

        def start(name: str, **sections: dict[str, str]) -> RunningListener:
            configuration = running_listener.write_configuration(place, rabbit.url, f"{name}.conf", **sections)
            return stack.enter_context(running_listener.running(configuration, watchdog_s=0.3)).listening()

        yield start


def notification(consumer: str, host: str = "compute1", **other: object) -> dict[str, Any]:
    """Gives one as Nova tells it, in the form that oslo.messaging sends."""
    data = {"nova_object.name": "InstanceActionPayload", "nova_object.data": {"uuid": consumer, "host": host}}
    told = {"event_type": DELETED, "publisher_id": f"nova-compute:{host}", "priority": "INFO", "payload": data}
    return {**told, "message_id": str(uuid.uuid4()), "timestamp": "2026-11-22 01:00:00.000000", **other}


def envelope(message: object, version: str = "2.0") -> bytes:
    return json.dumps({"oslo.version": version, "oslo.message": json.dumps(message)}).encode()


def publish(rabbit: Broker, queue: str, bodies: Iterable[bytes], **properties: Any) -> None:
    how = {"content_type": "application/json", "content_encoding": "utf-8", **properties}
    url = rabbit.url.replace("rabbit:", "amqp:")
    with Connection(url) as connection, connection.Producer() as producer:  # type: ignore[no-untyped-call]
        for body in bodies:
            producer.publish(body, routing_key=queue, **how)


def waiting(rabbit: Broker, queue: str) -> list[str]:
    """Gives how many messages of a queue are ready, and how many not acknowledged."""
    said = rabbit.control("list_queues", "name", "messages_ready", "messages_unacknowledged", "--no-table-headers")
    return next(line.split()[1:] for line in said.splitlines() if line.split()[0] == queue)


def test_two_relays_of_one_pool_share_what_is_told_and_one_takes_over_from_the_other(
    rabbit: Broker, agents: Endpoint, relay: Callable[..., RunningListener]
) -> None:
    options = {**agents.sections, "pool": "devagent-shared"}
    one, two = relay("one", notifications=options), relay("two", notifications=options)
    deleted = [str(uuid.uuid4()) for _ in range(200)]
    publish(rabbit, "devagent-shared", (envelope(notification(each)) for each in deleted))
    one.until(lambda: len(agents.consumers) >= len(deleted))
    assert Counter(agents.consumers) == Counter(deleted)
    one.until(lambda: one.count("handed over") + two.count("handed over") == len(deleted))
    assert min(one.count("handed over"), two.count("handed over")) > 0

    more = [str(uuid.uuid4()) for _ in range(200)]
    publish(rabbit, "devagent-shared", (envelope(notification(each)) for each in more))
    one.stop(signal.SIGKILL)
    two.until(lambda: set(more) <= set(agents.consumers))
    two.until(lambda: waiting(rabbit, "devagent-shared") == ["0", "0"])
    assert two.stop() == 0


def test_messages_that_come_again_after_a_lost_connection_do_not_keep_others_from_coming(
    rabbit: Broker, agents: Endpoint, relay: Callable[..., RunningListener]
) -> None:
    pool = "devagent-again"
    listener = relay("one", notifications={**agents.sections, "pool": pool, "threads": "2"})
    # Of so many the driver remembers that it has had them: it leaves them where they are, and does not answer.
    done = [envelope({**notification(str(uuid.uuid4())), "_unique_id": str(number)}) for number in range(16)]
    publish(rabbit, pool, done)
    listener.until(lambda: len(agents.consumers) == len(done) and waiting(rabbit, pool) == ["0", "0"])
    told = str(uuid.uuid4())
    publish(rabbit, pool, [*done, envelope(notification(told))])
    listener.until(lambda: told in agents.consumers)
    assert len(agents.consumers) == len(done) + 1
    assert listener.stop() == 0


BROKEN: Mapping[str, bytes] = {
    "nothing": b"",
    "no JSON": b"\xff\xfe{",
    "no object": b"[1, 2]",
    "a number": b"7",
    "no envelope": b"{}",
    "half an envelope": b'{"oslo.version": "2.0"}',
    "an envelope around no JSON": b'{"oslo.version": "2.0", "oslo.message": "{"}',
    "an envelope around no object": envelope([1, 2]),
    "an envelope of tomorrow": envelope(notification(str(uuid.uuid4())), "9.0"),
    "nested without end": b"[" * DEPTH + b"]" * DEPTH,
    "no priority": envelope({**notification(str(uuid.uuid4())), "priority": None}),
    "another priority": envelope({**notification(str(uuid.uuid4())), "priority": "PANIC"}),
    "no event type": envelope({**notification(str(uuid.uuid4())), "event_type": {"a": []}}),
    "a payload of another kind": envelope({**notification(str(uuid.uuid4())), "payload": "deleted"}),
    "no UUID": envelope(notification("../../etc/passwd")),
    "no host": envelope(notification(str(uuid.uuid4()), publisher_id="nova-compute:../..")),
    "an id of another kind": envelope({**notification(str(uuid.uuid4())), "message_id": {"a": 1}, "payload": None}),
}


def test_messages_that_are_none_of_novas_are_dropped_and_the_next_one_is_passed_on(
    rabbit: Broker, agents: Endpoint, relay: Callable[..., RunningListener]
) -> None:
    listener, queue, told = relay("one", notifications=agents.sections), agents.sections["pool"], str(uuid.uuid4())
    publish(rabbit, queue, BROKEN.values())
    publish(rabbit, queue, [b"\x80\x04N."], content_type="application/x-python-serialize", content_encoding="binary")
    publish(rabbit, queue, [b"no gzip"], headers={"compression": "application/x-gzip"})
    publish(rabbit, queue, [envelope(notification(told))])
    listener.until(lambda: told in agents.consumers)
    listener.until(lambda: waiting(rabbit, queue) == ["0", "0"])
    assert agents.consumers == [told]
    listener.until(lambda: listener.count("malformed") >= 3)
    assert listener.stop() == 0


def test_a_relay_without_a_certificate_shows_a_token_of_keystone_and_another_when_that_has_expired(
    place: Path, cloud: Cloud, describe: Describe, rabbit: Broker, relay: Callable[..., RunningListener]
) -> None:
    authority = Authority(place / "tls")
    cert, key = authority.issue("127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    files = {"tls_cert": cert, "tls_key": key}
    with keystone.serving(Keystone(cloud.url)) as identity:
        user = {"auth_type": "password", "auth_url": f"{identity.url}/v3", "username": "devagent", "password": PASSWORD}
        user |= {"user_domain_name": "Default", "project_name": "service", "project_domain_name": "Default"}
        api = {"listen": address, "auth": "keystone", **files}
        configuration = running_agent.write_configuration(
            place, cloud.name, cloud.url, api=api, keystone_authtoken=user
        )
        with running_agent.running(describe(small(compute_id=cloud.root)), configuration) as agent:
            agent.ready()
            to_it = {"mode": "relay", "agents": f"https://{{host}}:{address.rpartition(':')[2]}", "auth": "keystone"}
            options = {**to_it, "cacert": authority.cacert, "pool": "devagent-tokens"}
            listener = relay("tokens", notifications=options, placement=user)
            for handed in (1, 2):
                publish(rabbit, "devagent-tokens", [envelope(notification(str(uuid.uuid4()), "127.0.0.1"))])
                listener.until(lambda: listener.count("handed over") == handed)  # noqa: B023
                identity.expire()
            calls = [line for line in agent.log.splitlines() if "POST /v1/hints" in line and "401" not in line]
            assert len(calls) == 2
            assert all("by user devagent (project service)" in line for line in calls)
            assert listener.stop() == 0
        assert not any(token in text for token in identity.callers for text in (listener.log, agent.log))
