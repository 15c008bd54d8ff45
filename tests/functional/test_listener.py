# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent listener` beside a broker that is away, refuses it, has other queues, or speaks TLS."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from unit.api.authority import Authority

from . import broker, running_listener
from .broker import Broker
from .conftest import Devagent
from .running_listener import RunningListener, write_configuration

needs_broker = pytest.mark.skipif(not broker.SERVER.exists(), reason=broker.MISSING)
NOBODY = "rabbit://nova:hush@127.0.0.1:1/"


def fed(listener: RunningListener) -> None:
    """Waits until the watchdog has been fed three times more."""
    before = listener.told.count("WATCHDOG=1")
    listener.until(lambda: listener.told.count("WATCHDOG=1") > before + 2)


def test_without_a_broker_it_is_ready_and_says_so_and_ends_when_told(place: Path) -> None:
    with running_listener.running(write_configuration(place, NOBODY)) as listener:
        listener.until(lambda: "no broker: Connection failed: [Errno 111]" in listener.headline)
        assert "READY=1" in listener.told
        fed(listener)
        assert listener.stop() == 0
        assert "hush" not in listener.log


def test_a_reload_takes_limits_and_refuses_what_is_wrong(place: Path) -> None:
    path = write_configuration(place, NOBODY)
    with running_listener.running(path) as listener:
        listener.until(lambda: "READY=1" in listener.told)
        good = path.read_text()
        path.write_text(good.replace("tries = 3", "tries = many"))
        listener.process.send_signal(signal.SIGHUP)
        listener.until(lambda: "not reloaded" in listener.headline)
        assert "[notifications] tries" in listener.log
        path.write_text(good.replace("tries = 3", "tries = 5\npool = other"))
        listener.process.send_signal(signal.SIGHUP)
        listener.until(lambda: "not reloaded" not in listener.headline)
        assert "[notifications] pool: only a restart changes that" in listener.log
        assert listener.stop() == 0


@needs_broker
def test_a_password_that_is_wrong_is_said_and_not_shown(place: Path, rabbit: Broker) -> None:
    url = rabbit.url.replace("guest:guest", "guest:hush")
    with running_listener.running(write_configuration(place, url)) as listener:
        listener.until(lambda: "ACCESS_REFUSED" in listener.headline)
        fed(listener)
        assert listener.stop() == 0
        assert "hush" not in listener.log


@needs_broker
def test_queues_of_another_kind_are_said_in_words(place: Path, rabbit: Broker) -> None:
    notifications = {"nova_host": "other-kind"}
    with running_listener.running(write_configuration(place, rabbit.url, notifications=notifications)) as listener:
        listener.listening()
        assert listener.stop() == 0
    quorum = {"rabbit_quorum_queue": "true"}
    path = write_configuration(place, rabbit.url, notifications=notifications, oslo_messaging_rabbit=quorum)
    with running_listener.running(path) as listener:
        listener.until(lambda: "rabbit_quorum_queue and the like" in listener.headline)
        fed(listener)
        rabbit.control("delete_queue", "devagent-other-kind")
        assert listener.stop() == 0


@needs_broker
def test_a_broker_that_speaks_tls_is_heard(place: Path) -> None:
    authority = Authority(place / "tls")
    cert, key = authority.issue("127.0.0.1")
    with broker.running((authority.cacert, cert, key)) as rabbit:
        tls = {"amqp_durable_queues": "true", "ssl": "true", "ssl_ca_file": authority.cacert}
        with running_listener.running(write_configuration(place, rabbit.url, oslo_messaging_rabbit=tls)) as listener:
            listener.listening()
            assert listener.stop() == 0


@needs_broker
def test_a_broker_that_goes_and_comes_back_is_heard_again(place: Path) -> None:
    with broker.running() as rabbit, running_listener.running(write_configuration(place, rabbit.url)) as listener:
        listener.listening()
        rabbit.kill()
        listener.until(lambda: "STATUS=listens" not in listener.headline)
        fed(listener)
        rabbit.start()
        listener.listening()
        rabbit.kill()
        listener.until(lambda: "STATUS=listens" not in listener.headline)
        assert listener.stop() == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"transport_url": ""}, "[notifications] transport_url: is needed"),
        ({"transport_url": "carrier-pigeon://loft/"}, "[notifications] transport_url"),
        ({"mode": "relay"}, "[notifications] agents: is needed with mode = relay"),
        ({"mode": "relay", "agents": "https://agent:9443"}, "{host} must be in it"),
        ({"mode": "relay", "agents": "http://{host}:9443"}, "https://HOST:PORT"),
        ({"mode": "relay", "agents": "https://{host}:9443", "cert": "/nowhere.pem"}, "/nowhere.pem"),
        ({"mode": "relay", "agents": "https://{host}:9443", "auth": "keystone"}, "[placement] auth_type is not set"),
        ({"pool": ""}, "[notifications] pool: must not be empty"),
    ],
)
def test_what_cannot_work_does_not_start(place: Path, options: dict[str, str], said: str) -> None:
    with running_listener.running(write_configuration(place, NOBODY, notifications=options)) as listener:
        assert listener.process.wait(60) == 2
        assert said in listener.log


def test_options_of_oslo_messaging_are_checked_by_the_listener_and_left_alone_by_the_rest(
    place: Path, devagent: Devagent
) -> None:
    path = write_configuration(place, NOBODY, oslo_messaging_rabbit={"amqp_durable_queue": "true"})
    with running_listener.running(path) as listener:
        assert listener.process.wait(60) == 2
        assert "did you mean amqp_durable_queues?" in listener.log
    assert "oslo_messaging" not in devagent("report", "--config-file", path).err


def test_it_uses_threads_and_no_eventlet() -> None:
    script = (
        "import sys\nfrom devagent.service import threads\nthreads.use()\n"
        "import devagent.notifications.listener\nfrom oslo_service import backend\n"
        "print(backend.get_backend_type().name, sys.modules['eventlet'])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "THREADING None\n"
