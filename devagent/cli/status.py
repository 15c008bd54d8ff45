# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent status`: how the agent of this host is, and what wants an operator's eye."""

from __future__ import annotations

import argparse
import json
import time

from devagent.cli.client import agent
from devagent.cli.exit_code import PARTIAL
from devagent.cli.render import status


def run(args: argparse.Namespace) -> int:
    """Prints what the agent says of itself; exit code 4 unless it runs and nothing is amiss."""
    document = agent(args).get("/v1/status")
    print(json.dumps(document, indent=2) if args.output == "json" else status.render(document, time.time()))
    return 0 if document["state"] == "running" and not status.amiss(document, time.time()) else PARTIAL
