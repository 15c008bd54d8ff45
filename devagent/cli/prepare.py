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

from devagent.cause import system_words
from devagent.cli.client import agent, consumer_path, uuid
from devagent.cli.exit_code import PARTIAL
from devagent.cli.render import preparations
from devagent.errors import ConfigurationError


def run(args: argparse.Namespace) -> int:
    """Asks for it and waits; exit code 4 if it takes longer than that."""
    found = agent(args).put(consumer_path(args.consumer), _body(args), wait=args.wait)
    print(json.dumps(found, indent=2) if args.output == "json" else preparations.detail(found, time.time()))
    if found["state"] == "prepared":
        return 0
    print("devagent: it goes on: `devagent preparations` tells when it has ended", file=sys.stderr)
    return PARTIAL


def _body(args: argparse.Namespace) -> dict[str, Any]:
    """Gives what is asked for: of a file, or of one group after the other. Raises ConfigurationError."""
    if bool(args.file) == bool(args.group):
        raise ConfigurationError("say what to prepare either by --group PROVIDER:CLASS=N or by --file")
    if args.file:
        return _read(args.file)
    more = {"project_id": args.project, "expires_in": args.expires_in}
    return {"groups": list(map(_group, args.group)), **{name: value for name, value in more.items() if value}}


def _group(text: str) -> dict[str, Any]:
    """Reads PROVIDER:CLASS=N,..,name=value,..: resource classes are written in capitals, properties are not."""
    provider, _, rest = text.partition(":")
    group: dict[str, Any] = {"provider": uuid(provider, "a resource provider"), "resources": {}}
    for part in rest.split(",") if rest else ():
        name, _, value = part.partition("=")
        if not name or not value:
            raise ConfigurationError(f"--group {text}: {part!r} is neither CLASS=N nor name=value")
        if name.isupper():
            group["resources"][name] = _amount(text, value)
        elif name == "address":
            group["address"] = value
        else:
            group.setdefault("properties", {})[name] = value
    if not group["resources"]:
        raise ConfigurationError(f"--group {text}: say what of it, for example {provider}:SRIOV_NET_VF=2,vlan=120")
    return group


def _amount(text: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and int(value)):
        raise ConfigurationError(f"--group {text}: {value!r} is no amount")
    return int(value)


def _read(name: str) -> dict[str, Any]:
    try:
        found = json.loads(sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{name}: {system_words(error)}") from None
    except ValueError as error:
        raise ConfigurationError(f"{name}: is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigurationError(f"{name}: is no JSON object with groups")
    return found
