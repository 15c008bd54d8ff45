# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent unprepare`: makes sure that a consumer has no device of this host."""

from __future__ import annotations

import argparse
import sys
import time

from devagent.cli.client import agent, consumer_path
from devagent.cli.exit_code import PARTIAL
from devagent.cli.render import preparations


def run(args: argparse.Namespace) -> int:
    """Asks for it and waits; exit code 4 if it takes longer than that."""
    left = agent(args).delete(consumer_path(args.consumer), wait=args.wait)
    if not left:
        return 0
    print(preparations.detail(left, time.time()))
    print("devagent: it goes on: `devagent preparations` tells when it has ended", file=sys.stderr)
    return PARTIAL
