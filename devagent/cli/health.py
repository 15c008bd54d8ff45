# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent health`: how each device is, and an operator's word about it."""

from __future__ import annotations

import argparse
import json
import re
import time
from typing import Any, Final
from urllib.parse import quote

from devagent.api.client import Client
from devagent.api.target import full
from devagent.cli.client import agent
from devagent.cli.render import health
from devagent.errors import NoSuchDevice

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"([1-9][0-9]{0,8})([smhd])", re.ASCII)
_LONGEST: Final = 366 * 86400


def run(args: argparse.Namespace) -> int:
    """Shows all devices or one, or sets or clears what counts instead of what the monitors say."""
    client = agent(args)
    if args.action in ("set", "clear"):
        device = _set(client, args) if args.action == "set" else client.delete(_path(args.device))
        print(health.line(device, time.time()))
        return 0
    document = client.get("/v1/health")
    wanted = getattr(args, "device", None)
    if wanted:
        document["devices"] = [_one(document["devices"], full(wanted))]
    if args.output == "json":
        print(json.dumps(document, indent=2))
    elif wanted:
        print(health.detail(document["devices"][0], time.time()))
    else:
        print(health.render(document, time.time()))
    return 0


def duration(text: str) -> int:
    """Reads `90s`, `30m`, `2h` or `7d` as seconds. Raises argparse.ArgumentTypeError."""
    found = _DURATION.fullmatch(text)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < seconds <= _LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r}: say for example 90s, 30m, 2h or 7d; 366d at most")
    return seconds


def _set(client: Client, args: argparse.Namespace) -> dict[str, Any]:
    body = {"state": args.state, "reason": args.reason}
    return client.put(_path(args.device), body | ({"expires_in": args.expires_in} if args.expires_in else {}))


def _path(device: str) -> str:
    return f"/v1/health/{quote(full(device), safe=':', errors='surrogateescape')}"


def _one(devices: list[dict[str, Any]], target: str) -> dict[str, Any]:
    for device in devices:
        if target in (device["address"], device["id"]):
            return device
    raise NoSuchDevice(target)
