# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent prepare`: makes a consumer's devices ready, as what starts virtual machines does."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from devagent.cli.local import agent, consumer_path
from devagent.cli.render import preparations
from devagent.errors import ConfigurationError

PARTIAL = 4


def run(args: argparse.Namespace) -> int:
    """Asks for it and waits; exit code 4 if it takes longer than that."""
    found = agent(args).put(consumer_path(args.consumer), _body(args), wait=args.wait)
    print(json.dumps(found, indent=2) if args.output == "json" else preparations.detail(found, time.time()))
    if found["state"] == "prepared":
        return 0
    print("devagent: it goes on: `devagent preparations` tells when it has ended", file=sys.stderr)
    return PARTIAL


def _body(args: argparse.Namespace) -> dict[str, Any]:
    """Gives what is asked for: of a file, or of one resource provider. Raises ConfigurationError."""
    if args.file:
        if args.provider:
            raise ConfigurationError("say what to prepare either by --file or by PROVIDER and CLASS, not by both")
        return _read(args.file)
    if not args.provider or not args.resources:
        raise ConfigurationError("say what to prepare: PROVIDER and CLASS, or --file")
    group: dict[str, Any] = {"provider": args.provider, "resources": dict(map(_resource, args.resources))}
    if args.address:
        group["address"] = args.address
    if args.property:
        group["properties"] = dict(map(_property, args.property))
    more = {"project_id": args.project, "expires_in": args.expires_in}
    return {"groups": [group], **{name: value for name, value in more.items() if value}}


def _read(name: str) -> dict[str, Any]:
    try:
        found = json.loads(sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{name}: {(error.strerror or str(error)).lower()}") from None
    except ValueError as error:
        raise ConfigurationError(f"{name}: is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigurationError(f"{name}: is no JSON object with groups")
    return found


def _resource(text: str) -> tuple[str, int]:
    name, separator, amount = text.partition("=")
    if not separator:
        return name, 1
    if not (amount.isascii() and amount.isdigit()):
        raise ConfigurationError(f"{text}: say CLASS or CLASS=AMOUNT, for example SRIOV_NET_VF=2")
    return name, int(amount)


def _property(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise ConfigurationError(f"{text}: say NAME=VALUE, for example vlan=120")
    return name, value
