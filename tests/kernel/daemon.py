# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The daemon in a guest where systemd is the first process: installed as docs/install.md says, in its sandbox."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from functional.cloud import Cloud

from .guest import Guest, eventually
from .machine import PLACEMENT

UNIT: Final = "devagent.service"
START_S: Final = 600
"""Python's imports take an emulated CPU its time."""
_ANSWER_S: Final = 60
"""Longer than a caller is willing to wait, until the answer is there."""
_INSTALLED: Final = f"/usr/lib/systemd/system/{UNIT}"
_DROP_INS: Final = f"/run/systemd/system/{UNIT}.d"
_DROP_IN: Final = f"{_DROP_INS}/test.conf"
_PATIENCE: Final = "[Service]\nTimeoutStartSec=600\nWatchdogSec=300\nRestartSec=1\n"
"""systemd waits for as long as a busy machine may need, and starts it anew at once."""
_STATE: Final = "/var/lib/devagent"
_CONFIG: Final = "/etc/devagent/devagent.conf"
_POLICY: Final = "/etc/devagent/devices.yaml"

_INSTALL: Final = f"""
set -e
printf '#!/bin/sh\\nPYTHONPATH=/opt/devagent/lib exec python3 -m devagent "$@"\\n' > /usr/bin/devagent
chmod 755 /usr/bin/devagent
cd /opt/devagent/etc/systemd
install -m 644 devagent.service {_INSTALLED}
install -m 644 -D devagent.sysusers /usr/lib/sysusers.d/devagent.conf
install -m 644 -D devagent.tmpfiles /usr/lib/tmpfiles.d/devagent.conf
systemd-sysusers devagent.conf
mkdir -p /etc/devagent {_DROP_INS}
printf '%s' '{_PATIENCE}' > {_DROP_INS}/patience.conf
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
systemctl is-system-running --wait
"""
_TIDY: Final = f"""
systemctl kill --signal=SIGKILL {UNIT} 2>/dev/null
systemctl stop {UNIT}
systemctl reset-failed {UNIT} 2>/dev/null
rm -rf {_STATE}/* /etc/devagent/* /etc/nova
test ! -e {_DROP_IN} || {{ rm {_DROP_IN} && systemctl daemon-reload; }}
"""


@dataclass
class Daemon:
    """The daemon, and the compute node that it reports to a real Placement on the host of the test.

    After a boot it is in another `guest`.
    """

    guest: Guest
    cloud: Cloud

    def install(self) -> None:
        """Puts everything in its place, once per guest."""
        if self.guest.run("test", "-e", _INSTALLED, check=False).code:
            self.guest.run("sh", "-c", _INSTALL, timeout=180)

    def tidy(self) -> None:
        """Ends the daemon and forgets what it knew."""
        self.guest.run("sh", "-c", _TIDY, check=False, timeout=180)

    def kept(self) -> str:
        """Gives what it keeps on disk, as it is while it runs; in base 64."""
        return self.guest.run("sh", "-c", f"tar -C {_STATE} -c . | base64").out

    def restore(self, kept: str) -> None:
        """Puts back what it kept."""
        self.guest.run("sh", "-c", f"mkdir -p {_STATE} && base64 -d | tar -C {_STATE} -x", text=kept)

    def configure(self, policy: str, options: str = "") -> None:
        """Writes configuration and policy; no full look comes by itself, so that what happens comes from events."""
        self.guest.put(_POLICY, f"schema_version: 1\nrules:\n{textwrap.indent(textwrap.dedent(policy), '  ')}")
        text = f"""
            [DEFAULT]
            host = {self.cloud.name}
            debug = true
            [placement]
            auth_type = admin_token
            endpoint = {PLACEMENT}
            token = admin
            [inventory]
            scan_interval = 86400
            """
        self.guest.put(_CONFIG, textwrap.dedent(text) + textwrap.dedent(options))
        self.guest.run("systemd-tmpfiles", "--create", "devagent.conf")

    def drop_in(self, text: str) -> None:
        """Changes the unit, as an administrator does."""
        self.guest.put(_DROP_IN, text)
        self.systemctl("daemon-reload")

    def start(self) -> None:
        """Starts it and waits until it is ready."""
        self.systemctl("start", UNIT)

    def systemctl(self, *arguments: str) -> None:
        """Runs systemctl, and shows the journal if that fails."""
        ran = self.guest.run("systemctl", *arguments, check=False, timeout=START_S)
        assert ran.code == 0, f"{ran.err}\n{self.journal()}"

    def show(self, name: str) -> str:
        """Gives a property of the unit."""
        return self.guest.run("systemctl", "show", "--value", "-p", name, UNIT).out.strip()

    def journal(self, *matches: str) -> str:
        """Gives what it said, one message per line."""
        return self.guest.run("journalctl", "-o", "cat", "--no-pager", "-u", UNIT, *matches).out

    def ask(self, path: str, method: str = "GET", body: object = None) -> Any:
        """Calls its API, over its socket."""
        status, document = self.answer(path, method, body)
        assert status < 300, f"{method} {path}: {status} {document}"
        return document

    def answer(self, path: str, method: str = "GET", body: object = None, wait: float = 30) -> tuple[int, Any]:
        """Calls its API as `ask` does, for `wait` seconds; gives the status too, whatever it is."""
        return self.answered(self.begin(path, method, body, wait), wait)

    def begin(self, path: str, method: str, body: object = None, wait: float = 30) -> Future[Any]:
        """Begins a call of its API and goes on; `answered` waits for it."""
        return self.guest.begin(_ask, method, path, json.dumps(body) if body is not None else "", wait)

    def answered(self, begun: Future[Any], wait: float = 30) -> tuple[int, Any]:
        """Gives what came of a call: 0 and what went wrong if there was no answer."""
        status, text = self.guest.result(begun, wait + 2 * _ANSWER_S)
        return status, json.loads(text) if text and status else text

    def status(self) -> dict[str, Any]:
        """Gives its status document."""
        document: dict[str, Any] = self.ask("/v1/status")
        return document

    def provider(self, address: str) -> dict[str, Any]:
        """Gives what Placement has of a device, waiting until that is something."""
        name = f"devagent:{self.cloud.name}:{address}"
        self.until(lambda: bool(self.cloud.tree().get(name, {}).get("inventories")), f"an inventory of {address}")
        return self.cloud.tree()[name]

    def reported(self) -> dict[str, Any]:
        """Gives what is said of the first report, waiting until it was made."""
        self.until(lambda: self.status()["report"]["state"] == "current", "Placement is current")
        report: dict[str, Any] = self.status()["report"]
        return report

    def until(self, condition: Callable[[], bool], what: str, timeout: float = 300) -> None:
        """Waits until something is so; shows the journal if it never is."""
        try:
            eventually(condition, timeout)
        except AssertionError:
            raise AssertionError(f"not so: {what}\n{self.journal()}") from None


def _ask(method: str, path: str, body: str, wait: float) -> tuple[int, str]:
    """Runs in the guest."""
    import http.client  # noqa: PLC0415 - there nothing of this module is imported
    import socket  # noqa: PLC0415

    headers = {"Prefer": f"wait={wait:.0f}"}
    connection = http.client.HTTPConnection("localhost", timeout=wait + 60)
    try:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect("/run/devagent/devagent.sock")
        connection.request(method, path, body or None, headers | ({"Content-Type": "application/json"} if body else {}))
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return 0, f"{type(error).__name__}: {error}"
    finally:
        connection.close()
