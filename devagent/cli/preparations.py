# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent preparations`: whose devices are ready, on their way, or refused."""

from __future__ import annotations

import argparse
import json
import time

from devagent.cli import unprepare
from devagent.cli.client import agent, consumer_path
from devagent.cli.render import preparations
from devagent.errors import ConfigurationError


def run(args: argparse.Namespace) -> int:
    """Shows all of them, or one with its steps, or ends one. Raises ConfigurationError."""
    if (args.action == "list") == bool(args.consumer):
        raise ConfigurationError("say `preparations`, or `preparations show|abort|forget CONSUMER`")
    if (args.action == "forget") != bool(args.reason):
        raise ConfigurationError("say `preparations forget CONSUMER --reason TEXT`: --reason goes with forget alone")
    if args.action == "abort":
        return unprepare.run(args)
    client = agent(args)
    if args.action == "forget":
        found = client.post(f"{consumer_path(args.consumer)}/forget", {"reason": args.reason, "offer": args.offer})
        print(json.dumps(found, indent=2) if args.output == "json" else preparations.forgotten(found))
        return 0
    if args.consumer:
        document = client.get(consumer_path(args.consumer))
        show = preparations.detail
    else:
        document = client.get("/v1/preparations")
        show = preparations.render
    print(json.dumps(document, indent=2) if args.output == "json" else show(document, time.time()))
    return 0
