# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A private RabbitMQ on loopback, without systemd and without the package's own directories."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
MISSING = f"no RabbitMQ: {SERVER} is not there (tools/servers installs it)"
PATIENCE_S = 120.0
# What a client says first, and the first byte of the answer: the port is open before the broker has started.
_HELLO, _ANSWER = b"AMQP\x00\x00\x09\x01", b"\x01"
_CONFIGURATION = """
{listener} = 127.0.0.1:{port}
loopback_users.guest = true
vm_memory_high_watermark.absolute = 512MB
disk_free_limit.absolute = 50MB
log.console = false
log.file.level = warning
"""
_TLS = """
listeners.tcp = none
ssl_options.cacertfile = {cacert}
ssl_options.certfile = {cert}
ssl_options.keyfile = {key}
"""


class Broker:
    """One broker, which may be killed and started again on the same port with the same queues.

    `tls` are the paths of an authority's certificate, the broker's own, and its key; it is then reached by TLS alone.
    """

    def __init__(self, folder: Path, tls: tuple[str, str, str] | None = None) -> None:
        self._folder, self._tls = folder, tls
        self.port, *others = _free_ports(3)
        self._node = f"devagent-{os.getpid()}-{self.port}@localhost"
        self._environment = _environment(folder, self._node, *others)
        self._process: subprocess.Popen[bytes] | None = None
        self._epmd = others[1]
        (folder / "rabbitmq.conf").write_text(self._configuration())
        (folder / "enabled_plugins").write_text("[].")

    @property
    def url(self) -> str:
        """Its transport_url."""
        return f"rabbit://guest:guest@127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Starts it and waits until it talks."""
        with (self._folder / "stdout").open("ab") as out:
            self._process = subprocess.Popen(
                [SERVER.resolve().parent / "rabbitmq-server"],
                env=self._environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        end = time.monotonic() + PATIENCE_S
        while not self._talks():
            assert self._process.poll() is None, (self._folder / "stdout").read_text()
            assert time.monotonic() < end, "RabbitMQ does not start"
            time.sleep(0.05)

    def kill(self) -> None:
        """Ends it as a loss of power does."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def close(self) -> None:
        """Ends it for good, with what it has started."""
        self.kill()
        # The daemon that tells nodes' ports outlives them, and ends only when it has seen that they are gone.
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and b"Killed" not in self._end_epmd():
            time.sleep(0.05)

    def _end_epmd(self) -> bytes:
        ran = subprocess.run(
            ["epmd", "-port", str(self._epmd), "-kill"],
            env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=PATIENCE_S,
        )  # fmt: skip
        # Where there is none (any more), it says that it cannot connect.
        return ran.stdout if ran.returncode == 0 else ran.stdout.replace(b"Cannot connect", b"Killed")

    def control(self, *command: str) -> str:
        """Runs rabbitmqctl and gives what it says."""
        ran = subprocess.run(
            [SERVER.resolve().parent / "rabbitmqctl", "--quiet", *command],
            env=self._environment, capture_output=True, text=True, check=True, timeout=PATIENCE_S,
        )  # fmt: skip
        return ran.stdout

    def _configuration(self) -> str:
        listener = "listeners.ssl.1" if self._tls else "listeners.tcp.1"
        text = _CONFIGURATION.format(listener=listener, port=self.port)
        if self._tls:
            cacert, cert, key = self._tls
            text += _TLS.format(cacert=cacert, cert=cert, key=key)
        return text

    def _talks(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as line:
            if self._tls:
                return True
            line.sendall(_HELLO)
            return line.recv(1) == _ANSWER
        return False


@contextmanager
def running(tls: tuple[str, str, str] | None = None) -> Iterator[Broker]:
    """Runs one."""
    with tempfile.TemporaryDirectory(prefix="rmq-", ignore_cleanup_errors=True) as folder:
        broker = Broker(Path(folder), tls)
        try:
            broker.start()
            yield broker
        finally:
            broker.close()


def _free_ports(number: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _environment(folder: Path, node: str, dist: int, epmd: int) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "HOME": str(folder),  # of Erlang's cookie
        "RABBITMQ_NODENAME": node,
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_DIST_PORT": str(dist),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(epmd),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +S 2:2",
        "RABBITMQ_CTL_ERL_ARGS": "+S 1:1",
    }
