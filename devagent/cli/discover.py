# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent discover`: one look at this host or at a captured one."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from devagent.cli.look import configuration, look, policy

PARTIAL = 4


def run(args: argparse.Namespace) -> int:
    """Prints what was found; exit code 4 if something could not be read."""
    conf = configuration(args)
    seen = look(Path(args.root), policy(args, conf), conf=conf, every=args.all)
    output = args.output or ("tree" if sys.stdout.isatty() else "table")
    print(import_module(f"devagent.cli.render.{output}").render(seen))
    return PARTIAL if seen.found.problems else 0
