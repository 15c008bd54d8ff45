# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent rescan`: has the agent look at the whole host now."""

from __future__ import annotations

import argparse
import sys

from devagent.cli.client import agent
from devagent.cli.exit_code import PARTIAL
from devagent.cli.render import status
from devagent.model.amount import amount


def run(args: argparse.Namespace) -> int:
    """Asks for a look and waits for it; exit code 4 if it takes longer, or something could not be read."""
    found = agent(args).post("/v1/rescan", wait=args.wait)
    if not found["done"]:
        print("devagent: the look goes on: `devagent status` tells when it has ended", file=sys.stderr)
        return PARTIAL
    print("\n".join([amount(found["devices"], "device"), *status.problem_lines(found)]))
    return PARTIAL if found["problems"] else 0
